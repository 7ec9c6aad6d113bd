#include "quant/qkeras/layers.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/pooling.h"
#include "ops/kernels.h"
#include "ops/pointwise.h"
#include "ops/pooling.h"
#include "ops/reduction.h"
#include "ops/shaping.h"
#include "quant/kernels.h"

namespace bitloom::quant::qkeras {

namespace {

/// What a pass of a layer's quantizer needs; the stream is named only where numbers are drawn.
Pass pass_of(const Context& context, const TensorQuantizer& quantizer, const std::string& path) {
    Pass pass;
    pass.training = context.training;
    if (uses_draws(quantizer.quantizer(), pass.training)) {
        pass.stream = stream(context.seed, "quantizer/" + path, context.step);
        if (context.device_step) pass.stream = {pass.stream.key, 0, context.device_step};
    }
    return pass;
}

Var reshaped(const Var& x, const Shape& shape) { return ops::reshape(x, shape.extents()); }

}  // namespace

WeightQuantizer::WeightQuantizer(const Quantizer& quantizer, const Settings& settings, const AxisMap& axes,
                                 const Shape& viewed, Tensor mask)
    : quantizer_(quantizer, settings, axes), viewed_(viewed), mask_(std::move(mask)) {}

TransformState WeightQuantizer::state() {
    TransformState state;
    if (mask_.defined()) state.buffers.emplace_back("mask", &mask_);
    return state;
}

Var WeightQuantizer::pass(Context& context, const Parameter& parameter, const Var& weight, const Tensor& mask,
                          bool mask_gradient) {
    Pass pass = pass_of(context, quantizer_, parameter.path);
    pass.storage = &values_;
    pass.mask_gradient = mask_gradient;
    if (viewed_.rank() == 0) {
        pass.mask = mask;
        return quantizer_(weight, pass);
    }
    if (mask.defined()) pass.mask = mask.reshape(viewed_);
    return reshaped(quantizer_(reshaped(weight, viewed_), pass), weight.shape());
}

Var WeightQuantizer::apply(Context& context, Parameter& parameter, const Var& weight) {
    return pass(context, parameter, weight, mask_, true);
}

Var WeightQuantizer::apply_masked(Context& context, Parameter& parameter, const Var& weight, const WeightFactors& mask) {
    if (mask_.defined()) return {};  // the pass takes one mask
    return pass(context, parameter, weight, mask.values, mask.on_gradient);
}

QuantizedWeight WeightQuantizer::quantize(const Tensor& latent) const {
    Tape tape(Tape::Mode::inference);
    const bool turned = viewed_.rank() > 0;
    Pass pass;
    if (mask_.defined()) pass.mask = turned ? mask_.reshape(viewed_) : mask_;
    const Quantized result = quantizer_.quantize(tape.constant(turned ? latent.reshape(viewed_) : latent), pass);
    return {turned ? result.values.value().reshape(latent.shape()) : result.values.value(), result.scale, result.step};
}

std::shared_ptr<WeightQuantizer> quantizer_of(const Parameter& parameter) {
    for (const auto& transform : parameter.transforms)
        if (auto found = std::dynamic_pointer_cast<WeightQuantizer>(transform)) return found;
    return nullptr;
}

Var ActivationQuantizer::apply(Context& context, Module& site, const Var& x) {
    return quantizer_(x, pass_of(context, quantizer_, site.path()));
}

bool ActivationQuantizer::fuses(const Context& context, const Var& x) const {
    const ElementRule* rule = quantizer_.fixed_rule(context.training);
    return rule && rule->kind == ElementKind::relu && rule->slope == 0 && !rule->cap_output && rule->noise == 1 &&
           rule->through && rule->rounding == ElementRounding::nearest && rule->count < (1 << 22) &&
           (x.dtype() == DType::f32 || x.dtype() == DType::f64 ||
            (x.dtype() == DType::bf16 && x.device().kind != DeviceKind::reference)) &&
           quant_kernels(x.device()).batch_norm_quantize != nullptr;
}

Var ActivationQuantizer::normalize(Context& context, const Var& x, const Var& gamma, const Var& beta, const Var& residual,
                                   double epsilon, Tensor& mean, Tensor& variance) {
    const ElementRule rule = *quantizer_.fixed_rule(context.training);
    const bool training = context.training;
    const std::int64_t channels = gamma.value().numel();
    require(x.shape().rank() >= 2 && x.dim(-1) == channels, "batch_norm_quantize: input ", x.shape(), " does not have ",
            channels, " channels");
    require(x.value().numel() > 0, "batch_norm_quantize: input ", x.shape(), " is empty");
    require(!residual.defined() || residual.shape() == x.shape(), "batch_norm_quantize: residual does not fit ", x.shape());
    Tensor y = Tensor::empty_like(x.value()), map = Tensor::empty({3, channels}, gamma.dtype(), gamma.device());
    if (training) {
        mean = Tensor::empty_like(gamma.value());
        variance = Tensor::empty_like(gamma.value());
    }
    const Tensor* added = residual.defined() ? &residual.value() : nullptr;
    kernel(x.device(), "batch_norm_quantize", &QuantKernels::batch_norm_quantize)(
        rule, training, x.value(), gamma.value(), beta.value(), added, epsilon, mean, variance, y, map);
    const std::array<Var, 4> inputs{x, gamma, beta, residual};
    const bool has_residual = residual.defined();
    return x.tape().record(
        "batch_norm_quantize", std::span<const Var>(inputs).first(has_residual ? 4 : 3), std::move(y),
        [rule, training, x = x.value(), gamma = gamma.value(), residual = has_residual ? residual.value() : Tensor(), mean, variance,
         map, epsilon](BackwardContext& c) {
            const bool residual_too = residual.defined() && c.needs(3);
            Tensor dx, dresidual, dgamma = Tensor::empty_like(gamma), dbeta = Tensor::empty_like(gamma);
            if (c.needs(0)) dx = Tensor::empty_like(x);
            if (residual_too) dresidual = Tensor::empty_like(x);
            kernel(x.device(), "batch_norm_quantize_backward", &QuantKernels::batch_norm_quantize_backward)(
                rule, training, c.grad(), x, residual.defined() ? &residual : nullptr, gamma, mean, variance, map, epsilon,
                dx.defined() ? &dx : nullptr, dresidual.defined() ? &dresidual : nullptr, dgamma, dbeta);
            if (dx.defined()) c.give(0, std::move(dx));
            c.give(1, std::move(dgamma));
            c.give(2, std::move(dbeta));
            if (dresidual.defined()) c.give(3, std::move(dresidual));
        });
}

std::shared_ptr<ActivationQuantizer> activation_quantizer_of(const Module& module) {
    if (auto found = std::dynamic_pointer_cast<ActivationQuantizer>(module.activation_transform)) return found;
    return std::dynamic_pointer_cast<ActivationQuantizer>(module.output_transform);
}

namespace {

/// Clips the latent value to [-bound, bound] after every step, behind a projection that stands already.
void clip_after_step(Parameter& parameter, double bound) {
    parameter.projection = [before = std::move(parameter.projection), bound](Parameter& p) {
        if (before) before(p);
        ops::op_kernels(p.value.device()).unary_forward(ops::UnaryOp::clamp, -bound, bound, p.value, p.value);
    };
}

void attach_weight(Parameter& parameter, const Quantizer& quantizer, const Settings& settings, const AxisMap& axes,
                   const Shape& viewed = {}, Tensor mask = {}) {
    if (quantizer_of(parameter))
        throw UsageError(cat(parameter.path, ": is quantized already"));
    // In front of what stands there already: a mask stays behind the quantizer, so that pruned weights stay zero.
    parameter.transforms.insert(parameter.transforms.begin(),
                                std::make_shared<WeightQuantizer>(quantizer, settings, axes, viewed, std::move(mask)));
    clip_after_step(parameter, std::max(1.0, max_value_of(quantizer)));
}

/// A [kernel height, kernel width] mask repeated over the layout of a weight [out][kh][kw][in].
Tensor repeated_mask(const Tensor& mask, const Tensor& weight, const std::string& path) {
    if (!mask.defined()) return {};
    if (mask.rank() != 2 || weight.rank() != 4 || mask.dim(0) != weight.dim(1) || mask.dim(1) != weight.dim(2))
        throw UsageError(cat(path, ": a mask of shape ", mask.shape(), " does not fit a kernel ", weight.shape()));
    const std::vector<double> m = mask.values<double>();
    std::vector<double> all(static_cast<std::size_t>(weight.numel()));
    const std::int64_t inner = weight.dim(3), cells = weight.dim(1) * weight.dim(2);
    for (std::int64_t i = 0; i < weight.numel(); ++i)
        all[static_cast<std::size_t>(i)] = m[static_cast<std::size_t>(i / inner % cells)];
    return Tensor::from(weight.shape(), all).to(weight.dtype()).to(weight.device());
}

/// Multiplies a weight by a constant mask.
class KernelMask final : public WeightTransform {
   public:
    explicit KernelMask(Tensor mask) : mask_(std::move(mask)) {}
    std::string_view name() const override { return "kernel_mask"; }
    bool replayable() const override { return true; }
    TransformState state() override { return {{}, {{"mask", &mask_}}}; }
    Var apply(Context& context, Parameter&, const Var& weight) override {
        return ops::multiply(weight, context.tape.constant(mask_));
    }

   private:
    Tensor mask_;
};

struct Kernel {
    Parameter* weight = nullptr;
    Parameter* bias = nullptr;
    AxisMap axes;
    Shape viewed;
};

Kernel kernel_of(Module& layer) {
    if (auto* depthwise = dynamic_cast<layers::DepthwiseConv2d*>(&layer)) {
        const auto& c = depthwise->config();
        return {&depthwise->weight, &depthwise->bias, depthwise_axes(), Shape{c.in, c.out / c.in, c.kernel.h, c.kernel.w}};
    }
    if (auto* convolution = dynamic_cast<layers::Conv2d*>(&layer))
        return {&convolution->weight, &convolution->bias, convolution_axes(), {}};
    if (auto* transposed = dynamic_cast<layers::ConvTranspose2d*>(&layer))
        return {&transposed->weight, &transposed->bias, transposed_convolution_axes(), {}};
    if (auto* dense = dynamic_cast<layers::Dense*>(&layer)) return {&dense->weight, &dense->bias, dense_axes(), {}};
    throw UsageError(cat(layer.path(), ": ", layer.type(), " has no kernel to quantize"));
}

}  // namespace

void quantize_layer(Module& layer, const LayerQuantizers& quantizers, const Settings& settings) {
    const Kernel k = kernel_of(layer);
    const Tensor mask = repeated_mask(quantizers.mask, k.weight->value, layer.path());
    if (quantizers.kernel)
        attach_weight(*k.weight, with_layer_defaults(*quantizers.kernel), settings, k.axes, k.viewed, mask);
    else if (mask.defined())
        k.weight->transforms.push_back(std::make_shared<KernelMask>(mask));
    if (quantizers.bias && k.bias->value.defined()) attach_weight(*k.bias, *quantizers.bias, settings, {});
    if (quantizers.activation)
        layer.output_transform = std::make_shared<ActivationQuantizer>(*quantizers.activation, settings);
}

void quantize_activation(Module& activation, const Quantizer& quantizer, const Settings& settings) {
    if (activation.activation_transform) throw UsageError(cat(activation.path(), ": is replaced already"));
    activation.activation_transform = std::make_shared<ActivationQuantizer>(quantizer, settings);
}

namespace {

class PoolingQuantizer final : public LayerTransform {
   public:
    PoolingQuantizer(const Quantizer& average, const Settings& settings) : average_(average, settings) {}
    std::string_view name() const override { return "quantizer"; }
    bool replayable() const override { return average_.replayable(); }

    Var forward(Context& context, Module& layer, std::span<const Var> inputs) override {
        require(inputs.size() == 1, layer.path(), ": takes one input");
        require(inputs[0].shape().rank() == 4, layer.path(), ": needs [batch, height, width, channels], got ",
                inputs[0].shape());
        return in_full_precision(inputs[0], [&](const Var& x) { return average(context, layer, x); });
    }

   private:
    Var average(Context& context, const Module& layer, const Var& x) const {
        if (const auto* pool = dynamic_cast<const layers::AvgPool2d*>(&layer)) {
            const auto& config = pool->config();
            const double area = static_cast<double>(config.window.h * config.window.w);
            const Var sums = ops::avg_pool2d(ops::scale(x, area), layers::pool_options(config, x.dim(1), x.dim(2)),
                                             pool->include_pad());
            return ops::multiply(sums, factor(context, layer, area, x));
        }
        const std::array<int, 2> map{1, 2};
        return ops::multiply(ops::reduce_sum(x, map), factor(context, layer, static_cast<double>(x.dim(1) * x.dim(2)), x));
    }

    /// Q(1 / area)
    Var factor(Context& context, const Module& layer, double area, const Var& x) const {
        const Var one = x.tape().constant(Tensor::full({1, 1}, 1 / area, x.dtype(), x.device()));
        const Var q = average_(one, pass_of(context, average_, layer.path()));
        return reshaped(q, Shape{1});
    }
    TensorQuantizer average_;
};

/// The plain layer, with its quantizers on gamma, beta and the moments.
class BatchNormQuantizer final : public LayerTransform {
   public:
    BatchNormQuantizer(const BatchNormQuantizers& quantizers, const Settings& settings) : described_(quantizers) {
        const auto bind = [&](const std::optional<Quantizer>& q) {
            return q ? std::optional(TensorQuantizer(*q, settings)) : std::nullopt;
        };
        gamma_ = bind(quantizers.gamma), beta_ = bind(quantizers.beta), mean_ = bind(quantizers.mean);
        variance_ = bind(quantizers.variance), inverse_ = bind(quantizers.inverse);
    }
    std::string_view name() const override { return "quantizer"; }
    bool replayable() const override {
        const auto one = [](const std::optional<TensorQuantizer>& q) { return !q || q->replayable(); };
        return one(gamma_) && one(beta_) && one(mean_) && one(variance_) && one(inverse_);
    }
    const BatchNormQuantizers& quantizers() const { return described_; }

    Var forward(Context& context, Module& layer, std::span<const Var> inputs) override {
        auto& bn = dynamic_cast<layers::BatchNorm&>(layer);
        require(inputs.size() == 1, layer.path(), ": takes one input");
        return in_full_precision(inputs[0], [&](const Var& x) { return normalize(context, bn, x); });
    }

   private:
    Var normalize(Context& context, layers::BatchNorm& bn, const Var& x) const {
        const auto apply = [&](const std::optional<TensorQuantizer>& q, const Var& v, const char* part) {
            return q ? (*q)(v, pass_of(context, *q, bn.path() + "/" + part)) : v;
        };
        Var mean, variance;
        if (context.training) {
            std::array<int, Shape::max_rank> axes{};
            const int outer = x.shape().rank() - 1;
            for (int i = 0; i < outer; ++i) axes[static_cast<std::size_t>(i)] = i;
            const std::span<const int> all(axes.data(), static_cast<std::size_t>(outer));
            mean = ops::reduce_mean(x, all);
            variance = ops::reduce_mean(ops::square(ops::subtract(x, mean)), all);
            // As of a matrix: the source's class never takes TensorFlow's fused kernel, which makes the variance of maps unbiased.
            const std::int64_t channels = x.dim(-1);
            bn.update_moving_averages(mean.value(), variance.value(), {x.value().numel() / channels, channels});
        } else {
            mean = x.tape().constant(bn.running_mean);
            variance = x.tape().constant(bn.running_var);
        }
        const Var gamma = apply(gamma_, bn.weight.effective(context), "gamma");
        const Var beta = apply(beta_, bn.bias.effective(context), "beta");
        const Var spread = ops::sqrt(ops::scale(apply(variance_, variance, "variance"), 1, bn.config().epsilon));
        const Var inverse = apply(inverse_, ops::divide(gamma, spread), "inverse");
        const Var offset = ops::subtract(beta, ops::multiply(apply(mean_, mean, "mean"), inverse));
        return ops::add(ops::multiply(x, inverse), offset);
    }

    BatchNormQuantizers described_;
    std::optional<TensorQuantizer> gamma_, beta_, mean_, variance_, inverse_;
};

}  // namespace

void quantize_pooling(Module& pooling, const std::optional<Quantizer>& average, const std::optional<Quantizer>& activation,
                      const Settings& settings) {
    if (!dynamic_cast<layers::AvgPool2d*>(&pooling) && !dynamic_cast<layers::GlobalAvgPool2d*>(&pooling))
        throw UsageError(cat(pooling.path(), ": ", pooling.type(), " is no average pooling"));
    if (average) pooling.layer_transform = std::make_shared<PoolingQuantizer>(*average, settings);
    if (activation) pooling.output_transform = std::make_shared<ActivationQuantizer>(*activation, settings);
}

BatchNormQuantizers BatchNormQuantizers::defaults() {
    BatchNormQuantizers q;
    Quantizer signed_power = make_quantizer(QuantizerKind::quantized_po2);
    signed_power.bits = 5;
    Quantizer gamma = make_quantizer(QuantizerKind::quantized_relu_po2);
    gamma.bits = 6;
    Quantizer variance = gamma;
    gamma.max_value = 2048;
    variance.quadratic_approximation = true;
    q.gamma = gamma, q.variance = variance, q.beta = q.mean = signed_power;
    return q;
}

void quantize_batch_norm(layers::BatchNorm& bn, const BatchNormQuantizers& quantizers, const Settings& settings) {
    if (quantizers.inverse && (quantizers.gamma || quantizers.variance))
        throw UsageError(cat(bn.path(), ": an inverse quantizer excludes those of gamma and variance"));
    bn.layer_transform = std::make_shared<BatchNormQuantizer>(quantizers, settings);
}

const BatchNormQuantizers* batch_norm_quantizers_of(const Module& module) {
    const auto* found = dynamic_cast<const BatchNormQuantizer*>(module.layer_transform.get());
    return found ? &found->quantizers() : nullptr;
}

void adapt_initial_values(Module& network) {
    for (auto& [path, parameter] : network.named_parameters()) {
        const auto quantizer = quantizer_of(*parameter);
        if (!quantizer || quantizer->quantizer().quantizer().alpha.is_automatic()) continue;
        const Quantizer& q = quantizer->quantizer().quantizer();
        const double largest = max_value_of(q), finest = std::ldexp(largest, -static_cast<int>(bits_of(q)));
        std::vector<double> x = parameter->value.values<double>();
        const auto n = static_cast<double>(x.size());
        double sum = 0, square = 0;
        for (const double v : x) sum += v, square += v * v;
        const double deviation = std::sqrt(std::max(square / n - sum / n * (sum / n), 0.0));
        // Constant values come from an initialiser without a scale.
        if (deviation > 0 && finest > deviation) {
            const std::vector<double> coded = quantizer->quantize(parameter->value).values.values<double>();
            double qq = 0, qx = 0;
            for (std::size_t i = 0; i < x.size(); ++i) qq += coded[i] * coded[i], qx += coded[i] * x[i];
            const double factor = qq == 0 ? largest / std::sqrt(square / n) : std::max(1.0, qq / qx);
            // The scale of an initialiser is that of its variance.
            for (double& v : x) v *= std::sqrt(factor);
        }
        for (double& v : x) v = std::clamp(v, -largest, largest);
        parameter->value.copy_from(Tensor::from(parameter->value.shape(), x).to(parameter->value.dtype()));
    }
}

}  // namespace bitloom::quant::qkeras
