// bsq.h5: forward_backward, finetune_forward, regularizer, real_layers.

#include <cmath>

#include "apps/golden/bsq_support.h"
#include "apps/golden/families.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"
#include "quant/bsq/files.h"

namespace bitloom::golden {

namespace {

using bsq::BitTensor;
using bsq::BitWeight;

/// A layer alone, its weight and bias in bits.
struct GoldenLayer {
    std::unique_ptr<Module> module;
    Parameter* weight = nullptr;
    Parameter* bias = nullptr;  // null: none
    std::shared_ptr<BitWeight> weight_bits, bias_bits;

    /// `weight_shape`: [out, in] or OIHW.
    GoldenLayer(const Shape& weight_shape, bool has_bias, std::int64_t stride, std::int64_t padding) {
        if (weight_shape.rank() == 2) {
            auto dense = std::make_unique<layers::Dense>(
                layers::DenseConfig{.in = weight_shape[1], .out = weight_shape[0], .bias = has_bias});
            weight = &dense->weight, bias = &dense->bias;
            module = std::move(dense);
        } else {
            layers::Conv2dConfig config{.in = weight_shape[1], .out = weight_shape[0]};
            config.kernel = layers::Extent2d(weight_shape[2], weight_shape[3]);
            config.stride = stride;
            config.padding = layers::PaddingRule::symmetric(padding);
            config.bias = has_bias;
            auto convolution = std::make_unique<layers::Conv2d>(config);
            weight = &convolution->weight, bias = &convolution->bias;
            module = std::move(convolution);
        }
        module->assign_paths("layer");
        weight_bits = std::make_shared<BitWeight>(*weight);
        if (has_bias) bias_bits = std::make_shared<BitWeight>(*bias);
    }

    /// y of x (file axes), and with `gy` the gradients: of x returned, those of the leaves in their parameters.
    Tensor run(const Tensor& x, const Tensor& gy, Tensor& y) {
        Tape tape;
        Context context{tape, true};
        const Var input = tape.input(channels_last(x), true);
        const Var output = (*module)(context, input);
        y = channels_first(output.value());
        tape.backward(output, channels_last(gy));
        return channels_first(tape.grad(input));
    }
};

/// Shape of the value that planes with a last axis of bits stand for.
Shape value_shape(const Shape& planes) {
    Shape shape;
    for (int axis = 0; axis + 1 < planes.rank(); ++axis) shape.append(planes[axis]);
    return shape;
}

void expect_plane_gradients(const Case& c, const std::string& what, const Module* layer, const Tensor& gradient,
                            double tolerance) {
    const auto files = bsq::planes_to_file(layer, gradient);
    expect_close("g_p" + what, files[0], c.tensor("g_p" + what), tolerance);
    expect_close("g_n" + what, files[1], c.tensor("g_n" + what), tolerance);
}

void expect_weight(const std::string& name, const GoldenLayer& layer, const Tensor& got, const Case& c, double tolerance) {
    expect_close(name, bsq::to_file_layout(*layer.module, got), c.tensor(name), tolerance);
}

void forward_backward(const Case& c) {
    const bool has_bias = c.has("pbias");
    GoldenLayer layer(value_shape(c.tensor("pweight").shape()), has_bias, c.integer_or("stride", 1),
                      c.integer_or("padding", 0));
    BitTensor weight = bit_tensor_of(c, "weight", layer.module.get());
    weight.zero = c.flag_or("zero", false);
    expect_equal("n", weight.bits(), c.number("n"));
    if (c.given("num_weights")) expect_equal("num_weights", static_cast<double>(weight.count()), c.number("num_weights"));
    layer.weight_bits->set(weight);
    const Tensor t = bsq::normalized(weight);
    expect_weight("wsum", layer, t, c, 1e-6);
    expect_weight("weight_eff", layer, effective(weight), c, 1e-6);
    if (c.given("num_clipped")) {
        std::int64_t clipped = 0;
        for (const float value : t.values<float>()) clipped += std::abs(value) > 1;
        expect_equal("num_clipped", static_cast<double>(clipped), c.number("num_clipped"));
    }
    expect_factors(c, "exps", weight.bits());
    if (has_bias) {
        BitTensor bias = bit_tensor_of(c, "bias");
        bias.zero = c.flag_or("bzero", false);
        layer.bias_bits->set(bias);
        expect_close("bias_eff", effective(bias), c.tensor("bias_eff"), 1e-6);
        expect_factors(c, "bexps", bias.bits());
    }
    Tensor y;
    const Tensor gx = layer.run(c.tensor("x"), c.tensor("gy"), y);
    expect_close("y", y, c.tensor("y"), 1e-5);
    expect_close("gx", gx, c.tensor("gx"), 1e-4);
    expect_plane_gradients(c, "weight", layer.module.get(), layer.weight_bits->planes().grad, 1e-4);
    expect_close("g_scale", layer.weight_bits->scale().grad, c.tensor("g_scale"), 1e-4);
    if (!has_bias) return;
    expect_plane_gradients(c, "bias", nullptr, layer.bias_bits->planes().grad, 1e-4);
    expect_close("g_biasscale", layer.bias_bits->scale().grad, c.tensor("g_biasscale"), 1e-4);
}

void finetune_forward(const Case& c) {
    const bool has_bias = c.has("bias");
    const auto bits = static_cast<int>(c.integer("n"));
    GoldenLayer layer(c.tensor("weight").shape(), has_bias, c.integer_or("stride", 1), c.integer_or("padding", 0));
    layer.weight_bits->set_fixed(bsq::from_file_layout(*layer.module, c.tensor("weight")),
                                 static_cast<float>(c.tensor("scale").item()), bits);
    if (has_bias)
        layer.bias_bits->set_fixed(c.tensor("bias"), static_cast<float>(c.tensor("biasscale").item()),
                                   static_cast<int>(c.integer_or("bn", bits)));
    Tensor y;
    if (c.has("y_with_bias")) {
        layer.run(c.tensor("x"), c.tensor("gy"), y);
        expect_close("y_with_bias", y, c.tensor("y_with_bias"), 1e-5);
    }
    if (has_bias) {
        layer.bias_bits->leave_out(true);
        layer.bias->grad = layer.bias_bits->scale().grad = Tensor();
    }
    const Tensor gx = layer.run(c.tensor("x"), c.tensor("gy"), y);
    expect_close("y", y, c.tensor("y"), 1e-5);
    expect_close("gx", gx, c.tensor("gx"), 1e-4);
    expect_weight("g_weight", layer, layer.weight->grad, c, 1e-4);
    expect_close("g_scale", layer.weight_bits->scale().grad, c.tensor("g_scale"), 1e-4);
    require(!has_bias || !layer.bias->grad.defined(), "a bias that is left out has a gradient");
    for (const std::string what : {"weight", "bias"}) {
        if (!c.has("p" + what + "_after")) continue;
        BitWeight& tensor = what == "weight" ? *layer.weight_bits : *layer.bias_bits;
        tensor.fixed_to_bits();
        const auto files =
            bsq::planes_to_file(what == "weight" ? layer.module.get() : nullptr, tensor.bit_tensor().planes);
        expect_equal("p" + what + "_after", files[0], c.tensor("p" + what + "_after"));
        expect_equal("n" + what + "_after", files[1], c.tensor("n" + what + "_after"));
    }
}

/// R of these tensors (not divided), its gradients in their planes.
double penalty(const std::vector<std::shared_ptr<BitWeight>>& tensors) {
    const auto lasso = std::make_shared<bsq::GroupLasso>(tensors, 1);
    Tape tape;
    Context context{tape, true};
    // The gradient arrives with that of the weights: here the weights do not matter to the loss.
    Var loss;
    for (const auto& tensor : tensors) {
        const Var nothing = ops::scale(ops::reduce_sum(tensor->parameter().effective(context)), 0);
        loss = loss.defined() ? ops::add(loss, nothing) : nothing;
    }
    tape.backward(ops::add(loss, (*lasso)(context, 1)));
    return lasso->value();
}

void regularizer(const Case& c) {
    std::vector<std::unique_ptr<Parameter>> parameters;
    std::vector<std::shared_ptr<BitWeight>> tensors;
    for (const std::string what : {"weight", "bias"}) {
        if (!c.has("p" + what)) continue;
        const BitTensor tensor{planes_of(c, what), 1, false};
        parameters.push_back(std::make_unique<Parameter>(Tensor::zeros(tensor.shape())));
        tensors.push_back(std::make_shared<BitWeight>(*parameters.back()));
        tensors.back()->set(tensor);
    }
    if (c.given("n")) expect_equal("n", tensors.front()->bits(), c.number("n"));
    if (c.given("total_weight")) expect_equal("total_weight", static_cast<double>(tensors.front()->count()), c.number("total_weight"));
    expect_close("value", penalty(tensors), c.tensor("value").item(), 1e-5);
    expect_plane_gradients(c, "weight", nullptr, tensors[0]->planes().grad, 1e-4);
    if (tensors.size() > 1) expect_plane_gradients(c, "bias", nullptr, tensors[1]->planes().grad, 1e-4);
}

BitTensor from_codes(const Tensor& codes, float scale, int bits) {
    const std::vector<double> values = codes.values<double>();
    return bsq::from_codes({values.begin(), values.end()}, codes.shape(), scale, bits);
}

/// Sums of the positive planes, bit by bit.
Tensor positive_sums(const Tensor& planes) {
    const std::int64_t bits = planes.dim(0), count = planes.numel() / (2 * bits);
    std::vector<double> sums;
    const float* p = planes.read<float>();
    for (std::int64_t b = 0; b < bits; ++b) {
        sums.push_back(0);
        for (std::int64_t i = 0; i < count; ++i) sums.back() += static_cast<double>(p[2 * b * count + i]);
    }
    return Tensor::from({bits}, sums);
}

void real_layer_forward(const Case& c, int bits) {
    const Tensor codes = c.tensor("codes"), x = c.tensor("x"), want = c.tensor("y");
    const bool convolution = codes.rank() == 4, has_bias = c.has("bias_codes");
    // Kernels of the network are odd and keep a map's size up to their stride.
    const std::int64_t stride = convolution ? (x.dim(2) + want.dim(2) - 1) / want.dim(2) : 1;
    GoldenLayer layer(codes.shape(), has_bias, stride, convolution ? codes.dim(2) / 2 : 0);
    const auto scale = static_cast<float>(c.tensor("scale").item());
    layer.weight_bits->set(from_codes(bsq::from_file_layout(*layer.module, codes), scale, bits));
    if (has_bias)
        layer.bias_bits->set(
            from_codes(c.tensor("bias_codes"), static_cast<float>(c.tensor("biasscale").item()), bits));
    Tensor y;
    const Tensor gx = layer.run(x, c.tensor("gy"), y);
    expect_close("y", y, want, 1e-5);
    expect_close("gx", gx, c.tensor("gx"), 1e-4);
    const Tensor gradient = layer.weight_bits->planes().grad;
    expect_close("g_scale", layer.weight_bits->scale().grad, c.tensor("g_scale"), 1e-4);
    expect_close("g_pweight_sum_per_bit", positive_sums(gradient), c.tensor("g_pweight_sum_per_bit"), 1e-4);
    // scale dL/dW is what all planes share, times their factors.
    Tensor shared = gradient.rows(0, 1).reshape({2, gradient.numel() / (2 * bits)}).rows(0, 1).clone();
    for (std::int64_t i = 0; i < shared.numel(); ++i) shared.write<float>()[i] /= bsq::plane_factor(0, bits);
    expect_weight("g_weight", layer, shared.reshape(layer.weight->value.shape()), c, 1e-4);

    std::vector<std::shared_ptr<BitWeight>> tensors{layer.weight_bits};
    if (has_bias) tensors.push_back(layer.bias_bits);
    expect_close("reg", penalty(tensors), c.tensor("reg").item(), 1e-5);
    expect_close("reg_gp_sum_per_bit", positive_sums(layer.weight_bits->planes().grad), c.tensor("reg_gp_sum_per_bit"),
                 1e-4);
}

void real_layer(const Case& c) {
    const auto bits = static_cast<int>(c.integer("n"));
    const auto scale = static_cast<float>(c.tensor("scale").item());
    real_layer_forward(c, bits);
    const BitTensor exact = from_codes(c.tensor("codes"), scale, bits);
    expect_close("percent_nonzero", Tensor::from({bits}, bsq::nonzero_percentages(exact)), c.tensor("percent_nonzero"),
                 1e-5);
    if (c.has("pweight_u8")) {
        const auto files = bsq::planes_to_file(nullptr, exact.planes);
        expect_equal("pweight_u8", files[0], c.tensor("pweight_u8"));
        expect_equal("nweight_u8", files[1], c.tensor("nweight_u8"));
    }
    Tensor t = c.tensor("perturbed_sum");
    if (c.has("perturbed_pweight")) {
        const BitTensor perturbed{
            bsq::planes_from_file(nullptr, c.tensor("perturbed_pweight"), c.tensor("perturbed_nweight")), scale, false};
        expect_close("perturbed_sum", bsq::normalized(perturbed), t, 1e-6);
        t = bsq::normalized(perturbed);
    }
    const BitTensor requantized = bsq::requantize(t, scale, bits, 8);
    expect_equal("n_after_quant", requantized.bits(), c.number("n_after_quant"));
    const BitTensor end = bsq::strip(requantized, 0);
    expect_equal("n_after_prune", end.bits(), c.number("n_after_prune"));
    expect_close("scale_after", static_cast<double>(end.scale), c.tensor("scale_after").item(), 1e-6);
    const std::vector<std::int64_t> codes = bsq::codes(end);
    expect_equal("codes_after", Tensor::from(end.shape(), std::vector<double>(codes.begin(), codes.end())),
                 c.tensor("codes_after", DType::f64));
}

}  // namespace

void add_bsq_layers(Families& families) {
    families.add("forward_backward/*", forward_backward);
    families.add("finetune_forward/*", finetune_forward);
    families.add("regularizer/*", regularizer);
    families.add("real_layers/*", real_layer);
}

}  // namespace bitloom::golden
