#include "ops/convolution.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/ops/expect_error.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;

Tensor tensor(const Shape& shape, const Values& values) { return Tensor::from(shape, values, reference_device); }

/// first, first + 1, ... in the given shape.
Tensor counting(const Shape& shape, double first = 1) {
    Values values(static_cast<std::size_t>(shape.numel()));
    std::iota(values.begin(), values.end(), first);
    return tensor(shape, values);
}

Values run(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options,
           Shape* shape = nullptr) {
    Tape tape(Tape::Mode::inference);
    const Var y =
        conv2d(tape.constant(x), tape.constant(weight), bias.defined() ? tape.constant(bias) : Var(), options);
    if (shape) *shape = y.shape();
    return y.value().values<double>();
}

TEST(SamePadding, FollowsTensorFlow) {
    // (total) = max((ceil(n / s) - 1) s + (k - 1) d + 1 - n, 0); the odd cell goes behind.
    EXPECT_EQ(same_padding(32, 32, 3, 3, 1, 1), Padding::symmetric(1));
    EXPECT_EQ(same_padding(32, 32, 3, 3, 2, 2), (Padding{0, 1, 0, 1}));
    EXPECT_EQ(same_padding(7, 7, 3, 3, 2, 2), Padding::symmetric(1));
    EXPECT_EQ(same_padding(28, 28, 5, 5, 1, 1), Padding::symmetric(2));
    EXPECT_EQ(same_padding(8, 8, 2, 2, 1, 1), (Padding{0, 1, 0, 1}));
    EXPECT_EQ(same_padding(8, 8, 1, 1, 2, 2), Padding{}) << "a stride beyond the kernel pads nothing";
    EXPECT_EQ(same_padding(224, 224, 7, 7, 2, 2), (Padding{2, 3, 2, 3}));
    EXPECT_EQ(same_padding(10, 9, 3, 1, 2, 1), (Padding{0, 1, 0, 0})) << "axes are independent";
    EXPECT_EQ(same_padding(16, 16, 3, 3, 1, 1, 2, 4), (Padding{2, 2, 4, 4})) << "dilation widens the kernel";
}

TEST(Conv2d, IsCrossCorrelation) {
    const Tensor x = counting({1, 3, 3, 1});  // 1 2 3 / 4 5 6 / 7 8 9
    const Tensor w = tensor({1, 2, 2, 1}, {1, 10, 100, 1000});
    Shape shape;
    EXPECT_EQ(run(x, w, {}, {}, &shape), (Values{5421, 6532, 8754, 9865}));
    EXPECT_EQ(shape, (Shape{1, 2, 2, 1}));
}

TEST(Conv2d, PadsWithZerosAndAddsTheBias) {
    const Tensor x = tensor({1, 2, 2, 1}, {1, 2, 3, 4});
    const Tensor ones = Tensor::full({1, 3, 3, 1}, 1, DType::f64, reference_device);
    EXPECT_EQ(run(x, ones, tensor({1}, {0.5}), {.padding = Padding::symmetric(1)}), (Values{10.5, 10.5, 10.5, 10.5}));
    // One row above and one column to the left alone.
    const Tensor w = tensor({1, 2, 2, 1}, {1, 10, 100, 1000});
    EXPECT_EQ(run(x, w, {}, {.padding = {.top = 1, .bottom = 0, .left = 1, .right = 0}}),
              (Values{1000, 2100, 3010, 4321}));
}

TEST(Conv2d, SameStride2OnAnEvenSizeStartsAtTheFirstCell) {
    // SAME pads (0, 1) here, so the windows' centres are the odd cells; padding 1 on both sides would centre the even
    // ones.
    const Tensor x = counting({1, 1, 4, 1});
    const Tensor centre = tensor({1, 1, 3, 1}, {0, 1, 0});
    EXPECT_EQ(run(x, centre, {}, {.stride_h = 1, .stride_w = 2, .padding = same_padding(1, 4, 1, 3, 1, 2)}),
              (Values{2, 4}));
    EXPECT_EQ(run(x, centre, {}, {.stride_h = 1, .stride_w = 2, .padding = {0, 0, 1, 1}}), (Values{1, 3}));
}

TEST(Conv2d, SumsOverInputChannelsOfNhwc) {
    const Tensor x = tensor({1, 1, 2, 3}, {1, 2, 3, 4, 5, 6});      // two cells of three channels
    const Tensor w = tensor({2, 1, 1, 3}, {1, 10, 100, -1, 0, 2});  // two filters
    EXPECT_EQ(run(x, w, tensor({2}, {1, 2}), {}), (Values{322, 7, 655, 10}));
}

TEST(Conv2d, GroupsSeeTheirOwnChannels) {
    const Tensor x = tensor({1, 1, 1, 4}, {1, 2, 3, 4});
    const Tensor w = tensor({2, 1, 1, 2}, {1, 10, 100, 1000});
    EXPECT_EQ(run(x, w, {}, {.groups = 2}), (Values{21, 4300}));
    // Depthwise with two filters a channel: filters 0 and 1 read channel 0.
    const Tensor d = tensor({4, 1, 1, 1}, {1, 2, 3, 4});
    EXPECT_EQ(run(tensor({1, 1, 1, 2}, {5, 7}), d, {}, {.groups = 2}), (Values{5, 10, 21, 28}));
}

TEST(Conv2d, DilationSpreadsTheKernel) {
    const Tensor x = counting({1, 1, 5, 1});
    const Tensor w = tensor({1, 1, 3, 1}, {1, 10, 100});
    EXPECT_EQ(run(x, w, {}, {.dilation_w = 2}), (Values{531}));
}

TEST(Conv2d, GradientsOfASmallExample) {
    // y = x * [a, b] slid over three cells: y0 = a x0 + b x1 + c, y1 = a x1 + b x2 + c.
    Tape tape;
    const Var x = tape.input(tensor({1, 1, 3, 1}, {1, 2, 4}), true);
    const Var w = tape.input(tensor({1, 1, 2, 1}, {3, 5}), true);
    const Var b = tape.input(tensor({1}, {7}), true);
    const Var y = conv2d(x, w, b, {});
    EXPECT_EQ(y.value().values<double>(), (Values{20, 33}));
    EXPECT_EQ(tape.node_op(0), "conv2d");
    tape.backward(y, tensor({1, 1, 2, 1}, {10, 100}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{30, 350, 500}));
    EXPECT_EQ(tape.grad(w).values<double>(), (Values{210, 420}));
    EXPECT_EQ(tape.grad(b).values<double>(), (Values{110}));
}

TEST(Conv2d, SinglePrecisionAgreesWithDouble) {
    Tape tape(Tape::Mode::inference);
    const Tensor x = counting({1, 4, 4, 2}, -7), w = counting({3, 3, 3, 2}, -5);
    const Values expected = run(x, w, {}, {.padding = Padding::symmetric(1)});
    const Var y = conv2d(tape.constant(x.to(DType::f32)), tape.constant(w.to(DType::f32)), Var(),
                         {.padding = Padding::symmetric(1)});
    EXPECT_EQ(y.dtype(), DType::f32);
    EXPECT_EQ(y.value().values<double>(), expected) << "integers are exact in both";
}

TEST(Conv2d, EmptyBatchGivesEmptyOutputAndZeroGradients) {
    Tape tape;
    const Var x = tape.input(Tensor::zeros({0, 4, 4, 2}, DType::f64, reference_device), true);
    const Var w = tape.input(counting({3, 3, 3, 2}), true);
    const Var y = conv2d(x, w, Var(), {});
    EXPECT_EQ(y.shape(), (Shape{0, 2, 2, 3}));
    tape.backward(y);
    EXPECT_EQ(tape.grad(w).values<double>(), Values(54, 0.0));
}

TEST(Conv2d, NothingIsRecordedForConstants) {
    Tape tape;
    const Var y = conv2d(tape.constant(counting({1, 3, 3, 1})), tape.constant(counting({1, 2, 2, 1})), Var(), {});
    EXPECT_FALSE(y.requires_grad());
    EXPECT_EQ(tape.node_count(), 0);
}

TEST(Conv2d, SaysWhatDisagrees) {
    Tape tape;
    const auto zeros = [&](Shape shape, DType dtype = DType::f64, Device device = reference_device) {
        return tape.constant(Tensor::zeros(shape, dtype, device));
    };
    const auto conv = [&](Shape x, Shape w, Conv2dOptions o = {}) {
        return [=] { conv2d(zeros(x), zeros(w), Var(), o); };
    };
    expect_error(conv({1, 8, 8, 3}, {4, 3, 3, 16}), "conv2d: input has 3 channels, weight expects 16");
    expect_error(conv({1, 8, 8, 4}, {4, 3, 3, 4}, {.groups = 2}), "conv2d: input has 4 channels, weight expects 8");
    expect_error(conv({1, 8, 8, 4}, {3, 3, 3, 2}, {.groups = 2}),
                 "conv2d: 3 output channels do not divide into 2 groups");
    expect_error(conv({8, 8, 3}, {4, 3, 3, 3}), "conv2d: input must be [N, H, W, C], got [8, 8, 3]");
    expect_error(conv({1, 8, 8, 3}, {4, 3}), "conv2d: weight must be [out, kh, kw, in / groups], got [4, 3]");
    expect_error(conv({1, 2, 8, 3}, {4, 5, 3, 3}, {.padding = Padding::symmetric(1)}),
                 "conv2d: kernel 5 with dilation 1 exceeds the input's height 2 with padding 1 + 1");
    expect_error(conv({1, 8, 8, 3}, {4, 3, 3, 3}, {.stride_h = 0}), "conv2d: stride 0 x 1 is not positive");
    expect_error(conv({1, 8, 8, 3}, {4, 3, 3, 3}, {.padding = {-1, 0, 0, 0}}),
                 "conv2d: negative padding (-1, 0, 0, 0)");
    expect_error(
        [&] {
            conv2d(zeros({1, 4, 4, 3}), zeros({4, 3, 3, 3}), zeros({3}), {});
        },
        "conv2d: bias has shape [3], expected [4]");
    expect_error(
        [&] {
            conv2d(zeros({1, 4, 4, 3}), zeros({4, 3, 3, 3}, DType::f32), Var(), {});
        },
        "conv2d: weight is f32, input f64");
    expect_error(
        [&] {
            conv2d(zeros({1, 4, 4, 3}), zeros({4, 3, 3, 3}, DType::f64, cpu_device), Var(), {});
        },
        "conv2d: weight is on cpu, input on reference");
}

Values run_transpose(const Tensor& x, const Tensor& w, const Conv2dOptions& options, Shape* shape,
                     std::int64_t extra = 0) {
    Tape tape(Tape::Mode::inference);
    const Var y = conv2d_transpose(tape.constant(x), tape.constant(w), Var(), options, extra, extra);
    *shape = y.shape();
    return y.value().values<double>();
}

TEST(Conv2dTranspose, SpreadsEachCellOverItsWindow) {
    const Tensor x = tensor({1, 1, 2, 1}, {1, 10});
    const Tensor w = tensor({1, 2, 2, 1}, {1, 2, 3, 4});
    Shape shape;
    EXPECT_EQ(run_transpose(x, w, {.stride_h = 2, .stride_w = 2}, &shape), (Values{1, 2, 10, 20, 3, 4, 30, 40}));
    EXPECT_EQ(shape, (Shape{1, 2, 4, 1}));
    EXPECT_EQ(run_transpose(x, w, {}, &shape), (Values{1, 12, 20, 3, 34, 40})) << "overlapping windows add up";
    EXPECT_EQ(shape, (Shape{1, 2, 3, 1}));
}

TEST(Conv2dTranspose, OutputPaddingAddsCellsBehind) {
    // 3x3, stride 2, padding 1, output padding 1 doubles the map, as in PyTorch's decoders.
    Shape shape;
    run_transpose(counting({1, 4, 5, 2}), counting({2, 3, 3, 3}),
                  {.stride_h = 2, .stride_w = 2, .padding = Padding::symmetric(1)}, &shape, 1);
    EXPECT_EQ(shape, (Shape{1, 8, 10, 3}));
    EXPECT_EQ(
        run_transpose(tensor({1, 1, 1, 1}, {3}), tensor({1, 1, 1, 1}, {2}), {.stride_h = 2, .stride_w = 2}, &shape, 1),
        (Values{6, 0, 0, 0}));
}

TEST(Conv2dTranspose, IsTheAdjointOfConv2d) {
    // <conv2d(a, w), b> = <a, conv2d_transpose(b, w)>, exactly so on integers.
    const Conv2dOptions options{.stride_h = 2, .stride_w = 1, .padding = {1, 0, 1, 1}, .dilation_w = 2, .groups = 2};
    const Tensor a = counting({2, 6, 7, 4}, -40), w = counting({6, 3, 2, 2}, -30);
    Shape shape;
    const Values forward = run(a, w, {}, options, &shape);
    const Tensor b = counting(shape, -50);
    const Values back = run_transpose(b, w, options, &shape);
    EXPECT_EQ(shape, (Shape{2, 6, 7, 4}));
    const Values vb = b.values<double>(), va = a.values<double>();
    EXPECT_EQ(std::inner_product(forward.begin(), forward.end(), vb.begin(), 0.0),
              std::inner_product(back.begin(), back.end(), va.begin(), 0.0));
}

TEST(Conv2dTranspose, AddsTheBiasAndRecordsItsOwnName) {
    Tape tape;
    const Var x = tape.input(tensor({1, 1, 1, 2}, {1, 2}), true),
              w = tape.input(tensor({2, 1, 1, 2}, {1, 2, 3, 4}), true);
    const Var b = tape.input(tensor({2}, {100, 200}), true);
    const Var y = conv2d_transpose(x, w, b, {});
    EXPECT_EQ(y.value().values<double>(), (Values{107, 210}));
    EXPECT_EQ(tape.node_op(0), "conv2d_transpose");
    tape.backward(y, tensor({1, 1, 1, 2}, {1, 10}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{21, 43}));
    EXPECT_EQ(tape.grad(w).values<double>(), (Values{1, 10, 2, 20}));
    EXPECT_EQ(tape.grad(b).values<double>(), (Values{1, 10}));
}

TEST(Conv2dTranspose, SaysWhatDisagrees) {
    Tape tape;
    const auto zeros = [&](Shape shape) { return tape.constant(Tensor::zeros(shape, DType::f64, reference_device)); };
    const auto transpose = [&](Shape x, Shape w, Conv2dOptions o = {}, std::int64_t extra = 0) {
        return [=] { conv2d_transpose(zeros(x), zeros(w), Var(), o, extra, extra); };
    };
    expect_error(transpose({1, 4, 4, 3}, {5, 2, 2, 4}), "conv2d_transpose: input has 3 channels, weight expects 5");
    expect_error(transpose({1, 4, 4, 3}, {3, 2, 2, 4}, {.groups = 2}),
                 "conv2d_transpose: 3 input channels do not divide into 2 groups");
    expect_error(transpose({1, 4, 4, 3}, {3, 2, 2, 4}, {.stride_h = 2, .stride_w = 2}, 2),
                 "conv2d_transpose: output padding 2 x 2 must be below the stride 2 x 2");
    expect_error(transpose({1, 1, 1, 3}, {3, 1, 1, 4}, {.padding = Padding::symmetric(1)}),
                 "conv2d_transpose: padding leaves an output of -1 x -1");
    expect_error(
        [&] {
            conv2d_transpose(zeros({1, 4, 4, 3}), zeros({3, 2, 2, 4}), zeros({3}), {});
        },
        "conv2d_transpose: bias has shape [3], expected [4]");
}

}  // namespace
}  // namespace bitloom::ops::test
