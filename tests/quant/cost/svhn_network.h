#pragma once
// The SVHN network with the number types of the bit-width scan, for tests of costs.

#include "models/registry.h"
#include "quant/cost/network.h"

namespace bitloom::cost {

/// bits 0: float. 1: binary kernels, 2: ternary ones, else quantized_bits(bits, 0); activations quantized_relu(bits, 0).
inline CostNetwork svhn_network(int bits) {
    const auto network = make_model({.name = "svhn_cnn"});
    return describe_network(*network, {32, 32, 3}, "output_softmax",
                            [bits](const Module& layer, const std::string&) {
                                LayerTypes types;
                                if (bits == 0) return types;
                                if (layer.type() == "Conv2d" || layer.type() == "Dense") {
                                    types.kernel = bits == 1   ? binary_type()
                                                   : bits == 2 ? ternary_type()
                                                               : fixed_type(bits, 0);
                                    types.bias = types.kernel;
                                }
                                if (layer.type() == "ReLU") types.activation = fixed_type(bits, 0, false);
                                return types;
                            });
}

}  // namespace bitloom::cost
