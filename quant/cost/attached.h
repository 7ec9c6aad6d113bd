#pragma once
// Costs of a network with the quantizers that are attached to it.

#include <string_view>

#include "engine/module.h"
#include "quant/cost/network.h"

namespace bitloom::cost {

/// Number type of a quantizer as text. Throws UsageError as quant::qkeras::parse_quantizer does.
DataType type_of_text(std::string_view quantizer);

/// Types of the QKeras quantizers on a layer; with trained weights also how many distinct values its kernel has, by which
/// shifters are costed. Scales of auto_po2 kernels come from the weights in any case.
LayerTypes attached_types(const Module& layer, bool trained_weights = false);

/// describe_network with attached_types.
CostNetwork describe_attached(Module& network, const Shape& input, bool trained_weights = false);

}  // namespace bitloom::cost
