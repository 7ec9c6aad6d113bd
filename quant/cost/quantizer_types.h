#pragma once
// Number types of QKeras' quantizers (svhn-qkeras.md, section 5.9).

#include <string_view>

#include "quant/cost/data_type.h"
#include "quant/qkeras/quantizer.h"

namespace bitloom::cost {

/// quantized_bits, _linear, _tanh, _sigmoid, _ulaw, _hswish and _relu are fixed, but for quantized_relu(1,1), which is binary
/// 0/1; po2 ones powers of two; the rest by name.
DataType type_of(const quant::qkeras::Quantizer& quantizer);
/// Of a quantizer as text. Throws UsageError as quant::qkeras::parse_quantizer does.
DataType type_of_text(std::string_view quantizer);

}  // namespace bitloom::cost
