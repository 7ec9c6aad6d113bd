#include "models/layers/normalization.h"

#include "engine/training_kernels.h"
#include "models/layers/activation.h"
#include "ops/normalization.h"

namespace bitloom::layers {

namespace {
/// moving = (1 - fraction) moving + fraction batch
void blend(Tensor& moving, const Tensor& batch, double old_factor, double batch_factor) {
    dispatch_float(moving.dtype(), "batch norm: moving average", [&](auto zero) {
        using T = decltype(zero);
        const T* source = batch.read<T>();
        T* target = moving.write<T>();
        for (std::int64_t i = 0; i < moving.numel(); ++i)
            target[i] = static_cast<T>(old_factor * target[i] + batch_factor * source[i]);
    });
}
}  // namespace

BatchNormConfig pytorch_batch_norm(std::int64_t channels) { return {channels, 1e-5, 0.1, MovingVariance::unbiased}; }
BatchNormConfig keras_batch_norm(std::int64_t channels) { return {channels, 1e-3, 0.01, MovingVariance::keras_fused}; }

BatchNorm::BatchNorm(const BatchNormConfig& config) : Layer(LayerType::batch_norm), config_(config) {
    require(config.channels > 0, "BatchNorm: needs a positive number of channels, got ", config.channels);
    require(config.epsilon > 0, "BatchNorm: epsilon ", config.epsilon, " is not positive");
    require(config.momentum >= 0 && config.momentum <= 1, "BatchNorm: momentum ", config.momentum, " is not in [0, 1]");
    const Shape shape{config.channels};
    weight.value = Tensor::full(shape, 1);
    bias.value = Tensor::zeros(shape);
    running_mean = Tensor::zeros(shape);
    running_var = Tensor::full(shape, 1);
    num_batches_tracked = Tensor::zeros({1}, DType::i32);
    register_parameter("weight", weight);
    register_parameter("bias", bias);
    register_buffer("running_mean", running_mean);
    register_buffer("running_var", running_var);
    register_buffer("num_batches_tracked", num_batches_tracked);
}

void BatchNorm::initialize(std::uint64_t) {
    weight.value.fill(1);
    bias.value.fill(0);
    running_mean.fill(0);
    running_var.fill(1);
    num_batches_tracked.fill(0);
}

void BatchNorm::update_moving_averages(const Tensor& mean, const Tensor& variance, const Shape& x_shape) {
    const double f = config_.momentum;
    const std::int64_t n = x_shape.numel() / config_.channels;
    const bool unbiased = config_.moving_variance == MovingVariance::unbiased ||
                          (config_.moving_variance == MovingVariance::keras_fused && x_shape.rank() == 4);
    const double correction = unbiased && n > 1 ? static_cast<double>(n) / static_cast<double>(n - 1) : 1.0;
    if (const TrainingKernels* kernels = training_kernels(running_mean.device())) {
        kernels->update_moments(mean, variance, f, correction, running_mean, running_var, num_batches_tracked);
        return;
    }
    blend(running_mean, mean, 1 - f, f);
    blend(running_var, variance, 1 - f, f * correction);
    ++*num_batches_tracked.write<std::int32_t>();
}

Var BatchNorm::normalize(Context& context, const Var& x, const Var& residual, bool relu, NormActivation* fused) {
    const ops::NormEpilogue epilogue = relu ? ops::NormEpilogue::relu : ops::NormEpilogue::none;
    const Var gamma = weight.effective(context), beta = bias.effective(context);
    if (!context.training) {
        if (fused) return fused->normalize(context, x, gamma, beta, residual, config_.epsilon, running_mean, running_var);
        return ops::batch_norm_inference(x, gamma, beta, residual, running_mean, running_var, config_.epsilon,
                                         epilogue);
    }
    Tensor mean, variance;
    Var y = fused ? fused->normalize(context, x, gamma, beta, residual, config_.epsilon, mean, variance)
                  : ops::batch_norm_training(x, gamma, beta, residual, config_.epsilon, epilogue, mean, variance);
    update_moving_averages(mean, variance, x.shape());
    return y;
}

Var BatchNorm::forward(Context& context, std::span<const Var> inputs) {
    return normalize(context, only(inputs), Var(), false);
}

Var norm_act(Context& context, BatchNorm& bn, Add* add, Module* activation, const Var& x, const Var* residual) {
    require(!residual || add, bn.path(), ": norm_act with a residual needs the module that adds");
    NormActivation* fused = nullptr;
    if (activation && !activation->layer_transform && !activation->output_transform) {
        fused = dynamic_cast<NormActivation*>(activation->activation_transform.get());
        if (fused && !fused->fuses(context, x)) fused = nullptr;
    }
    const bool hooked = bn.has_hooks() || (residual && add->has_hooks()) || (activation && !fused && activation->has_hooks());
    const bool relu = dynamic_cast<ReLU*>(activation) != nullptr;
    if (!context.observer && !hooked && (!activation || relu || fused))
        return bn.normalize(context, x, residual ? *residual : Var(), relu && !fused, fused);
    Var y = bn(context, x);
    if (residual) y = (*add)(context, {y, *residual});
    return activation ? (*activation)(context, y) : y;
}

}  // namespace bitloom::layers
