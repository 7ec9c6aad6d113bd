#include "ops/dense.h"

#include <gtest/gtest.h>

#include "tests/ops/expect_error.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;

Tensor tensor(const Shape& shape, const Values& values) { return Tensor::from(shape, values, reference_device); }

TEST(Dense, MultipliesByTheTransposedWeight) {
    Tape tape;
    const Var x = tape.input(tensor({2, 3}, {1, 2, 3, 4, 5, 6}), true);
    const Var w = tape.input(tensor({2, 3}, {1, 10, 100, 2, 0, -1}), true);
    const Var b = tape.input(tensor({2}, {1000, 7}), true);
    const Var y = dense(x, w, b);
    EXPECT_EQ(y.shape(), (Shape{2, 2}));
    EXPECT_EQ(y.value().values<double>(), (Values{1321, 6, 1654, 9}));
    tape.backward(y, tensor({2, 2}, {1, 2, 3, 4}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{5, 10, 98, 11, 30, 296}));
    EXPECT_EQ(tape.grad(w).values<double>(), (Values{13, 17, 21, 18, 24, 30}));
    EXPECT_EQ(tape.grad(b).values<double>(), (Values{4, 6}));
}

TEST(Dense, BiasAloneIsTrainedWithoutTheWeight) {
    Tape tape;
    const Var b = tape.input(tensor({2}, {1, 2}), true);
    const Var y = dense(tape.constant(tensor({3, 1}, {1, 2, 3})), tape.constant(tensor({2, 1}, {1, 1})), b);
    tape.backward(y, tensor({3, 2}, {1, 10, 2, 20, 3, 30}));
    EXPECT_EQ(tape.grad(b).values<double>(), (Values{6, 60}));
}

TEST(Dense, SaysWhatDisagrees) {
    Tape tape;
    const auto zeros = [&](Shape shape) { return tape.constant(Tensor::zeros(shape, DType::f64, reference_device)); };
    expect_error([&] { dense(zeros({2, 3}), zeros({4, 5}), Var()); }, "dense: input has 3 features, weight expects 5");
    expect_error(
        [&] {
            dense(zeros({2, 3, 1}), zeros({4, 3}), Var());
        },
        "dense: input must be [batch, in], got [2, 3, 1]");
    expect_error([&] { dense(zeros({2, 3}), zeros({4}), Var()); }, "dense: weight must be [out, in], got [4]");
    expect_error([&] { dense(zeros({2, 3}), zeros({4, 3}), zeros({3})); }, "dense: bias has shape [3], expected [4]");
}

TEST(BiasAdd, AddsAlongTheLastAxis) {
    Tape tape;
    const Var x = tape.input(tensor({1, 2, 1, 2}, {1, 2, 3, 4}), true), b = tape.input(tensor({2}, {10, 20}), true);
    const Var y = bias_add(x, b);
    EXPECT_EQ(y.value().values<double>(), (Values{11, 22, 13, 24}));
    tape.backward(y, tensor({1, 2, 1, 2}, {1, 2, 4, 8}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{1, 2, 4, 8}));
    EXPECT_EQ(tape.grad(b).values<double>(), (Values{5, 10}));
}

TEST(BiasAdd, SaysWhatDisagrees) {
    Tape tape;
    const auto zeros = [&](Shape shape) { return tape.constant(Tensor::zeros(shape, DType::f64, reference_device)); };
    expect_error([&] { bias_add(zeros({2, 3}), zeros({2})); }, "bias_add: bias has shape [2], expected [3]");
}

}  // namespace
}  // namespace bitloom::ops::test
