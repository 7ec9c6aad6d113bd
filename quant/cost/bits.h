#pragma once
// Size of a model in bits, as AutoQKeras' ForgivingFactorBits counts it (svhn-qkeras.md, section 5.10).

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "quant/cost/network.h"

namespace bitloom::cost {

/// Which parts of the layers of a class count.
struct CountedParts {
    bool parameters = false, activations = false;
};

struct BitsOptions {
    int input_bits = 8;
    int output_bits = 8;     ///< of softmax and sigmoid outputs
    int reference_bits = 8;  ///< of what is not quantized
    /// By Keras class ("QConv2D", "BatchNormalization", ...); "default" for all others, the input among them.
    std::map<std::string, CountedParts> parts = published_parts();

    /// Convolutions and dense layers: both; activations, and all that is not named: activations; batch norm: parameters.
    static std::map<std::string, CountedParts> published_parts();
};

struct LayerBits {
    std::string name;
    std::int64_t parameters = 0, activations = 0;
};

struct ModelBits {
    std::vector<LayerBits> layers;  ///< the input first, as input_1
    std::int64_t parameters = 0, activations = 0;
    std::int64_t total() const { return parameters + activations; }
};

/// Parameters: kernels and biases at their quantizers' bits; batch norm a scale and a centre a channel, at the bits of
/// gamma and beta (6 and 5 where a quantized one does not say). Activations: the input; an activation layer, or an
/// activation within another layer, at its quantizer's bits an output element; linear ones nothing.
ModelBits model_bits(const CostNetwork& network, const BitsOptions& options = {});

/// The Keras class that a layer would have, with a Q in front where it is quantized.
std::string keras_class(const CostLayer& layer);

}  // namespace bitloom::cost
