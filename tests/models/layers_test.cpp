// Behaviour of the layers that gradients do not show.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/graph.h"
#include "engine/random.h"
#include "models/initializers.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"

namespace bitloom::layers {
namespace {

using testing::DoubleNear;
using testing::ElementsAre;
using testing::Pointwise;

Tensor random_tensor(const Shape& shape, DType dtype, Device device, std::uint64_t seed = 1) {
    Tensor t = Tensor::empty(shape, dtype, device);
    Rng rng(seed, "layers test");
    fill_uniform(t, -1, 1, rng);
    return t;
}

Var run(Module& module, Tape& tape, const Tensor& x, bool training = false, std::uint64_t step = 0) {
    Context context{tape};
    context.training = training;
    context.seed = 9;
    context.step = step;
    return module(context, tape.input(x));
}

TEST(BatchNormLayer, MovingAveragesFollowTheirConvention) {
    // Channel 0 of a 4-D input with values 1, 2, 3, 4: mean 2.5, biased variance 1.25, unbiased 5/3.
    const auto moving_variance = [](MovingVariance convention, const Shape& shape) {
        BatchNorm bn({1, 1e-3, 0.25, convention});
        bn.to(DType::f64);
        bn.to(reference_device);
        Tape tape(Tape::Mode::inference);
        run(bn, tape, Tensor::from<double>(shape, std::vector<double>{1, 2, 3, 4}, reference_device), true);
        EXPECT_DOUBLE_EQ(bn.running_mean.item(), 0.25 * 2.5);
        EXPECT_EQ(bn.num_batches_tracked.item(), 1);
        return bn.running_var.item();
    };
    const double biased = 0.75 + 0.25 * 1.25, unbiased = 0.75 + 0.25 * 5 / 3;
    const Shape map{1, 2, 2, 1}, rows{4, 1};
    EXPECT_DOUBLE_EQ(moving_variance(MovingVariance::unbiased, map), unbiased);
    EXPECT_DOUBLE_EQ(moving_variance(MovingVariance::unbiased, rows), unbiased);
    EXPECT_DOUBLE_EQ(moving_variance(MovingVariance::keras_fused, map), unbiased);
    EXPECT_DOUBLE_EQ(moving_variance(MovingVariance::keras_fused, rows), biased);
    EXPECT_DOUBLE_EQ(moving_variance(MovingVariance::biased, map), biased);
}

TEST(BatchNormLayer, InferenceUsesAndKeepsTheMovingAverages) {
    BatchNorm bn(keras_batch_norm(1));
    bn.running_mean.fill(3);
    bn.running_var.fill(4);
    bn.weight.value.fill(2);
    bn.bias.value.fill(1);
    bn.to(reference_device);
    Tape tape(Tape::Mode::inference);
    const Var y = run(bn, tape, Tensor::from<float>({2, 1}, std::vector<float>{3, 5}, reference_device));
    EXPECT_FLOAT_EQ(y.value().values<float>()[0], 1);
    EXPECT_FLOAT_EQ(y.value().values<float>()[1], static_cast<float>(1 + 2 * 2 / std::sqrt(4.001)));
    EXPECT_EQ(bn.running_mean.item(), 3);
    EXPECT_EQ(bn.num_batches_tracked.item(), 0);
}

/// Only looks on; that alone makes norm_act run its modules one by one.
class Onlooker final : public CallObserver {
   public:
    void after_call(Module& module, std::span<const Var>, Var&) override { seen.emplace_back(module.type()); }
    std::vector<std::string> seen;
};

struct NormActResult {
    std::vector<double> y, dx, dr, dgamma, dbeta, mean, variance;
};

NormActResult run_norm_act(DType dtype, Device device, bool training, bool with_residual, bool with_relu,
                           CallObserver* observer) {
    BatchNorm bn(pytorch_batch_norm(5));
    Add add;
    ReLU relu;
    bn.assign_paths("bn");
    bn.running_var.fill(0.7);
    bn.to(dtype);
    bn.to(device);
    bn.weight.value.copy_from(random_tensor({5}, DType::f64, reference_device, 4));
    bn.bias.value.copy_from(random_tensor({5}, DType::f64, reference_device, 5));
    Tape tape;
    Context context{tape};
    context.training = training;
    context.observer = observer;
    const Shape shape{3, 5, 7, 5};
    const Var x = tape.input(random_tensor(shape, dtype, device, 1), true);
    const Var residual = tape.input(random_tensor(shape, dtype, device, 2), true);
    const Var y = norm_act(context, bn, &add, with_relu ? &relu : nullptr, x, with_residual ? &residual : nullptr);
    tape.backward(y, random_tensor(shape, dtype, device, 3));
    const auto values = [](const Tensor& t) { return t.defined() ? t.values<double>() : std::vector<double>(); };
    return {values(y.value()),    values(tape.grad(x)),    values(tape.grad(residual)), values(bn.weight.grad),
            values(bn.bias.grad), values(bn.running_mean), values(bn.running_var)};
}

void expect_close(const NormActResult& a, const NormActResult& b, double tolerance) {
    EXPECT_THAT(a.y, Pointwise(DoubleNear(tolerance), b.y));
    EXPECT_THAT(a.dx, Pointwise(DoubleNear(tolerance), b.dx));
    EXPECT_THAT(a.dr, Pointwise(DoubleNear(tolerance), b.dr));
    EXPECT_THAT(a.dgamma, Pointwise(DoubleNear(tolerance * 100), b.dgamma));
    EXPECT_THAT(a.dbeta, Pointwise(DoubleNear(tolerance * 100), b.dbeta));
    EXPECT_THAT(a.mean, Pointwise(DoubleNear(tolerance), b.mean));
    EXPECT_THAT(a.variance, Pointwise(DoubleNear(tolerance), b.variance));
}

TEST(NormAct, FusedAndPlainPathsAgree) {
    for (const bool training : {false, true})
        for (const bool residual : {false, true})
            for (const bool relu : {false, true}) {
                SCOPED_TRACE(cat("training ", training, " residual ", residual, " relu ", relu));
                Onlooker onlooker;
                const NormActResult plain =
                    run_norm_act(DType::f64, reference_device, training, residual, relu, &onlooker);
                std::vector<std::string> expected{"BatchNorm"};
                if (residual) expected.emplace_back("Add");
                if (relu) expected.emplace_back("ReLU");
                EXPECT_EQ(onlooker.seen, expected);
                expect_close(run_norm_act(DType::f64, reference_device, training, residual, relu, nullptr), plain,
                             1e-12);
                Onlooker again;
                expect_close(run_norm_act(DType::f32, cpu_device, training, residual, relu, nullptr),
                             run_norm_act(DType::f32, cpu_device, training, residual, relu, &again), 2e-6);
            }
}

/// Stands in for a quantized activation.
class Negate final : public ActivationTransform {
   public:
    std::string_view name() const override { return "negate"; }
    Var apply(Context&, Module&, const Var& x) override {
        Tensor y = Tensor::empty_like(x.value());
        for (std::int64_t i = 0; i < y.numel(); ++i) y.write<float>()[i] = -x.value().read<float>()[i];
        return x.tape().constant(y);
    }
};

TEST(NormAct, GivesWayToHooks) {
    Sequential chain;
    chain.append<BatchNorm>("bn", pytorch_batch_norm(1));
    auto& relu = chain.append<ReLU>("relu");
    chain.assign_paths();
    chain.to(reference_device);
    const Tensor x = Tensor::from<float>({2, 1}, std::vector<float>{-2, 3}, reference_device);
    Tape tape(Tape::Mode::inference);
    EXPECT_GE(run(chain, tape, x).value().values<float>()[0], 0);
    relu.activation_transform = std::make_shared<Negate>();
    EXPECT_NEAR(run(chain, tape, x).value().values<float>()[0], 2, 1e-4);
    relu.activation_transform = nullptr;
    chain.at("bn").output_transform = std::make_shared<Negate>();
    EXPECT_NEAR(run(chain, tape, x).value().values<float>()[0], 2, 1e-4);
}

TEST(Padding, SameFollowsTheSizeOfTheInput) {
    const PaddingRule same = PaddingRule::same();
    EXPECT_EQ(same.resolve(32, 3, 2), (ops::Padding{0, 1, 0, 1}));
    EXPECT_EQ(same.resolve({15, 32}, 3, 2), (ops::Padding{1, 1, 0, 1}));
    EXPECT_EQ(same.resolve(32, 3, 1), ops::Padding::symmetric(1));
    EXPECT_EQ(same.resolve(7, 3, 1, 2), ops::Padding::symmetric(2));
    EXPECT_EQ(PaddingRule::symmetric(2).resolve(7, 3, 1), ops::Padding::symmetric(2));
    EXPECT_EQ(PaddingRule::valid().resolve(7, 3, 1), ops::Padding{});
}

TEST(Pooling, SameKeepsTheRemainderThatValidDrops) {
    Tape tape(Tape::Mode::inference);
    const Tensor x = random_tensor({1, 13, 13, 2}, DType::f32, reference_device);
    MaxPool2d valid, same({.padding = PaddingRule::same()});
    EXPECT_EQ(run(valid, tape, x).shape(), (Shape{1, 6, 6, 2}));
    EXPECT_EQ(run(same, tape, x).shape(), (Shape{1, 7, 7, 2}));
}

TEST(OptionA, TakesEverySecondCellAndPadsChannels) {
    OptionAShortcut shortcut(2, 4);
    Tape tape(Tape::Mode::inference);
    std::vector<float> values(18);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
    const Var y = run(shortcut, tape, Tensor::from<float>({1, 3, 3, 2}, values, reference_device));
    EXPECT_EQ(y.shape(), (Shape{1, 2, 2, 4}));
    EXPECT_THAT(y.value().values<float>(), ElementsAre(0, 1, 2, 0, 0, 5, 6, 0, 0, 13, 14, 0, 0, 17, 18, 0));
    EXPECT_THROW(OptionAShortcut(3, 4), Error);
}

TEST(DropoutLayer, DropsInTrainingOnlyAndByStep) {
    Dropout dropout(0.5);
    dropout.assign_paths("dropout_1");
    const Tensor x = Tensor::full({40, 50}, 1, DType::f32, reference_device);
    Tape tape(Tape::Mode::inference);
    EXPECT_EQ(run(dropout, tape, x).value().values<float>(), x.values<float>());
    const std::vector<float> first = run(dropout, tape, x, true, 3).value().values<float>();
    EXPECT_EQ(run(dropout, tape, x, true, 3).value().values<float>(), first);
    EXPECT_NE(run(dropout, tape, x, true, 4).value().values<float>(), first);
    for (const float v : first) EXPECT_TRUE(v == 0 || v == 2);
    const auto kept = static_cast<double>(std::count(first.begin(), first.end(), 2.0f)) / 2000;
    EXPECT_NEAR(kept, 0.5, 0.05);
    Dropout other(0.5);
    other.assign_paths("dropout_2");
    EXPECT_NE(run(other, tape, x, true, 3).value().values<float>(), first) << "two sites must not share their mask";
    EXPECT_THROW(Dropout(1.0), Error);
    EXPECT_THROW(DropPath(-0.1), Error);
}

TEST(DropPathLayer, DropsWholeSamples) {
    DropPath layer(0.5);
    layer.assign_paths("path");
    Tape tape(Tape::Mode::inference);
    const std::vector<float> y =
        run(layer, tape, Tensor::full({64, 3}, 1, DType::f32, reference_device), true).value().values<float>();
    int kept = 0;
    for (std::size_t n = 0; n < 64; ++n) {
        EXPECT_TRUE(y[3 * n] == 0 || y[3 * n] == 2);
        EXPECT_EQ(y[3 * n], y[3 * n + 1]);
        EXPECT_EQ(y[3 * n], y[3 * n + 2]);
        kept += y[3 * n] != 0;
    }
    EXPECT_GT(kept, 16);
    EXPECT_LT(kept, 48);
}

TEST(Initializers, HaveTheirSpread) {
    const std::int64_t in = 24, out = 40;
    Dense dense({.in = in, .out = out});
    dense.assign_paths("dense");
    const auto moments = [&](Initializer which) {
        double largest = 0, squares = 0;
        for (std::uint64_t seed = 0; seed < 20; ++seed) {
            initialize(dense.weight, which, {in, out}, seed);
            for (const float w : dense.weight.value.values<float>()) {
                largest = std::max(largest, std::abs(static_cast<double>(w)));
                squares += static_cast<double>(w) * w;
            }
        }
        return std::pair(largest, squares / (20 * in * out));
    };
    const auto expect_uniform = [&](Initializer which, double limit) {
        const auto [largest, variance] = moments(which);
        EXPECT_LE(largest, limit);
        EXPECT_GE(largest, 0.99 * limit);
        EXPECT_NEAR(variance, limit * limit / 3, 0.03 * limit * limit / 3);
    };
    expect_uniform(Initializer::lecun_uniform, std::sqrt(3.0 / in));
    expect_uniform(Initializer::glorot_uniform, std::sqrt(6.0 / (in + out)));
    expect_uniform(Initializer::he_uniform, std::sqrt(6.0 / in));
    expect_uniform(Initializer::fan_in_uniform, 1 / std::sqrt(static_cast<double>(in)));
    EXPECT_NEAR(moments(Initializer::kaiming_normal_fan_in).second, 2.0 / in, 0.04 * 2 / in);
    EXPECT_NEAR(moments(Initializer::kaiming_normal_fan_out).second, 2.0 / out, 0.04 * 2 / out);
    EXPECT_EQ(moments(Initializer::zeros).first, 0);
    EXPECT_EQ(moments(Initializer::ones), std::pair(1.0, 1.0));
}

TEST(Initializers, CountFansPerGroup) {
    Conv2d grouped({.in = 8, .out = 6, .kernel = {3, 5}, .groups = 2});
    EXPECT_EQ(grouped.fans().in, 3 * 5 * 4);
    EXPECT_EQ(grouped.fans().out, 3 * 5 * 6);
    DepthwiseConv2d depthwise({.in = 8}, 2);
    EXPECT_EQ(depthwise.fans().in, 9);
    EXPECT_EQ(depthwise.weight.value.shape(), (Shape{16, 3, 3, 1}));
}

TEST(Initializers, DoNotDependOnTheOrderOfConstruction) {
    Sequential a, b;
    a.append<Dense>("one", DenseConfig{.in = 3, .out = 4});
    a.append<Dense>("two", DenseConfig{.in = 4, .out = 3});
    b.append<Dense>("two", DenseConfig{.in = 4, .out = 3});
    b.append<Dense>("one", DenseConfig{.in = 3, .out = 4});
    EXPECT_THROW(initialize(a, 1), Error) << "without paths every parameter would draw the same stream";
    for (Sequential* network : {&a, &b}) {
        network->assign_paths();
        initialize(*network, 1);
    }
    const auto weights = [](Sequential& s, const char* path) {
        return dynamic_cast<Dense&>(s.at(path)).weight.value.values<float>();
    };
    EXPECT_EQ(weights(a, "one"), weights(b, "one"));
    EXPECT_EQ(weights(a, "two"), weights(b, "two"));
    EXPECT_NE(weights(a, "one"), weights(a, "two"));
}

TEST(Layers, SayWhatIsWrong) {
    EXPECT_THROW(Conv2d({.in = 3, .out = 4, .groups = 2}), Error);
    EXPECT_THROW(Conv2d({.in = 3, .out = 0}), Error);
    EXPECT_THROW(Dense({.in = 5, .out = 2, .flattened_from = {2, 2, 2}}), Error);
    EXPECT_THROW(BatchNorm({0}), Error);
    EXPECT_THROW(make_activation("rellu"), UsageError);
    Tape tape(Tape::Mode::inference);
    Conv2d conv({.in = 3, .out = 4});
    conv.to(reference_device);
    conv.assign_paths("conv1");
    EXPECT_THROW(run(conv, tape, Tensor::zeros({2, 3}, DType::f32, reference_device)), Error);
    EXPECT_THROW(run(conv, tape, Tensor::zeros({1, 5, 5, 2}, DType::f32, reference_device)), Error);
    Add add;
    EXPECT_THROW(run(add, tape, Tensor::zeros({2, 3})), Error);
}

}  // namespace
}  // namespace bitloom::layers
