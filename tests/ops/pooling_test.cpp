#include "ops/pooling.h"

#include <gtest/gtest.h>

#include <limits>
#include <numeric>

#include "tests/ops/expect_error.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;

Tensor tensor(const Shape& shape, const Values& values) { return Tensor::from(shape, values, reference_device); }

Tensor counting(const Shape& shape) {
    Values values(static_cast<std::size_t>(shape.numel()));
    std::iota(values.begin(), values.end(), 1.0);
    return tensor(shape, values);
}

TEST(Pool2dGeometry, DropsTheRemainderWithoutPadding) {
    const Pool2dGeometry g = pool2d_geometry({5, 13, 8, 3}, {});
    EXPECT_EQ(g.out_h, 6);
    EXPECT_EQ(g.out_w, 4);
    EXPECT_EQ(pool2d_geometry({1, 13, 13, 1}, {3, 3, 2, 2, {}}).out_h, 6);
    EXPECT_EQ(pool2d_geometry({1, 12, 12, 1}, {3, 3, 2, 2, same_padding(12, 12, 3, 3, 2, 2)}).out_h, 6);
    EXPECT_EQ(pool2d_geometry({1, 13, 13, 1}, {2, 2, 2, 2, same_padding(13, 13, 2, 2, 2, 2)}).out_h, 7);
}

TEST(MaxPool2d, TakesTheMaximumOfEachChannelAndSendsTheGradientBackToIt) {
    Tape tape;
    const Var x = tape.input(tensor({1, 2, 4, 2}, {1, -1, 5, -2, 2, -9, 3, -3,  //
                                                   4, -4, 0, -5, 8, -8, 7, -7}),
                             true);
    const Var y = max_pool2d(x, {});
    EXPECT_EQ(y.shape(), (Shape{1, 1, 2, 2}));
    EXPECT_EQ(y.value().values<double>(), (Values{5, -1, 8, -3}));
    tape.backward(y, tensor({1, 1, 2, 2}, {10, 20, 30, 40}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{0, 20, 10, 0, 0, 0, 0, 40,  //
                                                     0, 0, 0, 0, 30, 0, 0, 0}));
}

TEST(MaxPool2d, FirstOfEqualMaximaWins) {
    Tape tape;
    const Var x = tape.input(Tensor::full({1, 2, 2, 1}, 3, DType::f64, reference_device), true);
    tape.backward(max_pool2d(x, {}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{1, 0, 0, 0}));
}

TEST(MaxPool2d, PaddingNeverWins) {
    Tape tape(Tape::Mode::inference);
    const Var x = tape.constant(tensor({1, 2, 2, 1}, {-4, -3, -2, -1}));
    EXPECT_EQ(max_pool2d(x, {2, 2, 2, 2, Padding::symmetric(1)}).value().values<double>(), (Values{-4, -3, -2, -1}));
    const double lowest = -std::numeric_limits<double>::infinity();
    const Var infinite = tape.constant(tensor({1, 1, 1, 1}, {lowest}));
    EXPECT_EQ(max_pool2d(infinite, {2, 2, 2, 2, Padding::symmetric(1)}).value().values<double>(), (Values{lowest}));
}

TEST(MaxPool2d, OverlappingWindowsAddTheirGradients) {
    Tape tape;
    const Var x = tape.input(tensor({1, 1, 3, 1}, {1, 9, 2}), true);
    tape.backward(max_pool2d(x, {1, 2, 1, 1, {}}), tensor({1, 1, 2, 1}, {3, 4}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{0, 7, 0}));
}

TEST(AvgPool2d, BordersFollowPyTorchOrKeras) {
    Tape tape(Tape::Mode::inference);
    const Var x = tape.constant(counting({1, 3, 3, 1}));  // 1 2 3 / 4 5 6 / 7 8 9
    const Pool2dOptions options{3, 3, 2, 2, Padding::symmetric(1)};
    // Corner windows hold four real cells of nine: sums 12, 16, 24, 28.
    EXPECT_EQ(avg_pool2d(x, options, true).value().values<double>(), (Values{12.0 / 9, 16.0 / 9, 24.0 / 9, 28.0 / 9}));
    EXPECT_EQ(avg_pool2d(x, options, false).value().values<double>(), (Values{3, 4, 6, 7}));
    // SAME 2x2 on three cells pads (0, 1): the last column's windows hold two real cells, the corner's one.
    const Pool2dOptions same{2, 2, 2, 2, same_padding(3, 3, 2, 2, 2, 2)};
    EXPECT_EQ(avg_pool2d(x, same, false).value().values<double>(), (Values{3, 4.5, 7.5, 9}));
}

TEST(AvgPool2d, GradientIsSharedByTheCellsOfTheWindow) {
    for (const bool include_pad : {false, true}) {
        Tape tape;
        const Var x = tape.input(counting({1, 1, 3, 1}), true);
        const Var y = avg_pool2d(x, {1, 2, 1, 2, {.top = 0, .bottom = 0, .left = 0, .right = 1}}, include_pad);
        tape.backward(y, tensor({1, 1, 2, 1}, {4, 6}));
        EXPECT_EQ(tape.grad(x).values<double>(), (Values{2, 2, include_pad ? 3.0 : 6.0}));
    }
}

TEST(GlobalPool2d, ReducesTheMapOfEachChannel) {
    Tape tape;
    const Var x = tape.input(tensor({2, 1, 2, 2}, {1, 20, 3, 10, 5, 60, 9, 80}), true);
    const Var mean = global_avg_pool2d(x);
    EXPECT_EQ(mean.shape(), (Shape{2, 2}));
    EXPECT_EQ(mean.value().values<double>(), (Values{2, 15, 7, 70}));
    EXPECT_EQ(tape.node_op(0), "avg_pool2d");
    tape.backward(mean, tensor({2, 2}, {2, 4, 6, 8}));
    EXPECT_EQ(tape.grad(x).shape(), x.shape());
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{1, 2, 1, 2, 3, 4, 3, 4}));

    Tape other;
    const Var z = other.input(x.value(), true);
    const Var maximum = global_max_pool2d(z);
    EXPECT_EQ(maximum.shape(), (Shape{2, 2}));
    EXPECT_EQ(maximum.value().values<double>(), (Values{3, 20, 9, 80}));
    other.backward(maximum, tensor({2, 2}, {1, 2, 3, 4}));
    EXPECT_EQ(other.grad(z).values<double>(), (Values{0, 2, 1, 0, 0, 0, 3, 4}));
}

TEST(Pool2d, SaysWhatDisagrees) {
    Tape tape;
    const auto zeros = [&](Shape shape) { return tape.constant(Tensor::zeros(shape, DType::f64, reference_device)); };
    const auto pool = [&](Shape x, Pool2dOptions o) { return [=] { max_pool2d(zeros(x), o); }; };
    expect_error(pool({4, 4, 3}, {}), "pool2d: input must be [N, H, W, C], got [4, 4, 3]");
    expect_error(pool({1, 1, 4, 3}, {}), "pool2d: window 2 x 2 exceeds the padded input 1 x 4");
    expect_error(pool({1, 4, 4, 3}, {2, 2, 0, 2, {}}), "pool2d: stride 0 x 2 is not positive");
    expect_error(pool({1, 4, 4, 3}, {2, 2, 2, 2, {2, 0, 0, 0}}),
                 "pool2d: padding (2, 0, 0, 0) must be below the window 2 x 2 and not negative");
    expect_error(pool({1, 20, 20, 1}, {17, 16, 1, 1, {}}), "max_pool2d: window 17 x 16 has more than 256 cells");
    expect_error(
        [&] {
            global_avg_pool2d(zeros({4, 4}));
        },
        "global_avg_pool2d: input must be [N, H, W, C], got [4, 4]");
    expect_error(
        [&] {
            global_max_pool2d(zeros({1, 0, 4, 2}));
        },
        "global_max_pool2d: input [1, 0, 4, 2] has an empty map");
}

}  // namespace
}  // namespace bitloom::ops::test
