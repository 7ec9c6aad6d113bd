#include "models/regularizers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "models/registry.h"

namespace bitloom {
namespace {

std::unique_ptr<Module> lenet() {
    ModelOptions options;
    options.name = "lenet5";
    auto network = make_model(options);
    network->to(DType::f64);
    network->to(reference_device);
    return network;
}

TEST(Regularizers, TakeKernelsOnly) {
    const auto network = lenet();
    std::vector<std::string> names;
    for (const Parameter* p : kernels_of(*network)) names.push_back(p->path);
    EXPECT_EQ(names,
              (std::vector<std::string>{"conv1.weight", "conv2.weight", "fc1.weight", "fc2.weight", "fc3.weight"}));
}

TEST(Regularizers, ValueAndGradient) {
    const auto network = lenet();
    const auto kernels = kernels_of(*network);
    kernels[0]->value.write<double>()[0] = 0;  // the kink
    double l1 = 0, l2 = 0;
    for (const Parameter* p : kernels)
        for (double w : p->value.values<double>()) l1 += std::abs(w), l2 += w * w;
    Tape tape;
    Context context{tape, true};
    const Var first = l1_regularizer(kernels, 0.5)(context);
    EXPECT_NEAR(first.value().item(), 0.5 * l1, 1e-9 * l1);
    tape.backward(first);
    for (const Parameter* p : kernels) {
        const auto w = p->value.values<double>(), g = p->grad.values<double>();
        for (std::size_t i = 0; i < w.size(); ++i) ASSERT_EQ(g[i], w[i] > 0 ? 0.5 : w[i] < 0 ? -0.5 : 0.0);
    }
    tape.reset();
    const Var second = l2_regularizer(kernels, 0.25)(context);
    EXPECT_NEAR(second.value().item(), 0.25 * l2, 1e-9 * l2);
    tape.backward(second);
    const auto w = kernels[2]->value.values<double>(), g = kernels[2]->grad.values<double>();
    for (std::size_t i = 0; i < w.size(); ++i) ASSERT_NEAR(g[i], 0.5 * w[i], 1e-15);
}

TEST(Regularizers, NothingToPenaliseIsAnError) { EXPECT_THROW(l1_regularizer({}, 1), Error); }

}  // namespace
}  // namespace bitloom
