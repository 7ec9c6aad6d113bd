#include "models/layers/activation.h"

#include "ops/loss.h"
#include "ops/pointwise.h"

namespace bitloom::layers {

Var ReLU::forward(Context&, std::span<const Var> inputs) { return ops::relu(only(inputs)); }
Var ReLU6::forward(Context&, std::span<const Var> inputs) { return ops::relu6(only(inputs)); }
Var LeakyReLU::forward(Context&, std::span<const Var> inputs) { return ops::leaky_relu(only(inputs), slope_); }
Var Sigmoid::forward(Context&, std::span<const Var> inputs) { return ops::sigmoid(only(inputs)); }
Var Tanh::forward(Context&, std::span<const Var> inputs) { return ops::tanh(only(inputs)); }
Var Swish::forward(Context&, std::span<const Var> inputs) { return ops::swish(only(inputs)); }
Var Softmax::forward(Context&, std::span<const Var> inputs) { return ops::softmax(only(inputs)); }

std::unique_ptr<Module> make_activation(const std::string& name) {
    if (name == "relu") return std::make_unique<ReLU>();
    if (name == "relu6") return std::make_unique<ReLU6>();
    if (name == "leaky_relu") return std::make_unique<LeakyReLU>();
    if (name == "sigmoid") return std::make_unique<Sigmoid>();
    if (name == "tanh") return std::make_unique<Tanh>();
    if (name == "swish") return std::make_unique<Swish>();
    if (name == "softmax") return std::make_unique<Softmax>();
    throw UsageError(cat("unknown activation '", name, "' (relu, relu6, leaky_relu, sigmoid, tanh, swish, softmax)"));
}

}  // namespace bitloom::layers
