#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/layers/shaping.h"
#include "models/small_networks.h"

namespace bitloom {

using namespace layers;

std::unique_ptr<Module> make_lenet5(const ModelOptions& o) {
    const std::int64_t h = (o.input[0] / 2 - 4) / 2, w = (o.input[1] / 2 - 4) / 2;
    if (h < 1 || w < 1) throw UsageError(cat("lenet5: an image of ", o.input[0], "x", o.input[1], " is too small"));
    auto network = std::make_unique<Sequential>();
    network->append<Conv2d>(
        "conv1", Conv2dConfig{.in = o.input[2], .out = 6, .kernel = 5, .padding = PaddingRule::symmetric(2)});
    network->append<ReLU>("relu1");
    network->append<MaxPool2d>("pool1");
    network->append<Conv2d>("conv2", Conv2dConfig{.in = 6, .out = 16, .kernel = 5, .padding = PaddingRule::valid()});
    network->append<ReLU>("relu2");
    network->append<MaxPool2d>("pool2");
    network->append<Flatten>("flatten");
    network->append<Dense>("fc1", DenseConfig{.in = h * w * 16, .out = 120, .flattened_from = {h, w, 16}});
    network->append<ReLU>("relu3");
    network->append<Dense>("fc2", DenseConfig{.in = 120, .out = 84});
    network->append<ReLU>("relu4");
    network->append<Dense>("fc3", DenseConfig{.in = 84, .out = o.classes, .logits = true});
    return network;
}

}  // namespace bitloom
