#include "ops/reduction.h"

#include <gtest/gtest.h>

#include <array>

#include "tests/ops/expect_error.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;

Tensor tensor(const Shape& shape, const Values& values) { return Tensor::from(shape, values, reference_device); }

TEST(Reduction, SumsOverTheGivenAxes) {
    Tape tape;
    const Var x = tape.input(tensor({2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}), true);
    EXPECT_EQ(reduce_sum(x).shape(), (Shape{1}));
    EXPECT_EQ(reduce_sum(x).value().item(), 36);
    EXPECT_EQ(reduce_sum(x, {}, true).shape(), (Shape{1, 1, 1}));
    const Var y = reduce_sum(x, std::array{0, -1});
    EXPECT_EQ(y.shape(), (Shape{2}));
    EXPECT_EQ(y.value().values<double>(), (Values{14, 22}));
    EXPECT_EQ(reduce_sum(x, std::array{1}, true).shape(), (Shape{2, 1, 2}));
    tape.backward(y, tensor({2}, {10, 20}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{10, 10, 20, 20, 10, 10, 20, 20}));
}

TEST(Reduction, MeanDividesByTheCount) {
    Tape tape;
    const Var x = tape.input(tensor({2, 4}, {1, 2, 3, 6, -1, 0, 0, 5}), true);
    const Var y = reduce_mean(x, std::array{1});
    EXPECT_EQ(y.value().values<double>(), (Values{3, 1}));
    tape.backward(y, tensor({2}, {4, 8}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{1, 1, 1, 1, 2, 2, 2, 2}));
}

TEST(Reduction, MaximumSendsTheGradientToTheFirst) {
    for (const Device device : {reference_device, cpu_device}) {
        Tape tape;
        const Var x = tape.input(Tensor::from(Shape{2, 3}, Values{1, 7, 7, -2, -2, -5}, device).to(DType::f32), true);
        const Var rows = reduce_max(x, std::array{1});
        EXPECT_EQ(rows.value().values<double>(), (Values{7, -2})) << device;
        tape.backward(rows, Tensor::from(Shape{2}, std::vector<float>{3, 4}, device));
        EXPECT_EQ(tape.grad(x).values<double>(), (Values{0, 3, 0, 4, 0, 0})) << device;

        Tape columns_tape;
        const Var z =
            columns_tape.input(Tensor::from(Shape{2, 3}, std::vector<float>{1, 7, 2, 1, -2, 5}, device), true);
        const Var columns = reduce_max(z, std::array{0}, true);
        EXPECT_EQ(columns.shape(), (Shape{1, 3}));
        columns_tape.backward(columns);
        EXPECT_EQ(columns_tape.grad(z).values<double>(), (Values{1, 1, 0, 0, 0, 1})) << device;
    }
}

TEST(Reduction, EmptySumsAreZeroAndEmptyMaximaAnError) {
    Tape tape;
    const Var x = tape.constant(Tensor::empty({2, 0}, DType::f64, reference_device));
    EXPECT_EQ(reduce_sum(x, std::array{1}).value().values<double>(), (Values{0, 0}));
    expect_error([&] { reduce_max(x, std::array{1}); },
                 "reduce_max: no elements to compare in an input of shape [2, 0]");
    expect_error([&] { reduce_mean(x); }, "reduce_mean: no elements to average in an input of shape [2, 0]");
}

TEST(Reduction, SaysWhatIsWrong) {
    Tape tape;
    const Var x = tape.constant(tensor({2, 2}, {1, 2, 3, 4}));
    expect_error([&] { reduce_sum(x, std::array{2}); }, "shape: axis 2 out of range for rank 2");
    expect_error([&] { reduce_sum(x, std::array{1, -1}); }, "reduce_sum: axis 1 is given twice");
    expect_error([&] { reduce_sum(tape.constant(x.value().to(DType::i32))); },
                 "reduce_sum: needs floating-point input, got i32");
}

}  // namespace
}  // namespace bitloom::ops::test
