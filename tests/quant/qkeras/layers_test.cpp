// Quantizers on layers: what a step does to latent weights, which layers a dictionary reaches, normalisation, and the pass
// that batch norm and quantized ReLU share.

#include "quant/qkeras/layers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/optim/optimizer.h"
#include "engine/random.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/pooling.h"
#include "models/registry.h"
#include "ops/loss.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"
#include "quant/kernels.h"
#include "quant/qkeras/parse.h"
#include "tests/quant/kernel_rows.h"

namespace bitloom::quant::qkeras {
namespace {

Tensor normal(const Shape& shape, double deviation, std::uint64_t seed) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "test");
    fill_normal(t, 0, deviation, rng);
    return t;
}

Quantizer q(const std::string& text) { return parse_quantizer(text); }

TEST(QuantizeLayer, KernelAlphaLeftOpenBecomesAutoPo2AndBiasDoesNot) {
    layers::Dense dense({.in = 4, .out = 3});
    dense.assign_paths("dense");
    quantize_layer(dense, {q("quantized_bits(4)"), q("quantized_bits(4)")}, {});
    EXPECT_EQ(to_string(quantizer_of(dense.weight)->quantizer().quantizer()), "quantized_bits(4,0,1,alpha='auto_po2')");
    EXPECT_EQ(to_string(quantizer_of(dense.bias)->quantizer().quantizer()), "quantized_bits(4,0,0)");
    EXPECT_THROW(quantize_layer(dense, {q("binary()")}, {}), UsageError);
}

TEST(QuantizeLayer, LatentWeightsAreTrainedAndClipped) {
    layers::Dense dense({.in = 2, .out = 1});
    dense.assign_paths("dense");
    dense.weight.value = Tensor::from({1, 2}, std::vector<float>{0.95f, -0.2f});
    dense.bias.value = Tensor::from({1}, std::vector<float>{0.3f});
    quantize_layer(dense, {q("quantized_bits(2,0,alpha=1)"), q("quantized_bits(3,1)")}, {});
    auto sgd = make_sgd(dense.named_parameters(), {.learning_rate = 1});
    Tape tape;
    Context context{tape, true};
    const Var y = dense(context, tape.constant(Tensor::from({1, 2}, std::vector<float>{-0.5f, 0.25f})));
    // Q(w) = (0.5, 0) (ties and the upper bound), Q(b) = 0.5 (step 0.5, 0.3 / 0.5 rounds to 1)
    EXPECT_FLOAT_EQ(static_cast<float>(y.value().item()), -0.25f + 0.5f);
    tape.backward(y);
    sgd->step();
    // The gradient goes through as it is; 0.95 + 0.5 is clipped to 1, 0.3 - 1 lies within [-2, 2].
    EXPECT_EQ(dense.weight.value.values<float>(), (std::vector<float>{1, -0.45f}));
    EXPECT_FLOAT_EQ(static_cast<float>(dense.bias.value.item()), -0.7f);
}

TEST(QuantizeLayer, DepthwiseScalesBelongToTheMultiplier) {
    layers::DepthwiseConv2d layer({.in = 2, .kernel = 1, .bias = false}, 2);
    layer.assign_paths("layer");
    // [in * multiplier, 1, 1, 1]; the source's last axis is the multiplier, so (0, 2) and (1, 3) share scales.
    layer.weight.value = Tensor::from({4, 1, 1, 1}, std::vector<float>{0.9f, -0.3f, 0.5f, 0.1f});
    quantize_layer(layer, {q("binary(alpha='auto')")}, {});
    const auto weight = quantizer_of(layer.weight)->quantize(layer.weight.value).values.values<float>();
    for (const auto& [i, want] : {std::pair(0, 0.7f), {1, -0.2f}, {2, 0.7f}, {3, 0.2f}})
        EXPECT_NEAR(weight[static_cast<std::size_t>(i)], want, 1e-6) << i;
}

TEST(InitialValues, GrowWhereTheStepIsCoarserThanTheDraw) {
    layers::Dense dense({.in = 100, .out = 10, .bias = false});
    dense.assign_paths("dense");
    dense.weight.value = normal({10, 100}, 0.05, 1);
    quantize_layer(dense, {q("ternary(alpha=1)")}, {});
    const std::vector<double> before = dense.weight.value.values<double>();
    adapt_initial_values(dense);
    // All values are below the threshold, so Q is zero: factor = 1 / root mean square.
    double square = 0;
    for (const double v : before) square += v * v / 1000;
    const double factor = std::sqrt(1 / std::sqrt(square));
    const std::vector<double> after = dense.weight.value.values<double>();
    for (std::size_t i = 0; i < after.size(); ++i) EXPECT_NEAR(after[i], std::clamp(before[i] * factor, -1.0, 1.0), 1e-6);

    layers::Dense automatic({.in = 100, .out = 10, .bias = false});
    automatic.assign_paths("dense");
    automatic.weight.value = normal({10, 100}, 0.05, 1);
    quantize_layer(automatic, {q("ternary()")}, {});
    adapt_initial_values(automatic);
    EXPECT_EQ(automatic.weight.value.values<double>(), before);
}

TEST(QuantizeBatchNorm, FormulaInTrainingAndInference) {
    layers::BatchNorm bn(layers::keras_batch_norm(3));
    bn.assign_paths("bn");
    bn.weight.value = Tensor::from({3}, std::vector<float>{0.9f, 1.7f, 0.3f});
    bn.bias.value = Tensor::from({3}, std::vector<float>{-0.3f, 0.6f, 0});
    bn.running_mean = Tensor::from({3}, std::vector<float>{0.2f, -0.7f, 0});
    bn.running_var = Tensor::from({3}, std::vector<float>{1.3f, 0.4f, 3});
    quantize_batch_norm(bn, BatchNormQuantizers::defaults(), {});
    const Tensor x = normal({50, 3}, 0.8, 4);
    const auto expected = [&](const std::vector<double>& mean, const std::vector<double>& variance, std::int64_t i) {
        const auto c = static_cast<std::size_t>(i % 3);
        const auto power = [](double v) { return std::copysign(std::exp2(std::nearbyint(std::log2(std::abs(v)))), v); };
        const double gamma = power(bn.weight.value.values<double>()[c]);
        const double root = std::exp2(2 * std::nearbyint(std::log2(std::sqrt(variance[c]))));
        const double inverse = gamma / std::sqrt(root + 1e-3);
        const double beta = bn.bias.value.values<double>()[c], small = std::exp2(-8);
        const auto po2 = [&](double v) { return std::abs(v) < 1e-7 ? small : power(v); };
        return x.values<double>()[static_cast<std::size_t>(i)] * inverse + (po2(beta) - po2(mean[c]) * inverse);
    };
    for (const bool training : {false, true}) {
        std::vector<double> mean = bn.running_mean.values<double>(), variance = bn.running_var.values<double>();
        if (training) {
            mean.assign(3, 0), variance.assign(3, 0);
            for (std::size_t i = 0; i < 150; ++i) mean[i % 3] += x.values<double>()[i] / 50;
            for (std::size_t i = 0; i < 150; ++i) variance[i % 3] += std::pow(x.values<double>()[i] - mean[i % 3], 2) / 50;
        }
        Tape tape;
        Context context{tape, training};
        const std::vector<double> y = bn(context, tape.constant(x)).value().values<double>();
        for (std::int64_t i = 0; i < 150; ++i) EXPECT_NEAR(y[static_cast<std::size_t>(i)], expected(mean, variance, i), 1e-5) << training << i;
        if (training) {  // what enters the average is not quantized
            EXPECT_NEAR(bn.running_mean.values<double>()[0], 0.99 * 0.2f + 0.01 * mean[0], 1e-6);
        }
    }
    EXPECT_THROW(quantize_batch_norm(bn, {.gamma = q("quantized_po2(4)"), .inverse = q("quantized_bits(8)")}, {}), UsageError);
}

// Two values a channel, so that the biased variance is half of the unbiased one.
TEST(QuantizeBatchNorm, MovingVarianceOfMapsIsTheBiasedOne) {
    for (const bool quantized : {false, true}) {
        layers::BatchNorm bn(layers::keras_batch_norm(1));
        bn.assign_paths("bn");
        if (quantized) quantize_batch_norm(bn, BatchNormQuantizers::defaults(), {});
        Tape tape;
        Context context{tape, true};
        bn(context, tape.constant(Tensor::from({1, 1, 2, 1}, std::vector<float>{-1, 1})));
        EXPECT_NEAR(bn.running_var.item(), 0.99 + 0.01 * (quantized ? 1 : 2), 1e-6) << quantized;
    }
}

TEST(QuantizePooling, FactorIsQuantized) {
    layers::AvgPool2d pool({.window = 3, .stride = 3});
    pool.assign_paths("pool");
    quantize_pooling(pool, q("quantized_bits(4,0,1)"), std::nullopt, {});
    layers::GlobalAvgPool2d global;
    global.assign_paths("global");
    quantize_pooling(global, q("quantized_bits(6,0,1)"), q("quantized_bits(4,2,1,alpha=1)"), {});
    const Tensor x = Tensor::full({2, 3, 3, 4}, 0.5);
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    for (const double v : pool(context, tape.constant(x)).value().values<double>()) EXPECT_EQ(v, 4.5 * 0.125);  // Q(1/9) = 1/8
    const Var y = global(context, tape.constant(x));
    EXPECT_EQ(y.shape(), (Shape{2, 4}));
    for (const double v : y.value().values<double>()) EXPECT_EQ(v, 0.5);  // 4.5 * Q(1/9) = 4.5 * 4/32 = 0.5625, step 0.5
    layers::MaxPool2d max;
    EXPECT_THROW(quantize_pooling(max, q("quantized_bits(4)"), std::nullopt, {}), UsageError);
}

// The pass that batch norm and quantized ReLU share -------------------------------------------------------------------

TEST(FusedNorm, HasTheBitsOfTheSinglePassesAndAgreesWithTheReference) { test::expect_fused_norm(cpu_device); }
TEST(KernelsInBf16, GiveWhatF32GivesRoundedOnce) { test::expect_bf16(cpu_device); }

TEST(FusedNorm, SequentialNetworksUseIt) {
    const auto network = make_model({.name = "svhn_cnn"});
    for (Module* module : network->modules())
        if (module->type() == "ReLU") quantize_activation(*module, q("quantized_relu(4,0)"), {});
    Tape tape;
    Context context{tape, true};
    (*network)(context, tape.constant(normal({4, 32, 32, 3}, 1, 1)));
    int fused = 0, single = 0;
    for (int i = 0; i < tape.node_count(); ++i) {
        fused += tape.node_op(i) == "batch_norm_quantize";
        single += tape.node_op(i) == "quantize";
    }
    EXPECT_EQ(fused, 5);
    EXPECT_EQ(single, 0);
}

}  // namespace
}  // namespace bitloom::quant::qkeras
