// Quantizers beside bf16 activations: they compute in f32, and codes of up to eight bits times a power of two are exact in bf16.

#include <gtest/gtest.h>

#include <cmath>

#include "engine/optim/optimizer.h"
#include "engine/random.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/registry.h"
#include "ops/cpu/onednn.h"
#include "ops/loss.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"
#include "ops/shaping.h"
#include "quant/pruning/pruner.h"
#include "quant/qkeras/folding.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/parse.h"
#include "quant/scheme.h"

namespace bitloom::quant::qkeras {
namespace {

/// Values that bf16 holds exactly.
Tensor normal(const Shape& shape, double deviation, std::uint64_t seed) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "bf16-quantizer-test");
    fill_normal(t, 0, deviation, rng);
    return t.to(DType::bf16).to(DType::f32);
}

struct Passed {
    std::vector<double> value, gradient;
};

/// f(x) and d sum(f(x) g) / dx with x of this type.
template <class F>
Passed pass(const Tensor& x, const Tensor& g, DType dtype, F&& f) {
    Parameter leaf(x.to(DType::f32));
    Tape tape;
    Context context{.tape = tape, .training = true, .seed = 5, .step = 2};
    const Var y = f(context, ops::cast(tape.leaf(leaf), dtype));
    EXPECT_EQ(y.dtype(), dtype);
    tape.backward(ops::reduce_sum(ops::multiply(ops::cast(y, DType::f32), tape.constant(g))));
    return {y.value().values<double>(), leaf.grad.values<double>()};
}

double bf16_of(double v) { return Tensor::full({1}, v).to(DType::bf16).item(); }

TEST(QuantizersInBf16, GiveTheirF32ValueRoundedOnce) {
    const Tensor x = normal({257}, 1, 1), g = normal({257}, 1, 2);
    for (const char* text : {"quantized_relu(4,0)", "quantized_relu(8,2)", "quantized_relu(16,6)", "quantized_relu(4,0,negative_slope=0.25)",
                             "quantized_bits(8,0,alpha=1)", "quantized_bits(12,0,alpha=1)", "quantized_bits(4,1,alpha=0.3)",
                             "quantized_bits(4,0,1,alpha='auto')", "quantized_bits(4,0,1,alpha='auto_po2')",
                             "quantized_bits(4,0,alpha=1,use_stochastic_rounding=True)", "quantized_linear(4,1)", "binary()",
                             "binary(alpha=1)", "ternary(alpha=1)", "stochastic_ternary(alpha='auto')", "bernoulli(alpha=1)",
                             "quantized_tanh(4)", "quantized_sigmoid(4)", "quantized_ulaw(4,0)", "quantized_po2(4)",
                             "quantized_relu_po2(4,4)", "quantized_hswish(4,2,alpha=1)"}) {
        SCOPED_TRACE(text);
        ActivationQuantizer quantizer(parse_quantizer(text), {});
        layers::ReLU site;
        site.assign_paths("act");
        const auto apply = [&](Context& context, const Var& v) { return quantizer.apply(context, site, v); };
        const Passed wide = pass(x, g, DType::f32, apply), narrow = pass(x, g, DType::bf16, apply);
        const auto on_reference = [&](Context& context, const Var& v) {
            return ops::cast(quantizer.apply(context, site, context.tape.constant(v.value().to(reference_device))), DType::f32);
        };
        Tape tape(Tape::Mode::inference);
        Context context{.tape = tape, .training = true, .seed = 5, .step = 2};
        const Var reference = on_reference(context, tape.constant(x.to(DType::bf16)));
        EXPECT_EQ(reference.value().values<double>(), narrow.value);
        for (std::size_t i = 0; i < wide.value.size(); ++i) {
            EXPECT_EQ(narrow.value[i], bf16_of(wide.value[i])) << i;
            EXPECT_NEAR(narrow.gradient[i], wide.gradient[i], std::abs(wide.gradient[i]) / 256) << i;
        }
    }
}

TEST(QuantizersInBf16, CodesOfEightBitsAreExactAndLongerOnesAreRounded) {
    const Tensor x = normal({4096}, 1, 3);
    const auto values = [&](const char* text, DType dtype) {
        ActivationQuantizer quantizer(parse_quantizer(text), {});
        layers::ReLU site;
        site.assign_paths("act");
        return pass(x, Tensor::full({4096}, 1), dtype,
                    [&](Context& context, const Var& v) { return quantizer.apply(context, site, v); }).value;
    };
    for (const char* text : {"quantized_relu(4,0)", "quantized_relu(8,2)", "quantized_bits(8,0,alpha=1)", "ternary(alpha=1)"})
        EXPECT_EQ(values(text, DType::bf16), values(text, DType::f32)) << text;
    // 2^-6 is the step of bf16 on [2, 4), 2^-10 that of quantized_relu(16,6); inputs are multiples of 2^-6 there.
    const auto wide = values("quantized_bits(12,2,alpha=0.7)", DType::f32), narrow = values("quantized_bits(12,2,alpha=0.7)", DType::bf16);
    std::size_t rounded = 0;
    for (std::size_t i = 0; i < wide.size(); ++i) {
        rounded += wide[i] != narrow[i];
        EXPECT_NEAR(narrow[i], wide[i], std::abs(wide[i]) / 256);
    }
    EXPECT_GT(rounded, wide.size() / 4);
}

TEST(QuantizersInBf16, BatchNormAndQuantizerShareAPass) {
    const Tensor x = normal({4, 5, 5, 24}, 1, 5), g = normal({4, 5, 5, 24}, 1, 6);
    layers::BatchNorm bn(layers::keras_batch_norm(24));
    layers::ReLU relu;
    bn.assign_paths("bn");
    relu.assign_paths("act");
    bn.weight.value.copy_from(normal({24}, 1, 7));
    quantize_activation(relu, parse_quantizer("quantized_relu(4,1)"), {});
    const auto apply = [&](Context& context, const Var& v) { return layers::norm_act(context, bn, &relu, v); };
    const Passed wide = pass(x, g, DType::f32, apply), narrow = pass(x, g, DType::bf16, apply);
    // The quantizer sees the norm's value before any rounding to bf16, so its codes are those of f32.
    EXPECT_EQ(narrow.value, wide.value);
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < wide.gradient.size(); ++i) {
        error += std::pow(narrow.gradient[i] - wide.gradient[i], 2);
        norm += std::pow(wide.gradient[i], 2);
    }
    EXPECT_LT(std::sqrt(error / norm), 5e-3);
}

TEST(QuantizersInBf16, FoldedConvolutionsNormsAndPoolingsComputeInF32) {
    const Tensor x = normal({2, 4, 4, 3}, 1, 8), g = normal({2, 3, 3, 5}, 1, 9);
    layers::Conv2d convolution({.in = 3, .out = 5, .kernel = 2, .bias = false});
    layers::BatchNorm bn(layers::keras_batch_norm(5)), quantized(layers::keras_batch_norm(5));
    layers::GlobalAvgPool2d pool;
    convolution.assign_paths("conv");
    bn.assign_paths("bn");
    quantized.assign_paths("quantized");
    pool.assign_paths("pool");
    quantize_folded(convolution, bn, {.kernel = parse_quantizer("quantized_bits(4,0,1,alpha=1)")}, {});
    quantize_batch_norm(quantized, BatchNormQuantizers::defaults(), {});
    quantize_pooling(pool, parse_quantizer("quantized_bits(4,0,1,alpha=1)"), std::nullopt, {});
    const auto near = [&](const char* what, const Tensor& gradient, const auto& f) {
        const Passed wide = pass(x, gradient, DType::f32, f), narrow = pass(x, gradient, DType::bf16, f);
        for (std::size_t i = 0; i < wide.value.size(); ++i)
            EXPECT_NEAR(narrow.value[i], wide.value[i], std::abs(wide.value[i]) / 256 + 1e-6) << what;
    };
    near("folded", g, [&](Context& context, const Var& v) { return convolution(context, v); });
    near("pooling", normal({2, 3}, 1, 10), [&](Context& context, const Var& v) { return pool(context, v); });
    near("norm", normal({2, 3, 3, 5}, 1, 10), [&](Context& context, const Var& v) { return quantized(context, convolution(context, v)); });
}

TEST(QuantizersInBf16, AQuantizedAndPrunedNetworkTrains) {
    if (!ops::cpu::onednn::multiplies_bf16()) GTEST_SKIP() << "this CPU does not multiply bf16";
    for (const char* scheme : {R"({"bits": 4})", R"({"predefined": "4bit"})"}) {
        const auto network = make_model({.name = "svhn_cnn"}, 3);
        SchemeList({"qkeras"}, scheme).attach(*network, {32, 32, 3});
        pruning::PruningOptions options;
        options.all.schedule = {pruning::SparsitySchedule::Kind::constant, 0.5, 0.5, 1, -1, 100};
        const auto pruner = pruning::Pruner::attach(*network, options);
        const auto adam = make_optimizer("keras-adam", network->named_parameters(), 3e-3);
        const Tensor images = normal({20, 32, 32, 3}, 1, 4).to(DType::bf16);
        std::vector<std::int32_t> classes;
        for (int i = 0; i < 20; ++i) classes.push_back(i % 10);
        const Tensor labels = Tensor::from({20}, classes);
        double first = 0, last = 0;
        for (int step = 0; step < 20; ++step) {
            pruner->step();
            Tape tape;
            Context context{tape, true, 1, static_cast<std::uint64_t>(step)};
            const Var loss = ops::cross_entropy((*network)(context, tape.input(images)), labels);
            tape.backward(loss);
            adam->step();
            adam->clear_gradients();
            (step == 0 ? first : last) = loss.value().item();
        }
        EXPECT_LT(last, 0.8 * first) << scheme;
        for (const auto& layer : pruning::sparsity_of(*network)) EXPECT_GE(2 * layer.zeros, layer.weights) << layer.layer;
    }
}

}  // namespace
}  // namespace bitloom::quant::qkeras
