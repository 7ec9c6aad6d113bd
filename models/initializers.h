#pragma once
// Initial values of weights, by the names of the frameworks that the experiments used.

#include <cstdint>
#include <string_view>

#include "engine/module.h"

namespace bitloom {

enum class Initializer {
    zeros,
    ones,
    lecun_uniform,          ///< U(-a, a), a = sqrt(3 / fan_in) (Keras)
    glorot_uniform,         ///< a = sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010)
    he_uniform,             ///< a = sqrt(6 / fan_in) (Keras)
    fan_in_uniform,         ///< a = 1 / sqrt(fan_in): PyTorch's default of convolutions and linear layers, biases too
    kaiming_normal_fan_in,  ///< N(0, 2 / fan_in) (He et al., 2015)
    kaiming_normal_fan_out  ///< N(0, 2 / fan_out); for a k x k convolution the variance 2 / (k k out) of BSQ and ResNet
};

/// Connections into an output and out of an input: kernel_h kernel_w in / groups, kernel_h kernel_w out.
struct Fans {
    std::int64_t in = 1, out = 1;
};

/// Fills the parameter from the stream "init/<parameter path>": values do not depend on the order of construction.
/// Throws Error where Module::assign_paths has not named the parameter.
void initialize(Parameter& parameter, Initializer initializer, Fans fans, std::uint64_t seed);

/// Initial values of every layer below `network`, and of their buffers. Needs assign_paths to have been called.
void initialize(Module& network, std::uint64_t seed);

}  // namespace bitloom
