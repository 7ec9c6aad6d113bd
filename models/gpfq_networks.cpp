// The networks of gpfq-lumping.md, section 4, in Keras' conventions: activation before batch normalisation, biases from
// 0.

#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/layers/shaping.h"
#include "models/small_networks.h"

namespace bitloom {

using namespace layers;

namespace {
std::string numbered(const std::string& base, int index) { return index == 0 ? base : cat(base, "_", index); }
}  // namespace

std::unique_ptr<Module> make_mnist_mlp(const ModelOptions& o) {
    auto network = std::make_unique<Sequential>();
    network->append<Flatten>("flatten");
    std::int64_t width = o.input.numel();
    Shape map = o.input;
    int index = 0;
    const auto dense = [&](std::int64_t units, bool logits) {
        network->append<Dense>(numbered("dense", index), DenseConfig{.in = width,
                                                                     .out = units,
                                                                     .weight_init = Initializer::glorot_uniform,
                                                                     .bias_init = Initializer::zeros,
                                                                     .flattened_from = map,
                                                                     .logits = logits});
        width = units;
        map = Shape();
    };
    for (const std::int64_t units : {500, 300}) {
        dense(units, false);
        network->append<ReLU>(numbered("dense", index) + "_relu");
        network->append<BatchNorm>(numbered("batch_normalization", index), keras_batch_norm(units));
        ++index;
    }
    dense(o.classes, true);
    return network;
}

std::unique_ptr<Module> make_gpfq_cnn(const ModelOptions& o) {
    std::int64_t h = o.input[0], w = o.input[1], channels = o.input[2];
    if (h < 8 || w < 8)
        throw UsageError(cat("gpfq_cnn: an image of ", h, "x", w, " is too small; three poolings need 8x8"));
    auto network = std::make_unique<Sequential>();
    int normalizations = 0, convolutions = 0;
    const auto relu_and_norm = [&](const std::string& name, std::int64_t width) {
        network->append<ReLU>(name + "_relu");
        network->append<BatchNorm>(numbered("batch_normalization", normalizations++), keras_batch_norm(width));
    };
    const double rates[] = {0.2, 0.3, 0.4};
    for (int stage = 0; stage < 3; ++stage) {
        const std::int64_t width = std::int64_t{32} << stage;
        for (int i = 0; i < 2; ++i) {
            const std::string name = numbered("conv2d", convolutions++);
            network->append<Conv2d>(name, Conv2dConfig{.in = channels,
                                                       .out = width,
                                                       .padding = PaddingRule::same(),
                                                       .weight_init = Initializer::he_uniform,
                                                       .bias_init = Initializer::zeros});
            channels = width;
            relu_and_norm(name, width);
        }
        network->append<MaxPool2d>(numbered("max_pooling2d", stage));
        h /= 2, w /= 2;
        network->append<Dropout>(numbered("dropout", stage), rates[stage]);
    }
    network->append<Flatten>("flatten");
    network->append<Dense>("dense", DenseConfig{.in = h * w * channels,
                                                .out = 128,
                                                .weight_init = Initializer::he_uniform,
                                                .bias_init = Initializer::zeros,
                                                .flattened_from = {h, w, channels}});
    relu_and_norm("dense", 128);
    network->append<Dropout>("dropout_3", 0.5);
    network->append<Dense>("dense_1", DenseConfig{.in = 128,
                                                  .out = o.classes,
                                                  .weight_init = Initializer::glorot_uniform,
                                                  .bias_init = Initializer::zeros,
                                                  .logits = true});
    return network;
}

}  // namespace bitloom
