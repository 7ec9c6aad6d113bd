#pragma once
// Quantization-aware training with QKeras quantizers, as a scheme.

#include "quant/scheme.h"

namespace bitloom::quant::qkeras {

SchemeEntry scheme_entry();

}  // namespace bitloom::quant::qkeras
