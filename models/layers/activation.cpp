#include "models/layers/activation.h"

#include <utility>

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

namespace {

template <class T>
std::unique_ptr<Module> make() {
    return std::make_unique<T>();
}

constexpr std::pair<const char*, std::unique_ptr<Module> (*)()> activations[] = {
    {"relu", make<ReLU>},       {"relu6", make<ReLU6>}, {"leaky_relu", make<LeakyReLU>}, {"sigmoid", make<Sigmoid>},
    {"tanh", make<Tanh>},       {"swish", make<Swish>}, {"softmax", make<Softmax>}};

}  // namespace

std::vector<std::string> activation_names() {
    std::vector<std::string> names;
    for (const auto& [name, maker] : activations) names.emplace_back(name);
    return names;
}

std::unique_ptr<Module> make_activation(const std::string& name) {
    std::string known;
    for (const auto& [candidate, maker] : activations) {
        if (name == candidate) return maker();
        known += cat(known.empty() ? "" : ", ", candidate);
    }
    throw UsageError(cat("unknown activation '", name, "' (", known, ")"));
}

}  // namespace bitloom::layers
