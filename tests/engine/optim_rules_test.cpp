// The update rules: against PyTorch in double, against steps computed by hand for the Keras forms, kernels against
// kernels.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "engine/optim/optimizer.h"
#include "engine/random.h"

namespace bitloom {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

/// Parameters with names, alive as long as this is.
struct Leaves {
    explicit Leaves(std::vector<Tensor> values) {
        for (Tensor& value : values) {
            owned.push_back(std::make_unique<Parameter>(std::move(value)));
            named.emplace_back("p" + std::to_string(owned.size() - 1), owned.back().get());
        }
    }
    std::vector<std::unique_ptr<Parameter>> owned;
    NamedParameters named;
};

Tensor f64(const std::vector<double>& values, Device device = reference_device) {
    return Tensor::from<double>({static_cast<std::int64_t>(values.size())}, values, device);
}

using Make = std::function<std::unique_ptr<Optimizer>(NamedParameters)>;

/// Ten steps with gradients that depend on step, element and parameter; the rate falls tenfold before the sixth.
std::vector<double> ten_steps(const Make& make, Device device) {
    Leaves leaves({f64({0.5, -0.3, 0.05, 2.0}, device)});
    Parameter& p = *leaves.owned[0];
    const auto optimizer = make(leaves.named);
    const double base[4] = {0.3, -0.7, 0.01, 1.5};
    for (int t = 0; t < 10; ++t) {
        std::vector<double> g(4), now = p.value.values<double>();
        for (int i = 0; i < 4; ++i) g[i] = base[i] * ((t + i) % 3 ? 1 : -0.5) + 0.25 * now[i];
        p.grad = f64(g, device);
        if (t == 5) optimizer->set_learning_rate(optimizer->learning_rate() * 0.1);
        optimizer->step();
    }
    return p.value.values<double>();
}

struct PytorchCase {
    const char* name;
    Make make;
    std::vector<double> expected;  // torch 1.13, float64
};

std::vector<PytorchCase> pytorch_cases() {
    const auto sgd = [](SgdOptions o) { return [o](NamedParameters p) { return make_sgd(std::move(p), o); }; };
    const auto adam = [](AdamOptions o) { return [o](NamedParameters p) { return make_adam(std::move(p), o); }; };
    const auto rms = [](RmspropOptions o) {
        o.convention = Convention::pytorch;
        return [o](NamedParameters p) { return make_rmsprop(std::move(p), o); };
    };
    return {
        {"sgd",
         sgd({.learning_rate = 0.1}),
         {0.3716885759568394, -0.016867773020974534, 0.04131591511440339, 1.4233744156971877}},
        {"sgd_momentum",
         sgd({.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-2}),
         {0.15547392008375796, 0.4784258988598226, 0.02384946730956172, 0.4668648133641309}},
        {"nesterov",
         sgd({.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-2, .nesterov = true}),
         {0.08057408299329354, 0.62441637226849, 0.019406192254072016, 0.1274448627347831}},
        {"adam",
         adam({.learning_rate = 0.01}),
         {0.47643448280038386, -0.25553650031693853, 0.0026109956143026236, 1.9781683164958497}},
        {"adam_decay",
         adam({.learning_rate = 0.01, .beta1 = 0.8, .beta2 = 0.99, .epsilon = 1e-6, .weight_decay = 0.05}),
         {0.46405594835172514, -0.2560051509856523, 0.003099846754074517, 1.9756643390428854}},
        {"amsgrad",
         adam({.learning_rate = 0.01, .amsgrad = true}),
         {0.4764345257151517, -0.25553650031693853, 0.0026109956143026236, 1.9781683164958497}},
        {"rmsprop",
         rms({.learning_rate = 0.01, .rho = 0.99}),
         {0.37088712872765706, -0.04759706306294712, -0.004961091480283302, 1.8703344442400875}},
        {"rmsprop_momentum",
         rms({.learning_rate = 0.01, .rho = 0.9, .momentum = 0.5, .weight_decay = 0.05, .epsilon = 1e-7}),
         {0.37283003984008695, -0.15753934405448242, -0.02434093455706358, 1.9343026894604367}},
    };
}

TEST(Optimizer, MatchesPytorchInDouble) {
    for (const PytorchCase& c : pytorch_cases()) {
        for (const Device device : {reference_device, cpu_device}) {
            SCOPED_TRACE(cat(c.name, " on ", device));
            const std::vector<double> got = ten_steps(c.make, device);
            for (std::size_t i = 0; i < got.size(); ++i)
                EXPECT_NEAR(got[i], c.expected[i], 1e-12 * std::abs(c.expected[i])) << "element " << i;
        }
    }
}

/// One element, gradients and rates given, value after each step.
std::vector<double> trajectory(const Make& make, Device device, double start, const std::vector<double>& gradients,
                               const std::vector<double>& rates) {
    Leaves leaves({f64({start}, device)});
    const auto optimizer = make(leaves.named);
    std::vector<double> values;
    for (std::size_t t = 0; t < gradients.size(); ++t) {
        optimizer->set_learning_rate(rates[t]);
        leaves.owned[0]->grad = f64({gradients[t]}, device);
        optimizer->step();
        values.push_back(leaves.owned[0]->value.item());
    }
    return values;
}

void expect_near_all(const std::vector<double>& got, const std::vector<double>& expected) {
    ASSERT_EQ(got.size(), expected.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-14) << "step " << i;
}

TEST(Optimizer, KerasSgdKeepsTheRateInTheVelocity) {
    // v1 = -.2; w = .8. v2 = .5(-.2) - .1(1) = -.2; w = .6.
    const auto make = [](bool nesterov) {
        return [nesterov](NamedParameters p) {
            return make_sgd(std::move(p), {.momentum = 0.5, .nesterov = nesterov, .convention = Convention::keras});
        };
    };
    for (const Device device : {reference_device, cpu_device}) {
        expect_near_all(trajectory(make(false), device, 1.0, {2, 1}, {0.1, 0.1}), {0.8, 0.6});
        // The rate falls to 0.01: keras keeps the old velocity (-.1 - .01), PyTorch scales all of it: -.01 (1 + 1).
        expect_near_all(trajectory(make(false), device, 1.0, {2, 1}, {0.1, 0.01}), {0.8, 0.69});
        const auto pytorch = [](NamedParameters p) { return make_sgd(std::move(p), {.momentum = 0.5}); };
        expect_near_all(trajectory(pytorch, device, 1.0, {2, 1}, {0.1, 0.01}), {0.8, 0.78});
        // Nesterov: w += .5 v - lr g: 1 + (-.1 - .2) = .7; then .7 + (-.1 - .1) = .5.
        expect_near_all(trajectory(make(true), device, 1.0, {2, 1}, {0.1, 0.1}), {0.7, 0.5});
    }
}

TEST(Optimizer, KerasAdamAndAmsgradByHand) {
    // b1 = b2 = 1/2, eps = 1. t = 1, g = 2: m = 1, v = 2. t = 2, g = 0: m = .5, v = 1 (largest 2).
    const double lr = 0.25;
    const double first = 1.0 - lr * std::sqrt(0.5) / 0.5 * 1.0 / (std::sqrt(2.0) + 1.0);
    const double rate2 = lr * std::sqrt(0.75) / 0.75;
    for (const bool amsgrad : {false, true}) {
        const auto make = [amsgrad](NamedParameters p) {
            return make_adam(
                std::move(p),
                {.beta1 = 0.5, .beta2 = 0.5, .epsilon = 1.0, .amsgrad = amsgrad, .convention = Convention::keras});
        };
        const double second = first - rate2 * 0.5 / (std::sqrt(amsgrad ? 2.0 : 1.0) + 1.0);
        for (const Device device : {reference_device, cpu_device})
            expect_near_all(trajectory(make, device, 1.0, {2, 0}, {lr, lr}), {first, second});
    }
}

TEST(Optimizer, KerasRmspropByHand) {
    // rho = .75, eps = .5. g = 2: a = 1, step lr 2/1.5. g = 1: a = .75 + .25 = 1, step lr 1/1.5.
    const auto make = [](double momentum) {
        return [momentum](NamedParameters p) {
            return make_rmsprop(std::move(p), {.rho = 0.75, .momentum = momentum, .epsilon = 0.5});
        };
    };
    for (const Device device : {reference_device, cpu_device}) {
        expect_near_all(trajectory(make(0), device, 1.0, {2, 1}, {0.3, 0.3}), {0.6, 0.4});
        expect_near_all(trajectory(make(0.5), device, 1.0, {2, 1}, {0.3, 0.3}), {0.6, 0.2});
    }
}

TEST(Optimizer, EpsilonDefaultsToTheConventions) {
    // v is so small that epsilon decides: g = 1e-8, one step of Adam: m / (|g| + eps) scaled by the corrections.
    const auto step = [](Convention convention) {
        const auto make = [convention](NamedParameters p) {
            return make_adam(std::move(p), {.convention = convention});
        };
        return 1.0 - trajectory(make, reference_device, 1.0, {1e-8}, {1.0})[0];
    };
    EXPECT_NEAR(step(Convention::pytorch), 1e-8 / (1e-8 + 1e-8), 1e-9);
    const double root = std::sqrt(1 - 0.999);
    EXPECT_NEAR(step(Convention::keras), root * 1e-8 / (root * 1e-8 + 1e-7), 1e-9);
}

TEST(Optimizer, CpuKernelsEqualReferenceKernelsBitForBit) {
    // Odd sizes, so that the threads' runs end within parameters; more elements than the threshold of the parallel
    // region.
    std::vector<Tensor> values;
    std::vector<std::vector<Tensor>> gradients(3);
    Rng rng(7, "values");
    for (const std::int64_t size : {1, 17, 533000, 5, 560013, 64}) {
        values.push_back(Tensor::empty({size}));
        fill_uniform(values.back(), -1, 1, rng);
        for (auto& step : gradients) {
            step.push_back(Tensor::empty({size}));
            fill_uniform(step.back(), -0.1, 0.1, rng);
        }
    }
    const auto run = [&](const std::string& name, Device device) {
        std::vector<Tensor> start;
        for (const Tensor& value : values) start.push_back(value.clone().to(device));
        Leaves leaves(std::move(start));
        const auto optimizer = make_optimizer(name, leaves.named, 0.01, 1e-3);
        for (const auto& step : gradients) {
            for (std::size_t i = 0; i < step.size(); ++i) leaves.owned[i]->grad = step[i].to(device);
            optimizer->step();
        }
        std::vector<std::vector<float>> all;
        for (auto& p : leaves.owned) all.push_back(p->value.values<float>());
        return all;
    };
    for (const std::string& name : optimizer_names())
        EXPECT_TRUE(run(name, cpu_device) == run(name, reference_device)) << name;
}

TEST(Optimizer, FrozenAndUnreachedParametersStay) {
    Leaves leaves({f64({1}), f64({1}), f64({1})});
    const auto optimizer = make_optimizer("sgd", leaves.named, 0.5, 0.1);
    leaves.owned[0]->grad = f64({1});
    leaves.owned[1]->grad = f64({1});
    leaves.owned[1]->trainable = false;
    optimizer->step();
    EXPECT_DOUBLE_EQ(leaves.owned[0]->value.item(), 1 - 0.5 * (1 + 0.1));
    EXPECT_EQ(leaves.owned[1]->value.item(), 1);
    EXPECT_EQ(leaves.owned[2]->value.item(), 1);
    optimizer->clear_gradients();
    EXPECT_FALSE(leaves.owned[0]->grad.defined());
}

TEST(Optimizer, BiasCorrectionCountsTheParametersOwnStepsAsPytorch) {
    // The second parameter gets its first gradient in the third step; its first step has the full size lr.
    Leaves leaves({f64({0}), f64({0})});
    const auto optimizer = make_adam(leaves.named, {.learning_rate = 0.1});
    for (int t = 0; t < 3; ++t) {
        leaves.owned[0]->grad = f64({1});
        if (t == 2) leaves.owned[1]->grad = f64({1});
        optimizer->step();
    }
    EXPECT_NEAR(leaves.owned[1]->value.item(), -0.1, 1e-8);
}

TEST(Optimizer, GroupsHaveTheirOwnRateAndDecay) {
    Leaves leaves({f64({1}), f64({1})});
    const auto optimizer = make_optimizer("sgd", leaves.named, 0.5, 0, 0);
    optimizer->groups().push_back({0.25, 1.0});
    leaves.owned[1]->group = 1;
    for (auto& p : leaves.owned) p->grad = f64({1});
    optimizer->step();
    EXPECT_DOUBLE_EQ(leaves.owned[0]->value.item(), 0.5);
    EXPECT_DOUBLE_EQ(leaves.owned[1]->value.item(), 1 - 0.25 * 2);
    leaves.owned[1]->group = 2;
    EXPECT_THAT([&] { optimizer->step(); }, ThrowsMessage<Error>(HasSubstr("p1 is in group 2 of 2")));
}

TEST(Optimizer, ProjectionsSeeAllUpdates) {
    Leaves leaves({f64({1}), f64({1})});
    const auto optimizer = make_optimizer("sgd", leaves.named, 1.0, 0, 0);
    double other = 0;
    leaves.owned[0]->projection = [&](Parameter& p) {
        other = leaves.owned[1]->value.item();
        p.value.fill(std::max(p.value.item(), 0.0));
    };
    leaves.owned[0]->grad = f64({3});
    leaves.owned[1]->grad = f64({0.5});
    optimizer->step();
    EXPECT_EQ(leaves.owned[0]->value.item(), 0);
    EXPECT_EQ(other, 0.5);
}

TEST(Optimizer, RestoredStateContinuesIdentically) {
    for (const std::string& name : optimizer_names()) {
        SCOPED_TRACE(name);
        Leaves a({f64({0.5, -1}), f64({2})}), b({f64({0, 0}), f64({0})});
        const auto first = make_optimizer(name, a.named, 0.1), second = make_optimizer(name, b.named, 0.1);
        const auto advance = [](Leaves& leaves, Optimizer& optimizer, double scale) {
            leaves.owned[0]->grad = f64({0.3 * scale, -0.1});
            if (scale > 1) leaves.owned[1]->grad = f64({scale});  // unreached in the first step
            optimizer.step();
        };
        advance(a, *first, 1);
        advance(a, *first, 2);
        std::vector<std::pair<std::string, Tensor>> saved;
        for (auto& [path, tensor] : first->state()) saved.emplace_back(path, tensor.clone());
        for (int i = 0; i < 2; ++i) b.owned[i]->value = a.owned[i]->value.clone();
        second->load_state(saved, first->steps());
        advance(a, *first, 3);
        advance(b, *second, 3);
        EXPECT_EQ(first->steps(), second->steps());
        for (int i = 0; i < 2; ++i) EXPECT_EQ(a.owned[i]->value.values<double>(), b.owned[i]->value.values<double>());
    }
}

TEST(Optimizer, RefusesForeignState) {
    Leaves leaves({f64({1, 2})});
    const auto adam = make_optimizer("adam", leaves.named, 0.1), sgd = make_optimizer("sgd", leaves.named, 0.1);
    leaves.owned[0]->grad = f64({1, 1});
    sgd->step();
    EXPECT_THAT([&] { adam->load_state(sgd->state(), 1); }, ThrowsMessage<Error>(HasSubstr("lacks 'p0/exp_avg'")));
    adam->step();
    Leaves other({f64({1})});
    const auto smaller = make_optimizer("adam", other.named, 0.1);
    EXPECT_THAT([&] { smaller->load_state(adam->state(), 1); }, ThrowsMessage<Error>(HasSubstr("has shape [2]")));
    auto renamed = sgd->state();
    for (auto& [name, tensor] : renamed) name = "q" + name;
    EXPECT_THAT([&] { sgd->load_state(renamed, 1); },
                ThrowsMessage<Error>(HasSubstr("no use for the saved state 'qp0/")));
}

TEST(Optimizer, ResetForgets) {
    Leaves leaves({f64({1})});
    const auto optimizer = make_optimizer("sgd", leaves.named, 1.0);
    leaves.owned[0]->grad = f64({1});
    optimizer->step();
    optimizer->reset();
    EXPECT_EQ(optimizer->steps(), 0);
    EXPECT_TRUE(optimizer->state().empty());
    optimizer->step();
    EXPECT_DOUBLE_EQ(leaves.owned[0]->value.item(), -1);  // without the old momentum
    // A parameter that changed its shape is named until its state is dropped.
    leaves.owned[0]->value = f64({1, 1});
    leaves.owned[0]->grad = f64({1, 1});
    EXPECT_THAT([&] { optimizer->step(); }, ThrowsMessage<Error>(HasSubstr("p0 is now f64[2]")));
    optimizer->reset(*leaves.owned[0]);
    EXPECT_NO_THROW(optimizer->step());
}

TEST(Optimizer, SaysWhatIsWrong) {
    Leaves leaves({f64({1, 2})});
    EXPECT_THAT([&] { make_optimizer("lion", leaves.named, 0.1); },
                ThrowsMessage<UsageError>(HasSubstr("known: sgd, nesterov")));
    EXPECT_THROW(make_sgd(leaves.named, {.momentum = 1.5}), Error);
    EXPECT_THROW(make_sgd(leaves.named, {.momentum = 0, .nesterov = true}), Error);
    EXPECT_THROW(make_adam(leaves.named, {.learning_rate = -1}), Error);
    const auto optimizer = make_optimizer("sgd", leaves.named, 0.1);
    leaves.owned[0]->grad = f64({1});
    EXPECT_THAT([&] { optimizer->step(); }, ThrowsMessage<Error>(HasSubstr("the gradient of p0 is f64[1]")));
    leaves.owned[0]->grad = f64({1, 1}, cpu_device);
    EXPECT_THAT([&] { optimizer->step(); }, ThrowsMessage<Error>(HasSubstr("not on reference")));
}

TEST(Optimizer, SharedParameterMovesOnce) {
    Leaves leaves({f64({1})});
    leaves.named.emplace_back("tied", leaves.owned[0].get());
    const auto optimizer = make_optimizer("sgd", leaves.named, 0.5, 0, 0);
    leaves.owned[0]->grad = f64({1});
    optimizer->step();
    EXPECT_DOUBLE_EQ(leaves.owned[0]->value.item(), 0.5);
}

TEST(Optimizer, StepsRaiseTheVersion) {
    Leaves leaves({f64({1})});
    const auto optimizer = make_optimizer("sgd", leaves.named, 0.5);
    const std::uint64_t before = leaves.owned[0]->value.version();
    leaves.owned[0]->grad = f64({1});
    optimizer->step();
    EXPECT_GT(leaves.owned[0]->value.version(), before);  // caches of effective weights depend on it
}

}  // namespace
}  // namespace bitloom
