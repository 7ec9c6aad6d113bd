#include "models/layers/dense.h"

#include "ops/dense.h"
#include "ops/shaping.h"

namespace bitloom::layers {

Dense::Dense(const DenseConfig& config) : Layer(LayerType::dense), config_(config) {
    require(config.in > 0 && config.out > 0, "Dense: needs positive widths, got ", config.in, " and ", config.out);
    require(config.flattened_from.rank() == 0 || config.flattened_from.numel() == config.in, "Dense: ", config.in,
            " inputs cannot come from a map ", config.flattened_from);
    weight.value = Tensor::zeros({config.out, config.in});
    if (config.bias) bias.value = Tensor::zeros({config.out});
    register_parameter("weight", weight);
    register_parameter("bias", bias);
}

void Dense::initialize(std::uint64_t seed) {
    const Fans fans{config_.in, config_.out};
    bitloom::initialize(weight, config_.weight_init, fans, seed);
    if (config_.bias) bitloom::initialize(bias, config_.bias_init, fans, seed);
}

void Dense::add_bias() {
    if (config_.bias) return;
    config_.bias = true;
    bias.value = Tensor::zeros({config_.out}, weight.value.dtype(), weight.value.device());
    bias.path = path().empty() ? "bias" : path() + ".bias";
    register_parameter("bias", bias);
}

Var Dense::forward(Context& context, std::span<const Var> inputs) {
    const Var x = config_.logits ? ops::cast(only(inputs), parameter_dtype(only(inputs).dtype())) : only(inputs);
    return ops::dense(x, weight.effective(context), config_.bias ? bias.effective(context) : Var());
}

}  // namespace bitloom::layers
