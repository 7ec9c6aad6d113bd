#pragma once
// Batch normalisation with moving averages, and the pass that fuses it with the addition and ReLU behind it.

#include "engine/parameter.h"
#include "models/layers/layer.h"
#include "models/layers/shaping.h"

namespace bitloom::layers {

/// Which variance of the batch enters the moving average; the batch itself is always normalised by the biased one.
enum class MovingVariance {
    unbiased,     ///< N / (N - 1) times the biased one (PyTorch)
    keras_fused,  ///< unbiased for 4-D inputs, biased for 2-D ones (TensorFlow's fused kernel and its plain one)
    biased
};

struct BatchNormConfig {
    std::int64_t channels = 0;
    double epsilon = 1e-5;
    double momentum =
        0.1;  ///< of the new value: moving = (1 - momentum) moving + momentum batch (Keras writes 1 - momentum)
    MovingVariance moving_variance = MovingVariance::unbiased;
};
/// The settings of the networks that came from PyTorch (epsilon 1e-5, 0.1, unbiased) and Keras (1e-3, 0.01, fused).
BatchNormConfig pytorch_batch_norm(std::int64_t channels);
BatchNormConfig keras_batch_norm(std::int64_t channels);

/// An activation transform that the batch norm in front of it can run in its own pass.
class NormActivation : public ActivationTransform {
   public:
    /// True where `normalize` stands for the normalisation and `apply` in a pass on activations like x.
    virtual bool fuses(const Context& context, const Var& x) const = 0;
    /// activation(gamma (x - mean) / sqrt(variance + epsilon) + beta [+ residual]); `residual` may be undefined. In
    /// training the moments are the batch's, which `mean` and `variance` receive; else they are given.
    virtual Var normalize(Context& context, const Var& x, const Var& gamma, const Var& beta, const Var& residual,
                          double epsilon, Tensor& mean, Tensor& variance) = 0;
};

/// Over all axes but the last.
class BatchNorm final : public Layer {
   public:
    explicit BatchNorm(const BatchNormConfig& config);
    const BatchNormConfig& config() const { return config_; }
    /// gamma 1, beta 0, moving mean 0, moving variance 1, counter 0.
    void initialize(std::uint64_t seed) override;
    /// Folds a batch's moments (variance biased) into the moving averages; x_shape says how many values a channel had.
    void update_moving_averages(const Tensor& mean, const Tensor& variance, const Shape& x_shape);

    Parameter weight;            ///< gamma [channels]
    Parameter bias;              ///< beta [channels]
    Tensor running_mean;         ///< [channels]
    Tensor running_var;          ///< [channels]
    Tensor num_batches_tracked;  ///< i32 [1]

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    friend Var norm_act(Context&, BatchNorm&, Add*, Module*, const Var&, const Var*);
    Var normalize(Context& context, const Var& x, const Var& residual, bool relu, NormActivation* fused = nullptr);
    BatchNormConfig config_;
};

/// activation(bn(x) [+ residual]) in one pass where nothing looks on or steps in: no observer, no hook on the modules,
/// and an activation that is null, a ReLU, or replaced by a NormActivation that fuses. Otherwise the modules run one by one, so that graphs and transforms see
/// each. `add` runs the addition and is needed with a residual; both paths give equal results.
Var norm_act(Context& context, BatchNorm& bn, Add* add, Module* activation, const Var& x, const Var* residual);
inline Var norm_act(Context& context, BatchNorm& bn, Module* activation, const Var& x) {
    return norm_act(context, bn, nullptr, activation, x, nullptr);
}

}  // namespace bitloom::layers
