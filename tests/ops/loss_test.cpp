#include "ops/loss.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/ops/expect_error.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;

Tensor tensor(const Shape& shape, const Values& values, Device device = reference_device) {
    return Tensor::from(shape, values, device);
}
Tensor labels(const std::vector<std::int32_t>& values, Device device = reference_device) {
    return Tensor::from(Shape{static_cast<std::int64_t>(values.size())}, values, device);
}

TEST(Softmax, OfLogarithmsIsTheirProportion) {
    Tape tape;
    const Var y = softmax(tape.constant(tensor({2, 3}, {std::log(1.0), std::log(2.0), std::log(5.0), 7, 7, 7})));
    const Values expected{0.125, 0.25, 0.625, 1.0 / 3, 1.0 / 3, 1.0 / 3};
    const Values p = y.value().values<double>();
    for (std::size_t i = 0; i < p.size(); ++i) EXPECT_NEAR(p[i], expected[i], 1e-15);
    const Values log_p =
        log_softmax(tape.constant(tensor({3}, {0, std::log(2.0), std::log(5.0)}))).value().values<double>();
    for (std::size_t i = 0; i < 3; ++i) EXPECT_NEAR(log_p[i], std::log(expected[i]), 1e-15);
}

TEST(Softmax, LargeLogitsStayFinite) {
    for (const Device device : {reference_device, cpu_device}) {
        Tape tape;
        const Var x = tape.input(tensor({2, 2}, {1000, 0, -1000, 0}, device).to(DType::f32), true);
        EXPECT_EQ(softmax(x).value().values<double>(), (Values{1, 0, 0, 1})) << device;
        EXPECT_EQ(log_softmax(x).value().values<double>(), (Values{0, -1000, -1000, 0})) << device;
        const Var loss = cross_entropy(x, labels({1, 1}, device));
        EXPECT_EQ(loss.value().item(), 500) << device;
        tape.backward(loss);
        EXPECT_EQ(tape.grad(x).values<double>(), (Values{0.5, -0.5, 0, 0})) << device;
    }
}

TEST(CrossEntropy, ByHand) {
    Tape tape;
    // Softmax of the rows: (1/4, 3/4) and (1/2, 1/2).
    const Var z = tape.input(tensor({2, 2}, {0, std::log(3.0), 4, 4}), true);
    const Tensor y = labels({0, 1});
    const Var loss = cross_entropy(z, y);
    EXPECT_EQ(loss.shape(), (Shape{1}));
    EXPECT_NEAR(loss.value().item(), (std::log(4.0) + std::log(2.0)) / 2, 1e-15);
    const Values losses = cross_entropy_per_sample(z.value(), y).values<double>();
    ASSERT_EQ(losses.size(), 2u);
    EXPECT_NEAR(losses[0], std::log(4.0), 1e-15);
    EXPECT_NEAR(losses[1], std::log(2.0), 1e-15);
    tape.backward(loss, tensor({1}, {8}));
    const Values expected{-3, 3, 2, -2}, grad = tape.grad(z).values<double>();
    for (std::size_t i = 0; i < 4; ++i) EXPECT_NEAR(grad[i], expected[i], 1e-14);
}

TEST(CrossEntropy, KeepsLogSumExpExactNearTheCorrectClass) {
    // -log p of a confident, correct sample: log(1 + exp(-30)); a softmax followed by a logarithm would round it to 0.
    Tape tape;
    const double loss = cross_entropy(tape.constant(tensor({1, 2}, {30, 0})), labels({0})).value().item();
    EXPECT_NEAR(loss, std::exp(-30.0), 1e-16);
    EXPECT_GE(loss, 0);
}

TEST(CrossEntropy, SaysWhatDisagrees) {
    Tape tape;
    const Var z = tape.constant(tensor({2, 3}, {1, 2, 3, 4, 5, 6}));
    expect_error([&] { cross_entropy(z, labels({0, 3})); }, "cross_entropy: label 3 of sample 1 is outside [0, 3)");
    expect_error([&] { cross_entropy(z, labels({-1, 0})); }, "cross_entropy: label -1 of sample 0 is outside [0, 3)");
    expect_error([&] { cross_entropy(z, labels({0})); }, "cross_entropy: labels have shape [1], expected [2]");
    expect_error([&] { cross_entropy(z, tensor({2}, {0, 1})); }, "cross_entropy: labels must be i32, got f64");
    expect_error(
        [&] {
            cross_entropy(z, labels({0, 1}, cpu_device));
        },
        "cross_entropy: labels are on cpu, logits on reference");
    expect_error(
        [&] {
            cross_entropy(tape.constant(tensor({3}, {1, 2, 3})), labels({0}));
        },
        "cross_entropy: logits must be [batch, classes], got [3]");
}

}  // namespace
}  // namespace bitloom::ops::test
