#include "ops/pointwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/ops/expect_error.h"
#include "tests/ops/variants.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;
constexpr double inf = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Tensor tensor(const Shape& shape, const Values& values) { return Tensor::from(shape, values, reference_device); }
Tensor vector(const Values& values) { return tensor({static_cast<std::int64_t>(values.size())}, values); }

/// f(x) and its derivative at each x.
struct Curve {
    Values value, slope;
};
template <class F>
Curve curve(F&& f, const Values& x, DType dtype = DType::f64, Device device = reference_device) {
    Tape tape;
    const Var in = tape.input(Tensor::from(Shape{static_cast<std::int64_t>(x.size())}, x, device).to(dtype), true);
    const Var y = f(in);
    tape.backward(y);
    return {y.value().values<double>(), tape.grad(in).values<double>()};
}

void expect_near(const Values& actual, const Values& expected, double tolerance) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) EXPECT_NEAR(actual[i], expected[i], tolerance) << "element " << i;
}

TEST(Unary, RectifiersAtTheirKinks) {
    const Curve r = curve([](const Var& x) { return relu(x); }, {-1, -0.0, 0, 0.5, 7});
    EXPECT_EQ(r.value, (Values{0, 0, 0, 0.5, 7}));
    EXPECT_EQ(r.slope, (Values{0, 0, 0, 1, 1}));
    const Curve r6 = curve([](const Var& x) { return relu6(x); }, {-1, 0, 0.5, 6, 7});
    EXPECT_EQ(r6.value, (Values{0, 0, 0.5, 6, 6}));
    EXPECT_EQ(r6.slope, (Values{0, 0, 1, 0, 0}));
    const Curve leaky = curve([](const Var& x) { return leaky_relu(x, 0.25); }, {-4, 0, 2});
    EXPECT_EQ(leaky.value, (Values{-1, 0, 2}));
    EXPECT_EQ(leaky.slope, (Values{0.25, 0.25, 1}));
    const Curve clamped = curve([](const Var& x) { return clamp(x, -1, 2); }, {-3, -1, 0, 2, 3});
    EXPECT_EQ(clamped.value, (Values{-1, -1, 0, 2, 2}));
    EXPECT_EQ(clamped.slope, (Values{0, 1, 1, 1, 0}));
    const Curve absolute = curve([](const Var& x) { return abs(x); }, {-3, 0, 2});
    EXPECT_EQ(absolute.value, (Values{3, 0, 2}));
    EXPECT_EQ(absolute.slope, (Values{-1, 0, 1}));
}

TEST(Unary, HardSigmoids) {
    const Curve hard = curve([](const Var& x) { return hard_sigmoid(x); }, {-2, -1, 0, 0.5, 1, 2});
    EXPECT_EQ(hard.value, (Values{0, 0, 0.5, 0.75, 1, 1}));
    EXPECT_EQ(hard.slope, (Values{0, 0.5, 0.5, 0.5, 0.5, 0}));
    const Curve smooth = curve([](const Var& x) { return smooth_sigmoid(x); }, {-4, 0, 2, 4});
    EXPECT_EQ(smooth.value, (Values{0, 0.5, 0.875, 1}));
    EXPECT_EQ(smooth.slope, (Values{0, 0.1875, 0.1875, 0}));
}

TEST(Unary, SmoothFunctionsAtKnownPoints) {
    const double third = std::log(3.0);  // sigmoid(ln 3) = 3/4, sigmoid'(ln 3) = 3/16
    const Curve s = curve([](const Var& x) { return sigmoid(x); }, {0, third, -third});
    expect_near(s.value, {0.5, 0.75, 0.25}, 1e-15);
    expect_near(s.slope, {0.25, 3.0 / 16, 3.0 / 16}, 1e-15);
    const Curve t = curve([](const Var& x) { return tanh(x); }, {0, std::log(2.0)});  // tanh(ln 2) = 3/5
    expect_near(t.value, {0, 0.6}, 1e-15);
    expect_near(t.slope, {1, 0.64}, 1e-15);
    const Curve w = curve([](const Var& x) { return swish(x); }, {0, third});
    expect_near(w.value, {0, 0.75 * third}, 1e-15);
    expect_near(w.slope, {0.5, 0.75 + third * 3 / 16}, 1e-15);
    const Curve root = curve([](const Var& x) { return sqrt(x); }, {4});
    EXPECT_EQ(root.value, (Values{2}));
    EXPECT_EQ(root.slope, (Values{0.25}));
    const Curve squared = curve([](const Var& x) { return square(x); }, {-3});
    EXPECT_EQ(squared.value, (Values{9}));
    EXPECT_EQ(squared.slope, (Values{-6}));
    const Curve logarithm = curve([](const Var& x) { return log(x); }, {0.5});
    expect_near(logarithm.value, {-std::log(2.0)}, 1e-15);
    EXPECT_EQ(logarithm.slope, (Values{2}));
    const Curve exponential = curve([](const Var& x) { return exp(x); }, {1});
    expect_near(exponential.value, {std::exp(1.0)}, 1e-15);
    EXPECT_EQ(exponential.slope, exponential.value);
}

TEST(Unary, FarTailsStayFinite) {
    for (const Device device : {reference_device, cpu_device}) {
        for (const auto f : {+[](const Var& x) { return sigmoid(x); }, +[](const Var& x) { return tanh(x); },
                             +[](const Var& x) { return swish(x); }}) {
            const Curve c = curve(f, {-1000, -100, -20, 20, 100, 1000}, DType::f32, device);
            for (std::size_t i = 0; i < c.value.size(); ++i) {
                EXPECT_TRUE(std::isfinite(c.value[i])) << device << ", element " << i;
                EXPECT_TRUE(std::isfinite(c.slope[i])) << device << ", element " << i;
            }
            EXPECT_NEAR(c.slope[0], 0, 1e-30) << device;
        }
        const Curve s = curve([](const Var& x) { return sigmoid(x); }, {-1000, 1000}, DType::f32, device);
        EXPECT_NEAR(s.value[0], 0, 1e-30) << device;
        EXPECT_EQ(s.value[1], 1) << device;
    }
}

TEST(Unary, NaNPassesThroughRectifiers) {
    // A diverged network must not look healthy.
    for (const Device device : {reference_device, cpu_device}) {
        for (const auto f :
             {+[](const Var& x) { return relu(x); }, +[](const Var& x) { return relu6(x); },
              +[](const Var& x) { return leaky_relu(x, 0.1); }, +[](const Var& x) { return clamp(x, -1, 1); }}) {
            for (const double v : curve(f, Values(19, nan), DType::f32, device).value)
                EXPECT_TRUE(std::isnan(v)) << device;
        }
    }
}

TEST(Binary, BroadcastsByNumPysRules) {
    Tape tape;
    const Var a = tape.input(tensor({2, 1, 3}, {1, 2, 3, 4, 5, 6}), true);
    const Var b = tape.input(tensor({2, 1}, {10, 20}), true);
    const Var y = subtract(a, b);
    EXPECT_EQ(y.shape(), (Shape{2, 2, 3}));
    EXPECT_EQ(y.value().values<double>(), (Values{-9, -8, -7, -19, -18, -17, -6, -5, -4, -16, -15, -14}));
    tape.backward(y, tensor({2, 2, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}));
    EXPECT_EQ(tape.grad(a).shape(), a.shape());
    EXPECT_EQ(tape.grad(a).values<double>(), (Values{5, 7, 9, 17, 19, 21}));
    EXPECT_EQ(tape.grad(b).shape(), b.shape());
    EXPECT_EQ(tape.grad(b).values<double>(), (Values{-30, -48}));
}

TEST(Binary, ProductAndQuotientByHand) {
    Tape tape;
    const Var a = tape.input(vector({6, -3}), true), b = tape.input(vector({2, 4}), true);
    const Var q = divide(a, b);
    EXPECT_EQ(q.value().values<double>(), (Values{3, -0.75}));
    tape.backward(q);
    EXPECT_EQ(tape.grad(a).values<double>(), (Values{0.5, 0.25}));
    EXPECT_EQ(tape.grad(b).values<double>(), (Values{-1.5, 0.1875}));

    Tape square_tape;
    const Var x = square_tape.input(vector({3, -5}), true);
    square_tape.backward(multiply(x, x));
    EXPECT_EQ(square_tape.grad(x).values<double>(), (Values{6, -10})) << "both factors are the same variable";

    Tape sum_tape;
    const Var z = sum_tape.input(vector({3, -5}), true);
    sum_tape.backward(add(z, z));
    EXPECT_EQ(sum_tape.grad(z).values<double>(), (Values{2, 2}));
}

TEST(Binary, ConstantFactorsGetNoGradient) {
    Tape tape;
    const Var x = tape.input(vector({3, -5}), true), mask = tape.constant(vector({0, 2}));
    tape.backward(multiply(mask, x));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{0, 2}));
}

TEST(Binary, TiesOfExtremaGoToTheFirst) {
    for (const bool largest : {true, false}) {
        Tape tape;
        const Var a = tape.input(vector({1, 2, 3, -0.0}), true), b = tape.input(vector({3, 2, 1, 0}), true);
        const Var y = largest ? maximum(a, b) : minimum(a, b);
        EXPECT_EQ(y.value().values<double>(), largest ? (Values{3, 2, 3, 0}) : (Values{1, 2, 1, 0}));
        tape.backward(y);
        EXPECT_EQ(tape.grad(a).values<double>(), largest ? (Values{0, 1, 1, 1}) : (Values{1, 1, 0, 1}));
        EXPECT_EQ(tape.grad(b).values<double>(), largest ? (Values{1, 0, 0, 0}) : (Values{0, 0, 1, 0}));
    }
}

TEST(Binary, SaysWhatDisagrees) {
    Tape tape;
    const auto zeros = [&](Shape shape, DType dtype, Device device) {
        return tape.constant(Tensor::zeros(shape, dtype, device));
    };
    const Var x = zeros({2, 3}, DType::f32, reference_device);
    expect_error([&] { add(x, zeros({4}, DType::f32, reference_device)); },
                 "add: shapes [2, 3] and [4] do not broadcast");
    expect_error(
        [&] {
            multiply(x, zeros({3, 3}, DType::f32, reference_device));
        },
        "multiply: shapes [2, 3] and [3, 3] do not broadcast");
    expect_error([&] { add(x, zeros({3}, DType::f64, reference_device)); }, "add: second operand is f64, input f32");
    expect_error([&] { divide(x, zeros({3}, DType::f32, cpu_device)); },
                 "divide: second operand is on cpu, input on reference");
    expect_error([&] { relu(zeros({3}, DType::i32, reference_device)); }, "relu: needs floating-point input, got i32");
    expect_error([&] { relu(Var()); }, "tensor: used before it was given a value");
}

TEST(Scale, IsAffine) {
    const Curve c = curve([](const Var& x) { return scale(x, -2, 5); }, {0, 1, 3});
    EXPECT_EQ(c.value, (Values{5, 3, -1}));
    EXPECT_EQ(c.slope, (Values{-2, -2, -2}));
}

TEST(Step, RoundsHalvesToEven) {
    for (const Device device : {reference_device, cpu_device}) {
        const auto rounded = [&](Values x) {
            return curve([](const Var& v) { return round(v); }, x, DType::f32, device).value;
        };
        EXPECT_EQ(rounded({-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5}), (Values{-2, -2, 0, 0, 2, 2, 4})) << device;
        // Just below a half, and beyond 2^23 where every float32 is whole: adding 0.5 and truncating gets both wrong.
        EXPECT_EQ(rounded({0x1.fffffep-2, 8388609, -8388611, 4194303.5}), (Values{0, 8388609, -8388611, 4194304}))
            << device;
    }
}

TEST(Step, FloorsCeilsAndSigns) {
    for (const Device device : {reference_device, cpu_device}) {
        const Values x{-1.5, -1, -0.0, 0, 0.25, 2};
        const auto apply = [&](StepFunction f) {
            return curve([f](const Var& v) { return step(f, v, {}); }, x, DType::f32, device).value;
        };
        EXPECT_EQ(apply(StepFunction::floor), (Values{-2, -1, 0, 0, 0, 2})) << device;
        EXPECT_EQ(apply(StepFunction::ceil), (Values{-1, -1, 0, 0, 1, 2})) << device;
        EXPECT_EQ(apply(StepFunction::sign), (Values{-1, -1, 0, 0, 1, 1})) << device;
        EXPECT_EQ(apply(StepFunction::sign_binary), (Values{-1, -1, 1, 1, 1, 1})) << device;
    }
}

/// A straight-through gradient cannot be checked by differences: it is held to its written rule, at kinks and signed
/// zeros.
TEST(Surrogate, GradientsFollowTheWrittenRules) {
    const Values points{-100, -3,  -2,   -1.5,      -1.0000001, -1,        -0.9999999, -0.5, -1e-30, -0.0, 0,  1e-30,
                        0.25, 0.5, 0.75, 0.9999999, 1,          1.0000001, 1.5,        2,    2.5,    3,    100};
    for (const Surrogate rule : surrogates) {
        for (const SurrogateRule& r : {SurrogateRule{rule}, SurrogateRule{rule, -0.5, 2, 0.25},
                                       SurrogateRule{rule, 0, 1, 5}, SurrogateRule{rule, -inf, 0.5, -1}}) {
            SCOPED_TRACE(cat(name_of(rule), ", low ", r.low, ", high ", r.high, ", slope ", r.slope));
            const auto f = [&](const Var& x) { return step(StepFunction::sign_binary, x, r); };
            Values rounded, exact;
            for (const double x : points) rounded.push_back(static_cast<double>(static_cast<float>(x)));
            for (const double x : points) exact.push_back(written_slope(r, x));
            Values exact_rounded;
            for (const double x : rounded) exact_rounded.push_back(written_slope(r, x));
            expect_near(curve(f, points).slope, exact, 1e-12);
            expect_near(curve(f, rounded, DType::f32, reference_device).slope, exact_rounded, 5e-6);
            expect_near(curve(f, rounded, DType::f32, cpu_device).slope, exact_rounded, 5e-6);
        }
    }
}

TEST(Surrogate, MultipliesTheIncomingGradient) {
    Tape tape;
    const Var x = tape.input(vector({-2, 0.5, 0.4}), true);
    const Var y = sign(x);
    EXPECT_EQ(y.value().values<double>(), (Values{-1, 1, 1}));
    tape.backward(y, vector({3, 5, -7}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{0, 5, -7}));
}

TEST(Surrogate, StraightThroughTakesAnyValue) {
    Tape tape;
    const Var x = tape.input(vector({-2, 0.5}), true);
    const Var y = straight_through(x, vector({8, 9}), {});
    EXPECT_EQ(y.value().values<double>(), (Values{8, 9}));
    tape.backward(y, vector({3, 5}));
    EXPECT_EQ(tape.grad(x).values<double>(), (Values{3, 5}));
    expect_error(
        [&] {
            straight_through(x, vector({1, 2, 3}), {});
        },
        "straight_through: value has shape [3], expected [2]");
}

}  // namespace
}  // namespace bitloom::ops::test
