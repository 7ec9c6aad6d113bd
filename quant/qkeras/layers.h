#pragma once
// Quantizers on the layers of a network: QConv2D, QDense, QDepthwiseConv2D, QConv2DTranspose, QActivation, QAveragePooling2D,
// QGlobalAveragePooling2D, QBatchNormalization of QKeras as transforms on plain layers (svhn-qkeras.md, sections 5.2 and 5.3).

#include <memory>
#include <optional>

#include "engine/module.h"
#include "models/layers/normalization.h"
#include "ops/shaping.h"
#include "quant/qkeras/quantize.h"

namespace bitloom::quant::qkeras {

/// A quantized weight: values = codes * step (`step` undefined where there is none), scale as the source reports it.
struct QuantizedWeight {
    Tensor values, scale, step;
};

/// The quantizer of one weight or bias.
class WeightQuantizer final : public WeightTransform {
   public:
    /// `mask` (of the weight's shape; undefined: none) multiplies the quantized weight. `viewed` (rank 0: as it is) is the
    /// shape that `axes` speaks of.
    WeightQuantizer(const Quantizer& quantizer, const Settings& settings, const AxisMap& axes, const Shape& viewed = {},
                    Tensor mask = {});
    std::string_view name() const override { return "quantizer"; }
    TransformState state() override;
    bool cacheable() const override { return quantizer_.deterministic(); }
    bool replayable() const override { return quantizer_.replayable(); }
    Var apply(Context& context, Parameter& parameter, const Var& weight) override;
    Var apply_masked(Context& context, Parameter& parameter, const Var& weight, const WeightFactors& mask) override;

    TensorQuantizer& quantizer() { return quantizer_; }
    const TensorQuantizer& quantizer() const { return quantizer_; }
    /// The quantized value of a latent tensor in inference; scale and step in the shape that the axes speak of.
    QuantizedWeight quantize(const Tensor& latent) const;

   private:
    Var pass(Context& context, const Parameter& parameter, const Var& weight, const Tensor& mask, bool mask_gradient);
    TensorQuantizer quantizer_;
    Shape viewed_;
    Tensor mask_, values_;
};
/// The quantizer of a parameter; null where it has none.
std::shared_ptr<WeightQuantizer> quantizer_of(const Parameter& parameter);

/// Takes the place of an activation, or sits on a layer's output. A quantized_relu behind a batch norm runs in the norm's pass.
class ActivationQuantizer final : public layers::NormActivation {
   public:
    ActivationQuantizer(const Quantizer& quantizer, const Settings& settings) : quantizer_(quantizer, settings) {}
    std::string_view name() const override { return "quantizer"; }
    bool replayable() const override { return quantizer_.replayable(); }
    Var apply(Context& context, Module& site, const Var& x) override;
    bool fuses(const Context& context, const Var& x) const override;
    Var normalize(Context& context, const Var& x, const Var& gamma, const Var& beta, const Var& residual, double epsilon,
                  Tensor& mean, Tensor& variance) override;

    TensorQuantizer& quantizer() { return quantizer_; }
    const TensorQuantizer& quantizer() const { return quantizer_; }

   private:
    TensorQuantizer quantizer_;
};
/// The quantizer in an activation's place, or on the layer's output; null where there is none.
std::shared_ptr<ActivationQuantizer> activation_quantizer_of(const Module& module);

/// compute(x); of bf16 activations, in f32, and the result is rounded to bf16: for layers that mix activations with statistics
/// and quantized parameters, which are f32.
template <class F>
Var in_full_precision(const Var& x, F&& compute) {
    if (x.dtype() != DType::bf16) return compute(x);
    return ops::cast(compute(ops::cast(x, DType::f32)), DType::bf16);
}

/// What a convolution or dense layer gets. The kernel's alpha, where it was left open, becomes 'auto_po2'.
struct LayerQuantizers {
    std::optional<Quantizer> kernel{}, bias{};
    std::optional<Quantizer> activation{};  ///< on the output
    Tensor mask{};  ///< [kernel height, kernel width], multiplies the (quantized) kernel; undefined: none
};
/// Conv2d, DepthwiseConv2d, ConvTranspose2d, Dense. After every step, quantized weights and biases are clipped to
/// max(1, the quantizer's maximum). Throws UsageError for another layer.
void quantize_layer(Module& layer, const LayerQuantizers& quantizers, const Settings& settings);

/// Puts a quantizer in the place of an activation module.
void quantize_activation(Module& activation, const Quantizer& quantizer, const Settings& settings);

/// average_pool(x area) Q(1 / area), area = window height * width also at borders; global: sum over the map times
/// Q(1 / (height width)); then the activation. Without an average quantizer the pooling is the plain one. Throws
/// UsageError where the layer is no average pooling.
void quantize_pooling(Module& pooling, const std::optional<Quantizer>& average, const std::optional<Quantizer>& activation,
                      const Settings& settings);

struct BatchNormQuantizers {
    std::optional<Quantizer> gamma{}, beta{}, mean{}, variance{}, inverse{};
    /// gamma quantized_relu_po2(6,2048), beta and mean quantized_po2(5), variance quantized_relu_po2(6) with even exponents.
    static BatchNormQuantizers defaults();
};
/// inv = Qg(gamma) / sqrt(Qv(variance) + epsilon), optionally through the inverse quantizer; y = x inv + (Qb(beta) - Qm(mean)
/// inv). In training the batch's moments are quantized for the output, and enter the moving averages as they are. Throws
/// UsageError where an inverse quantizer stands beside one of gamma or variance.
void quantize_batch_norm(layers::BatchNorm& bn, const BatchNormQuantizers& quantizers, const Settings& settings);
/// Those of a batch norm; null where it has none.
const BatchNormQuantizers* batch_norm_quantizers_of(const Module& module);

/// Adapts freshly drawn weights to their quantizer, as the source's wrapped initialisers do: where the quantizer's finest
/// step exceeds the standard deviation of the draw, values grow by the root of max(1, sum q^2 / sum q x); all are clipped to
/// the quantizer's maximum. Weights without a quantizer, and quantizers with automatic alpha, are left alone.
void adapt_initial_values(Module& network);

}  // namespace bitloom::quant::qkeras
