#pragma once
// Pruning as a scheme of the registry.

#include "quant/scheme.h"

namespace bitloom::quant::pruning {

/// "pruning": the options of parse_pruning_options (quant/pruning/pruner.h).
SchemeEntry scheme_entry();

}  // namespace bitloom::quant::pruning
