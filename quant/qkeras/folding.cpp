#include "quant/qkeras/folding.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "engine/graph.h"
#include "engine/module_device.h"
#include "ops/convolution.h"
#include "ops/dense.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"
#include "ops/shaping.h"
#include "quant/cost/arithmetic.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/number_type.h"

namespace bitloom::quant::qkeras {

FoldingMode folding_mode(const std::string& name) {
    if (name == "batch_stats_folding") return FoldingMode::batch_stats;
    if (name == "ema_stats_folding") return FoldingMode::ema_stats;
    throw UsageError(cat("unknown folding mode '", name, "' (ema_stats_folding, batch_stats_folding)"));
}
std::string to_string(FoldingMode mode) {
    return mode == FoldingMode::batch_stats ? "batch_stats_folding" : "ema_stats_folding";
}

namespace {

/// Takes the place of a batch norm whose work the convolution in front of it does.
class FoldedAway final : public LayerTransform {
   public:
    std::string_view name() const override { return "folded"; }
    Var forward(Context&, Module&, std::span<const Var> inputs) override { return inputs[0]; }
};

/// x[o, ...] * factor[o]
Var times_rows(const Var& weight, const Var& factor) {
    const std::array<std::int64_t, 4> rows{factor.dim(0), 1, 1, 1};
    return ops::multiply(weight, ops::reshape(factor, rows));
}

class FoldedConvolution final : public LayerTransform {
   public:
    FoldedConvolution(layers::Conv2d& convolution, layers::BatchNorm& bn, const FoldingOptions& options, const Settings& settings)
        : options_(options), bn_(bn), iteration_(Tensor::full({1}, -1, DType::i32)) {
        const auto& c = convolution.config();
        if (dynamic_cast<layers::DepthwiseConv2d*>(&convolution)) viewed_ = Shape{c.in, c.out / c.in, c.kernel.h, c.kernel.w};
        const AxisMap axes = viewed_.rank() > 0 ? depthwise_axes() : convolution_axes();
        if (options_.kernel) {
            options_.kernel = with_layer_defaults(*options_.kernel);
            kernel_.emplace(*options_.kernel, settings, axes);
        }
        if (options_.bias) bias_.emplace(*options_.bias, settings);
    }
    std::string_view name() const override { return "folding"; }
    TransformState state() override { return {{}, {{"iteration", &iteration_}}}; }

    const FoldingOptions& options() const { return options_; }
    layers::BatchNorm& bn() const { return bn_; }

    Var forward(Context& context, Module& layer, std::span<const Var> inputs) override {
        auto& convolution = dynamic_cast<layers::Conv2d&>(layer);
        require(inputs.size() == 1, layer.path(), ": takes one input");
        require(inputs[0].shape().rank() == 4, layer.path(), ": needs [batch, height, width, channels], got ",
                inputs[0].shape());
        return in_full_precision(inputs[0], [&](const Var& x) { return convolve(context, convolution, x); });
    }

   private:
    Var convolve(Context& context, layers::Conv2d& convolution, const Var& x) {
        Tape& tape = x.tape();
        const Var weight = convolution.weight.effective(context);
        const Var bias = convolution.bias.value.defined() ? convolution.bias.effective(context) : Var();
        const Var gamma = bn_.weight.effective(context), beta = bn_.bias.effective(context);
        const auto options = convolution.options_for(x.dim(1), x.dim(2));
        const double epsilon = bn_.config().epsilon;

        bool trains = false;
        Var mean, variance;
        if (context.training) {
            const auto iteration = static_cast<std::int64_t>(iteration_.item()) + 1;
            iteration_.fill(static_cast<double>(iteration));
            trains = options_.ema_freeze_delay < 0 || iteration <= options_.ema_freeze_delay;
        }
        if (trains) {
            // A plain convolution shows the moments of its output.
            const Var plain = ops::conv2d(x, weight, bias, options);
            const std::array<int, 3> map{0, 1, 2};
            mean = ops::reduce_mean(plain, map);
            variance = ops::reduce_mean(ops::square(ops::subtract(plain, mean)), map);
            bn_.update_moving_averages(mean.value(), variance.value(), plain.shape());
        } else {
            mean = tape.constant(bn_.running_mean);
            variance = tape.constant(bn_.running_var);
        }
        const auto deviation = [&](const Var& v) { return ops::sqrt(ops::scale(v, 1, epsilon)); };
        const Var spread = deviation(variance), inverse = ops::divide(gamma, spread);
        const Var centred = bias.defined() ? ops::subtract(bias, mean) : ops::scale(mean, -1);
        Var folded_bias = ops::add(ops::multiply(centred, inverse), beta);
        Var kernel_factor = inverse, moving_spread;
        const bool by_moving = options_.mode == FoldingMode::ema_stats;
        if (by_moving && trains) {
            moving_spread = deviation(tape.constant(bn_.running_var.clone()));
            kernel_factor = ops::divide(gamma, moving_spread);
        }
        Var kernel = times_rows(weight, kernel_factor);
        if (kernel_) kernel = quantized(context, *kernel_, kernel, convolution.path() + ".weight", viewed_, mask_of(convolution.weight));
        if (bias_) folded_bias = quantized(context, *bias_, folded_bias, convolution.path() + ".bias", {}, {});
        Var y = ops::conv2d(x, kernel, Var(), options);
        if (by_moving && trains) y = ops::multiply(y, ops::divide(moving_spread, spread));
        return ops::bias_add(y, folded_bias);
    }

    /// The mask that ends a weight's transforms: it has to follow the folded kernel's quantizer, which may have no zero.
    static Tensor mask_of(const Parameter& weight) {
        const auto mask = weight.transforms.empty() ? std::nullopt : weight.transforms.back()->as_mask();
        return mask ? mask->values : Tensor();
    }

    static Var quantized(Context& context, const TensorQuantizer& q, const Var& x, const std::string& path, const Shape& viewed,
                         const Tensor& mask) {
        Pass pass;
        pass.training = context.training;
        pass.mask_gradient = false;  // the gradient meets the mask, where it does, in front of the folding
        if (mask.defined()) pass.mask = viewed.rank() == 0 ? mask : mask.reshape(viewed);
        if (uses_draws(q.quantizer(), pass.training)) {
            pass.stream = stream(context.seed, "quantizer/" + path, context.step);
            if (context.device_step) pass.stream = {pass.stream.key, 0, context.device_step};
        }
        if (viewed.rank() == 0) return q(x, pass);
        return ops::reshape(q(ops::reshape(x, viewed.extents()), pass), x.shape().extents());
    }

    FoldingOptions options_;
    layers::BatchNorm& bn_;
    Tensor iteration_;
    Shape viewed_;
    std::optional<TensorQuantizer> kernel_, bias_;
};

FoldedConvolution* folded(Module& module) { return dynamic_cast<FoldedConvolution*>(module.layer_transform.get()); }

Tensor like(const Tensor& t, const std::vector<double>& values) {
    return Tensor::from(t.shape(), values).to(t.dtype()).to(t.device());
}

}  // namespace

FoldedWeights fold_weights(const layers::Conv2d& convolution, const layers::BatchNorm& bn) {
    std::vector<double> weight = convolution.weight.value.values<double>();
    const std::vector<double> gamma = bn.weight.value.values<double>(), beta = bn.bias.value.values<double>(),
                              mean = bn.running_mean.values<double>(), variance = bn.running_var.values<double>();
    std::vector<double> bias(gamma.size(), 0.0);
    if (convolution.bias.value.defined()) bias = convolution.bias.value.values<double>();
    const std::size_t row = weight.size() / gamma.size();
    for (std::size_t o = 0; o < gamma.size(); ++o) {
        const double inverse = gamma[o] / std::sqrt(variance[o] + bn.config().epsilon);
        for (std::size_t i = 0; i < row; ++i) weight[o * row + i] *= inverse;
        bias[o] = inverse * (bias[o] - mean[o]) + beta[o];
    }
    return {like(convolution.weight.value, weight), like(bn.bias.value, bias)};
}

void quantize_folded(layers::Conv2d& convolution, layers::BatchNorm& bn, const FoldingOptions& options, const Settings& settings) {
    for (const Module* module : {static_cast<const Module*>(&convolution), static_cast<const Module*>(&bn)})
        if (module->has_hooks()) throw UsageError(cat(module->path(), ": has hooks already, so it cannot be folded"));
    if (!convolution.weight.transforms.empty() || !convolution.bias.transforms.empty())
        throw UsageError(cat(convolution.path(), ": its weights have transforms already, so it cannot be folded"));
    if (bn.config().channels != convolution.config().out)
        throw UsageError(cat(bn.path(), ": has ", bn.config().channels, " channels, ", convolution.path(), " has ", convolution.config().out));
    convolution.layer_transform = std::make_shared<FoldedConvolution>(convolution, bn, options, settings);
    bn.layer_transform = std::make_shared<FoldedAway>();
}

const FoldingOptions* folding_options_of(const Module& module) {
    const auto* found = dynamic_cast<const FoldedConvolution*>(module.layer_transform.get());
    return found ? &found->options() : nullptr;
}

bool is_folded_away(const Module& module) { return dynamic_cast<const FoldedAway*>(module.layer_transform.get()) != nullptr; }

std::vector<std::pair<layers::Conv2d*, layers::BatchNorm*>> foldable_pairs(Module& network, const Shape& input) {
    const Graph graph = Graph::trace(network, input, DType::f32, device_of(network));
    std::vector<std::pair<layers::Conv2d*, layers::BatchNorm*>> pairs;
    for (const GraphCall& call : graph.calls()) {
        auto* convolution = dynamic_cast<layers::Conv2d*>(call.module);
        const std::vector<int> readers = graph.consumers(call.index);
        if (!convolution || readers.size() != 1) continue;
        if (auto* bn = dynamic_cast<layers::BatchNorm*>(graph.calls()[static_cast<std::size_t>(readers[0])].module))
            pairs.emplace_back(convolution, bn);
    }
    return pairs;
}

void unfold(Module& network, const Settings& settings) {
    for (Module* module : network.modules()) {
        FoldedConvolution* transform = folded(*module);
        if (!transform) continue;
        auto& convolution = dynamic_cast<layers::Conv2d&>(*module);
        const FoldedWeights weights = fold_weights(convolution, transform->bn());
        const LayerQuantizers quantizers{transform->options().kernel, transform->options().bias};
        convolution.layer_transform = nullptr;
        convolution.add_bias();
        convolution.weight.value.copy_from(weights.kernel);
        convolution.bias.value.copy_from(weights.bias);
        quantize_layer(convolution, quantizers, settings);
    }
}

Quantizer bias_from_accumulator(const Quantizer& input, const Quantizer& kernel, const Shape& kernel_shape, bool depthwise) {
    const cost::DataType product = cost::make_multiplier(number_type(kernel), number_type(input)).output;
    const cost::DataType sum = cost::accumulate(product, cost::accumulated_terms(kernel_shape, depthwise));
    if (sum.kind != cost::NumberKind::fixed)
        throw UsageError(cat("a bias type needs a fixed-point accumulator; the product of ", input.name(), " and ", kernel.name(), " has none"));
    Quantizer bias = make_quantizer(QuantizerKind::quantized_bits);
    bias.bits = sum.bits, bias.integer = sum.integer, bias.symmetric = true, bias.keep_negative = sum.is_signed;
    return bias;
}

}  // namespace bitloom::quant::qkeras
