// The CPU kernels of bit planes against the reference, the reference against the spec's examples, threads against one thread.

#include <gtest/gtest.h>

#include <cmath>

#include "engine/random.h"
#include "engine/threads.h"
#include "models/layers/activation.h"
#include "models/layers/dense.h"
#include "ops/pointwise.h"
#include "ops/reduction.h"
#include "quant/bsq/activation.h"
#include "quant/bsq/group_lasso.h"
#include "tests/quant/kernel_rows.h"

namespace bitloom::bsq {
namespace {

constexpr Device reference{DeviceKind::reference};

Tensor random_tensor(const Shape& shape, double low, double high, Rng& rng) {
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    for (float& v : values) v = static_cast<float>(low + (high - low) * rng.uniform());
    return Tensor::from(shape, values);
}

struct Result {
    Tensor weights, norms, dplanes, dscale;
};
Result run(Device device, const QuantizationRule& rule, const Tensor& planes, const Tensor& dweights) {
    const Tensor p = planes.to(device), scale = Tensor::full({1}, 0.37, DType::f32, device), dw = dweights.to(device);
    Result r{Tensor::empty(dweights.shape(), DType::f32, device), Tensor::empty({rule.bits}, DType::f64, device),
             Tensor::empty_like(p), Tensor::empty_like(scale)};
    const BsqKernels& k = bsq_kernels(device);
    k.planes_to_weights(rule, p, scale, r.weights, &r.norms);
    const GroupNorms norms{&r.norms, 12.5};
    const Tensor dnorm = Tensor::full({1}, 0.01, DType::f32, device);
    k.planes_backward(rule, p, scale, dw, &norms, &dnorm, r.dplanes, r.dscale);
    return r;
}
TEST(BsqKernels, CpuAgreesWithTheReferenceOverSizesAndPrecisions) { quant::test::expect_bit_planes(cpu_device); }
TEST(BsqKernels, FixedPrecisionAndActivationsAgreeWithTheReference) {
    quant::test::expect_fixed_precision_and_activations(cpu_device);
}
TEST(BsqKernels, TheRegulariserOfAnyNumberOfTensors) { quant::test::expect_group_lasso(reference); }

TEST(BsqKernels, TheSameBitsWithAnyNumberOfThreads) {
    Rng rng(4, "kernels", 0);
    const Tensor planes = random_tensor({8, 2, 40000}, 0, 2, rng), dw = random_tensor({40000}, -1, 1, rng);
    const ThreadScope one(1);
    const Result a = run(cpu_device, {8, false, true}, planes, dw);
    const ThreadScope three(3);
    const Result b = run(cpu_device, {8, false, true}, planes, dw);
    EXPECT_EQ(a.weights.values<float>(), b.weights.values<float>());
    EXPECT_EQ(a.dplanes.values<float>(), b.dplanes.values<float>());
    EXPECT_EQ(a.dscale.item(), b.dscale.item());
    EXPECT_EQ(a.norms.values<double>(), b.norms.values<double>());
}

/// Example B: linear 2 -> 1, n = 2, scale 0.6.
struct ExampleB {
    layers::Dense layer{layers::DenseConfig{.in = 2, .out = 1, .bias = false}};
    std::shared_ptr<BitWeight> weight;
    explicit ExampleB(Device device) {
        layer.assign_paths("layer");
        weight = std::make_shared<BitWeight>(layer.weight);
        // [n, 2, 1, 2]: p_0, n_0, p_1, n_1 of both inputs
        weight->set({Tensor::from({2, 2, 1, 2}, std::vector<float>{1.2f, 2.0f, 0.1f, 0, 0.3f, 1.5f, 0.9f, 0}), 0.6f, false});
        layer.to(device);
    }
};

TEST(BitWeight, ForwardAndBackwardOfExampleB) {
    for (const Device device : {cpu_device, reference}) {
        ExampleB b(device);
        Tape tape;
        Context context{tape, true};
        const Var x = tape.input(Tensor::from({1, 2}, std::vector<float>{1, -2}, device), true);
        const Var y = b.layer(context, x);
        EXPECT_NEAR(y.value().item(), -0.8, 1e-6);
        tape.backward(y, Tensor::full({1, 1}, 3, DType::f32, device));
        const std::vector<float> dx = tape.grad(x).values<float>(), dp = b.weight->planes().grad.values<float>();
        EXPECT_NEAR(dx[0], 1.2, 1e-6);
        EXPECT_NEAR(dx[1], 1.8, 1e-6);
        EXPECT_NEAR(b.weight->scale().grad.item(), -4, 1e-5);
        const double expected[] = {1.2, -2.4, -1.2, 2.4, 0.6, -1.2, -0.6, 1.2};
        for (std::size_t i = 0; i < 8; ++i) EXPECT_NEAR(dp[i], expected[i], 1e-6) << i;
        EXPECT_FALSE(b.layer.weight.grad.defined());  // the master rests
    }
}

TEST(GroupLasso, ValueAndGradientOfExampleC) {
    for (const Device device : {cpu_device, reference})
        for (const bool with_forward : {true, false}) {
            ExampleB b(device);
            const auto lasso = std::make_shared<GroupLasso>(std::vector{b.weight}, 1);
            Tape tape;
            Context context{tape, true};
            Var nothing;
            if (with_forward) nothing = ops::scale(ops::reduce_sum(b.layer.weight.effective(context)), 0);
            const Var penalty = (*lasso)(context, 0.5);
            EXPECT_NEAR(penalty.value().item(), 0.5 * 16.437389, 1e-5);
            EXPECT_NEAR(lasso->value(), 16.437389, 1e-5);
            if (!with_forward) continue;  // its gradient comes with that of the weights
            tape.backward(ops::add(nothing, penalty));
            const std::vector<float> dp = b.weight->planes().grad.values<float>();
            const double expected[] = {2.056094, 3.426823, 0.171341, 0, 0.676123, 3.380617, 2.028370, 0};
            for (std::size_t i = 0; i < 8; ++i) EXPECT_NEAR(dp[i], 0.5 * expected[i], 1e-5) << i;
        }
}

TEST(GroupLasso, WithoutReweighingEveryGroupCountsOnce) {
    ExampleB b(cpu_device);
    const auto lasso = std::make_shared<GroupLasso>(std::vector{b.weight}, 1000, false);
    Tape tape;
    Context context{tape, true};
    (*lasso)(context, 1);
    EXPECT_NEAR(lasso->value(), 16.437389 / 4, 1e-5);
}

TEST(BsqActivation, ExamplesFAndG) {
    layers::ReLU site;
    site.assign_paths("relu");
    Tape tape;
    Context context{tape, true};
    const Var f = tape.input(Tensor::from({12}, std::vector<float>{0, .1f, .2f, .3f, .4f, .5f, .7f, .9f, 1.1f, 1.5f, 3, 6}));
    const std::vector<float> y = BsqActivation({ActivationKind::relu6, 4}).apply(context, site, f).value().values<float>();
    const double expected[] = {0, 0, 0, .4, .4, .4, .8, .8, 1.2, 1.6, 3.2, 6};
    for (std::size_t i = 0; i < 12; ++i) EXPECT_NEAR(y[i], expected[i], 1e-6);

    BsqActivation pact({ActivationKind::pact, 0}, 2.5);
    const Var x = tape.input(Tensor::from({5}, std::vector<float>{-1, 0, 1, 2.5f, 3.5f}), true);
    const Var g = pact.apply(context, site, x);
    EXPECT_EQ(g.value().values<float>(), (std::vector<float>{0, 0, 1, 2.5f, 2.5f}));
    tape.backward(g, Tensor::full({5}, 1));
    EXPECT_EQ(tape.grad(x).values<float>(), (std::vector<float>{0, 1, 1, 1, 0}));
    EXPECT_EQ(pact.alpha().grad.item(), 2);
}

TEST(BsqActivation, AllZerosStayZeros) {
    layers::ReLU site;
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    const Var y = BsqActivation({ActivationKind::relu, 4}).apply(context, site, tape.input(Tensor::full({20}, -1)));
    EXPECT_EQ(y.value().values<float>(), std::vector<float>(20, 0.0f));
}

}  // namespace
}  // namespace bitloom::bsq
