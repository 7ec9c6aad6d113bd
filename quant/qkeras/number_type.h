#pragma once
// What numbers a quantizer's values are, as QTools sees them (svhn-qkeras.md, section 5.9).

#include "quant/cost/data_type.h"
#include "quant/qkeras/quantizer.h"

namespace bitloom::quant::qkeras {

/// quantized_bits, _linear, _tanh, _ulaw and quantized_relu are fixed-point (quantized_relu(1,1) is binary 0/1), quantized_po2
/// and quantized_relu_po2 powers of two, ternary and binary families what they are called.
cost::DataType number_type(const Quantizer& q);

}  // namespace bitloom::quant::qkeras
