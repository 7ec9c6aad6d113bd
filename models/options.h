#pragma once
// What a network is built from; saved in checkpoints as JSON, so that a file rebuilds its model.

#include <cstdint>
#include <string>
#include <vector>

#include "engine/shape.h"

namespace bitloom {

/// Options that a network does not know stay empty. `resolve` (models/registry.h) puts the network's defaults in place
/// of what was left open.
struct ModelOptions {
    std::string name = "svhn_cnn";
    Shape input{};             ///< [H, W, C]; rank 0: the network's own default
    std::int64_t classes = 0;  ///< 0: the network's own default
    /// ResNets: "A" or "B" (the shortcut). tuned_cnn: "max", "avg" or "flatten" behind the convolutions; "-separable"
    /// behind it makes these separable.
    std::string variant{};
    std::string activation{};  ///< svhn_cnn, svhn_cnn_128: a name of layers::make_activation
    /// svhn_cnn: of the moving averages, "keras_fused", "biased" or "unbiased".
    std::string moving_variance{};
    // svhn_cnn, tuned_cnn (without strides): one value a convolution; dense_units one value a hidden dense layer.
    std::vector<std::int64_t> filters{}, kernels{}, strides{}, pooling{}, dense_units{};
    /// tuned_cnn: one rate, behind each hidden dense layer; svhn_cnn_128: one a convolution.
    std::vector<double> dropout{};
};

}  // namespace bitloom
