#include "ops/shaping.h"

#include <gtest/gtest.h>

#include <array>
#include <numeric>

#include "tests/ops/expect_error.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;
using Extents = std::vector<std::int64_t>;
using Amounts = std::vector<std::pair<std::int64_t, std::int64_t>>;

Tensor tensor(const Shape& shape, const Values& values) { return Tensor::from(shape, values, reference_device); }
Tensor counting(const Shape& shape) {
    Values values(static_cast<std::size_t>(shape.numel()));
    std::iota(values.begin(), values.end(), 0.0);
    return tensor(shape, values);
}

TEST(Cast, RoundsToNearestEvenAndTakesTheGradientBack) {
    // bf16 keeps 8 bits of the significand: beside 1 its neighbours are 1 + 2^-7 and 1 - 2^-8.
    const double step = 1.0 / 128;
    for (const Device device : {reference_device, cpu_device}) {
        Tape tape;
        const std::vector<float> values{1.0f,
                                        static_cast<float>(1 + step / 2),
                                        static_cast<float>(1 + 1.5 * step),
                                        static_cast<float>(1 + 0.51 * step),
                                        -3.0f,
                                        1e-3f};
        const Var x = tape.input(Tensor::from({6}, values, device), true);
        const Var y = cast(x, DType::bf16);
        EXPECT_EQ(y.dtype(), DType::bf16);
        const Values rounded = y.value().values<double>();
        EXPECT_EQ(Values(rounded.begin(), rounded.begin() + 5), (Values{1, 1, 1 + 2 * step, 1 + step, -3}));
        EXPECT_NEAR(rounded[5], 1e-3, 1e-3 / 256);
        tape.backward(y, Tensor::full({6}, 0.5, DType::bf16, device));
        EXPECT_EQ(tape.grad(x).dtype(), DType::f32);
        EXPECT_EQ(tape.grad(x).values<double>(), Values(6, 0.5));
    }
}

TEST(Cast, LeavesItsOwnTypeAloneAndRefusesIntegers) {
    Tape tape;
    const Var x = tape.input(tensor({2}, {1, 2}), true);
    EXPECT_TRUE(cast(x, DType::f64).value().shares_storage(x.value()));
    EXPECT_EQ(tape.node_count(), 0);
    expect_error([&] { cast(x, DType::i32); }, "cast: i32 is no floating-point type");
    expect_error([&] { cast(tape.constant(Tensor::zeros({2}, DType::u8)), DType::f32); },
                 "cast: needs floating-point input, got u8");
}

TEST(Concat, JoinsAndSplitsTheGradient) {
    Tape tape;
    const Var a = tape.input(tensor({2, 1}, {1, 2}), true), b = tape.constant(tensor({2, 0}, {})),
              c = tape.input(tensor({2, 2}, {3, 4, 5, 6}), true);
    const std::array inputs{a, b, c};
    const Var y = concat(inputs, -1);
    EXPECT_EQ(y.shape(), (Shape{2, 3}));
    EXPECT_EQ(y.value().values<double>(), (Values{1, 3, 4, 2, 5, 6}));
    tape.backward(y, tensor({2, 3}, {10, 20, 30, 40, 50, 60}));
    EXPECT_EQ(tape.grad(a).values<double>(), (Values{10, 40}));
    EXPECT_EQ(tape.grad(c).values<double>(), (Values{20, 30, 50, 60}));
}

TEST(Concat, AcceptsOneVariableTwice) {
    Tape tape;
    const Var x = tape.input(tensor({2}, {1, 2}), true);
    const std::array inputs{x, x};
    tape.backward(concat(inputs, 0), tensor({4}, {1, 10, 100, 1000}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{101, 1010}));
}

TEST(Slice, TakesEveryOtherPixelAsOptionADoes) {
    Tape tape;
    const Var x = tape.input(counting({1, 3, 3, 2}), true);
    const Var y = slice(x, Extents{0, 0, 0, 0}, Extents{1, 3, 3, 2}, Extents{1, 2, 2, 1});
    EXPECT_EQ(y.shape(), (Shape{1, 2, 2, 2}));
    EXPECT_EQ(y.value().values<double>(), (Values{0, 1, 4, 5, 12, 13, 16, 17}));
    tape.backward(y, tensor({1, 2, 2, 2}, {1, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{1, 2, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 5, 6, 0, 0, 7, 8}));
}

TEST(Slice, StartsWhereItIsTold) {
    Tape tape;
    const Var x = tape.input(counting({3, 2, 4}), true);
    const Var y = slice(x, Extents{1, 1, 1}, Extents{3, 2, 4}, Extents{1, 1, 2});
    EXPECT_EQ(y.shape(), (Shape{2, 1, 2}));
    EXPECT_EQ(y.value().values<double>(), (Values{13, 15, 21, 23}));
    tape.backward(y, tensor({2, 1, 2}, {1, 2, 3, 4}));
    Values expected(24, 0.0);
    expected[13] = 1, expected[15] = 2, expected[21] = 3, expected[23] = 4;
    EXPECT_EQ(tape.grad(x).values<double>(), expected);
}

TEST(Pad, FillsWithTheValueAndCropsTheGradient) {
    Tape tape;
    const Var x = tape.input(tensor({1, 2}, {1, 2}), true);
    const Var y = pad(x, Amounts{{1, 0}, {0, 2}}, 9);
    EXPECT_EQ(y.shape(), (Shape{2, 4}));
    EXPECT_EQ(y.value().values<double>(), (Values{9, 9, 9, 9, 1, 2, 9, 9}));
    tape.backward(y, tensor({2, 4}, {1, 2, 3, 4, 5, 6, 7, 8}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{5, 6}));
}

TEST(Reshape, SharesStorageAndFindsTheOpenExtent) {
    Tape tape;
    const Var x = tape.input(counting({2, 3, 2}), true);
    const Var y = reshape(x, Extents{4, -1});
    EXPECT_EQ(y.shape(), (Shape{4, 3}));
    EXPECT_TRUE(y.value().shares_storage(x.value()));
    EXPECT_EQ(flatten(x).shape(), (Shape{2, 6}));
    tape.backward(y, counting({4, 3}));
    EXPECT_EQ(tape.grad(x).shape(), x.shape());
    EXPECT_EQ(tape.grad(x).values<double>(), counting({12}).values<double>());
}

TEST(Transpose, PermutesAxes) {
    Tape tape;
    const Var x = tape.input(counting({2, 2, 3}), true);
    const Var y = transpose(x, std::array{2, 0, 1});
    EXPECT_EQ(y.shape(), (Shape{3, 2, 2}));
    EXPECT_EQ(y.value().values<double>(), (Values{0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11}));
    tape.backward(y, y.value());
    EXPECT_EQ(tape.grad(x).values<double>(), x.value().values<double>()) << "the inverse permutation";
}

TEST(Transpose, MovesEveryElementType) {
    for (const Device device : {reference_device, cpu_device}) {
        for (const DType dtype : {DType::f64, DType::f32, DType::bf16, DType::i32, DType::i8, DType::u8}) {
            Tape tape;
            const Tensor x = Tensor::from(Shape{2, 3}, Values{1, 2, 3, 4, 5, 6}, device).to(dtype);
            const Tensor y = transpose(tape.constant(x), std::array{1, 0}).value();
            EXPECT_EQ(y.dtype(), dtype);
            EXPECT_EQ(y.values<double>(), (Values{1, 4, 2, 5, 3, 6})) << name_of(dtype) << " on " << device;
        }
    }
}

TEST(Shaping, SaysWhatDisagrees) {
    Tape tape;
    const Var x = tape.constant(counting({2, 3}));
    const auto with = [&](const Var& other, int axis) {
        const std::array inputs{x, other};
        concat(inputs, axis);
    };
    expect_error(
        [&] {
            with(tape.constant(counting({3, 3})), 1);
        },
        "concat: shapes [2, 3] and [3, 3] differ beside axis 1");
    expect_error([&] { with(tape.constant(counting({2})), 0); }, "concat: shapes [2, 3] and [2] differ beside axis 0");
    expect_error(
        [&] {
            with(tape.constant(counting({2, 3}).to(DType::f32)), 0);
        },
        "concat: a later input is f32, input f64");
    expect_error([&] { with(x, 2); }, "shape: axis 2 out of range for rank 2");
    expect_error([&] { concat({}, 0); }, "concat: no inputs");
    expect_error(
        [&] {
            slice(x, Extents{0, 1}, Extents{2, 4}, Extents{1, 1});
        },
        "slice: [1, 4) of axis 1 is empty or leaves the input [2, 3]");
    expect_error(
        [&] {
            slice(x, Extents{0, 0}, Extents{2, 3}, Extents{1, 0});
        },
        "slice: step 0 of axis 1 is not positive");
    expect_error([&] { slice(x, Extents{0}, Extents{2}, Extents{1}); },
                 "slice: input [2, 3] needs 2 starts, stops and steps, got 1, 1 and 1");
    expect_error([&] { pad(x, Amounts{{0, 0}}); }, "pad: input [2, 3] needs 2 pairs, got 1");
    expect_error([&] { pad(x, Amounts{{0, 0}, {-1, 0}}); }, "pad: (-1, 0) of axis 1 is negative");
    expect_error([&] { reshape(x, Extents{4, -1}); }, "reshape: [2, 3] does not divide into 4 x ?");
    expect_error([&] { reshape(x, Extents{-1, -1}); }, "reshape: more than one extent is -1");
    expect_error([&] { reshape(x, Extents{7}); }, "reshape: [2, 3] has 6 elements, [7] has 7");
    expect_error(
        [&] {
            transpose(x, std::array{0, 0});
        },
        "transpose: axis 0 is out of range or repeated for input [2, 3]");
    expect_error([&] { transpose(x, std::array{0}); }, "transpose: input [2, 3] needs 2 axes, got 1");
    const Var deep = tape.constant(counting({1, 1, 1, 1, 1, 1, 2}));
    expect_error([&] { transpose(deep, std::array{0, 1, 2, 3, 4, 6, 5}); }, "transpose: rank 7 exceeds 6");
}

}  // namespace
}  // namespace bitloom::ops::test
