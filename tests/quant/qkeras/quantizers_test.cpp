// The worked examples of svhn-qkeras.md, section 11, and what the formulas of 5.3 say beyond the golden vectors.

#include <gtest/gtest.h>

#include <cmath>

#include "quant/kernels.h"
#include "quant/qkeras/parse.h"
#include "quant/qkeras/quantize.h"
#include "tests/quant/kernel_rows.h"

namespace bitloom::quant::qkeras {
namespace {

using Values = std::vector<double>;

const std::vector<float>& inputs() {
    static const std::vector<float> x{-1.3f, -1, -.6f, -.45f, -.25f, -.0625f, 0, .0625f, .1875f, .3125f, .5f, .8125f, .9375f, 1.2f};
    return x;
}

struct Result {
    Values y, gradient, scale;
};

Result run(const std::string& text, const Tensor& x, Device device = cpu_device, const Settings& settings = {},
           const Pass& pass = {}) {
    Tape tape;
    const Var in = tape.input(x.to(device), true);
    const Quantized got = TensorQuantizer(parse_quantizer(text, settings.release), settings).quantize(in, pass);
    tape.backward(got.values);
    return {got.values.value().values<double>(), tape.grad(in).values<double>(), got.scale.values<double>()};
}

Values repeat(double a, int n, double b, int m) {
    Values v(static_cast<std::size_t>(n), a);
    v.insert(v.end(), static_cast<std::size_t>(m), b);
    return v;
}

void expect_near(const Values& got, const Values& want, double tolerance, const std::string& what) {
    ASSERT_EQ(got.size(), want.size()) << what;
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << what << " at " << i;
}

TEST(WorkedExamples, Quantizers) {
    const Values tanh4{-1, -1, -.625, -.5, -.25, 0, 0, 0, .25, .25, .5, .75, .875, .875};
    const std::vector<std::pair<std::string, Values>> examples{
        {"quantized_bits(4,0,alpha=1)", tanh4},
        {"quantized_bits(4,0,1,alpha=1)", {-.875, -.875, -.625, -.5, -.25, 0, 0, 0, .25, .25, .5, .75, .875, .875}},
        {"quantized_bits(4,1,alpha=1)", {-1.25, -1, -.5, -.5, -.25, 0, 0, 0, .25, .25, .5, .75, 1, 1.25}},
        {"quantized_bits(4,0,keep_negative=False)", {0, 0, 0, 0, 0, 0, 0, .0625, .1875, .3125, .5, .8125, .9375, .9375}},
        {"binary(alpha=1)", repeat(-1, 6, 1, 8)},
        {"ternary(alpha=1)", {-1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1}},
        {"quantized_relu(1,0)", repeat(0, 9, .5, 5)},
        {"quantized_relu(2,0)", {0, 0, 0, 0, 0, 0, 0, 0, .25, .25, .5, .75, .75, .75}},
        {"quantized_relu(4,0)", {0, 0, 0, 0, 0, 0, 0, .0625, .1875, .3125, .5, .8125, .9375, .9375}},
        {"quantized_relu(4,0,negative_slope=.25)", {-.25, -.25, -.125, -.125, 0, 0, 0, 0, .25, .25, .5, .75, .875, .875}},
        {"quantized_relu(4,0,1)", {0, 0, 0, 0, 0, 0, 0, 0, .25, .25, .5, .75, .9375, .9375}},
        {"quantized_tanh(4)", tanh4},
        {"quantized_sigmoid(4)", {0, 0, .1875, .25, .375, .5, .5, .5, .625, .625, .75, .875, .9375, .9375}},
        {"quantized_ulaw(4,0)",
         {-1, -1, -.875703, -.875703, -.752101, 0, 0, 0, .752101, .752101, .875, .875, .875, .875}},
        {"quantized_po2(4)", {-1, -1, -.5, -.5, -.25, -.0625, .0625, .0625, .25, .25, .5, 1, 1, 1}},
        {"quantized_po2(4,1)", {-1, -1, -.5, -.5, -.25, -.0625, .00390625, .0625, .25, .25, .5, 1, 1, 1}},
        {"quantized_relu_po2(4,4)",
         {.00390625, .00390625, .00390625, .00390625, .00390625, .00390625, .00390625, .0625, .25, .25, .5, 1, 1, 1}},
        {"quantized_linear(1,0)", repeat(-.5, 6, .5, 8)},
    };
    for (const Device device : {cpu_device, reference_device})
        for (const auto& [text, want] : examples)
            expect_near(run(text, Tensor::from({1, 14}, inputs()), device).y, want, 1e-6, text);
}

/// w (4 inputs x 2 channels) in the source's layout.
Tensor kernel_example() {
    return Tensor::from({4, 2}, std::vector<float>{.9f, -.05f, -.3f, .02f, .55f, .07f, -.7f, -.01f});
}

TEST(WorkedExamples, AutomaticScales) {
    const Tensor w = kernel_example();
    const Values po2{.875, -.046875, -.25, .0234375, .5, .0546875, -.75, -.0078125};
    Result got = run("quantized_bits(4,0,alpha='auto')", w);
    expect_near(got.y, {.9, -.05, -.257143, .02, .514286, .07, -.642857, -.01}, 1e-6, "auto");
    expect_near(got.scale, {1.0285714, .08}, 1e-6, "auto scale");
    got = run("quantized_bits(4,0,alpha='auto_po2')", w);
    expect_near(got.y, po2, 0, "auto_po2");
    expect_near(got.scale, {1, .0625}, 0, "auto_po2 scale");
    for (const std::string alpha : {"auto", "auto_po2"})
        expect_near(run("quantized_bits(4,0,alpha='" + alpha + "')", w, cpu_device, {.release = Release::v0_8}).y, po2, 0,
                    "release 0.8");
    expect_near(run("binary(alpha='auto')", w).y, {.6125, -.0375, -.6125, .0375, .6125, .0375, -.6125, -.0375}, 1e-6, "binary");
    expect_near(run("binary(alpha='auto_po2')", w).y, {.5, -.03125, -.5, .03125, .5, .03125, -.5, -.03125}, 0, "binary");
    expect_near(run("ternary(alpha='auto')", w).y, {.716667, -.06, 0, 0, .716667, .06, -.716667, 0}, 1e-6, "ternary");
    expect_near(run("ternary(alpha='auto_po2')", w).y, {.5, -.0625, -.5, 0, .5, .0625, -.5, 0}, 0, "ternary");
}

TEST(Quantizers, LayoutOfTheEngineGivesTheSourcesScales) {
    const Tensor w = kernel_example();  // [in, out]
    std::vector<float> turned;
    for (int o = 0; o < 2; ++o)
        for (int i = 0; i < 4; ++i) turned.push_back(w.read<float>()[2 * i + o]);
    for (const std::string text : {"quantized_bits(4,0,alpha='auto')", "ternary(alpha='auto_po2')", "quantized_linear(3,0,alpha='auto')",
                                   "quantized_bits(4,0,alpha='auto_po2',scale_axis=0)"}) {
        const Values source = run(text, w).y;
        Tape tape(Tape::Mode::inference);
        const Quantized got =
            TensorQuantizer(parse_quantizer(text), {}, dense_axes()).quantize(tape.constant(Tensor::from({2, 4}, turned)));
        const Values here = got.values.value().values<double>();
        for (int o = 0; o < 2; ++o)
            for (int i = 0; i < 4; ++i)
                EXPECT_EQ(here[static_cast<std::size_t>(4 * o + i)], source[static_cast<std::size_t>(2 * i + o)]) << text;
    }
}

TEST(Quantizers, ChannelOfZerosStaysZero) {
    // Quirk 9: of 0 / 0 comes scale 1. Least squares of signs divide by mean(q^2) + epsilon: 0 / epsilon = 0.
    const Tensor w = Tensor::from({2, 2}, std::vector<float>{0, 1, 0, -.5f});
    for (const auto& [text, scale] : {std::pair<std::string, double>{"quantized_bits(4,0,alpha='auto')", 1},
                                      {"ternary(alpha='auto')", 0},
                                      {"binary(alpha='auto')", 0}}) {
        const Result got = run(text, w);
        EXPECT_EQ(got.y[0], 0) << text;
        EXPECT_EQ(got.y[2], 0) << text;
        EXPECT_EQ(got.scale[0], scale) << text;
        EXPECT_GT(got.y[1], 0.5) << text;
    }
    // {0, 1} codes of negative values alone are zeros.
    EXPECT_EQ(run("binary(1,alpha='auto')", Tensor::from({2, 1}, std::vector<float>{-1, -2})).scale, (Values{0}));
}

TEST(Quantizers, AutomaticScalesOfVectors) {
    const Tensor v = Tensor::from({3}, std::vector<float>{.9f, -.25f, .02f});
    // The first scale is the maximum over axis 0, and 'auto' keeps it: one scale, 2 max / (2 H) 2^(bits-1), H = 7.
    const Result bits = run("quantized_bits(4,0,alpha='auto')", v);
    expect_near(bits.scale, {.9 / 7 * 8}, 1e-6, "scale");
    expect_near(bits.y, {.9, -.9 / 7 * 2, 0}, 1e-6, "y");
    // Least squares are element-wise: a value whose first code is 0 has scale 0 from then on, and stays at 0.
    for (const std::string text : {"ternary(alpha='auto')", "ternary(alpha='auto',number_of_unrolls=2)"}) {
        const Result ternary = run(text, v);
        expect_near(ternary.scale, {.9, 0, 0}, 1e-6, text);  // .25 / .6 rounds to 0
        expect_near(ternary.y, {.9, 0, 0}, 1e-6, text);
    }
}

TEST(Quantizers, UnsignedBitsTakeTheirScaleFromTheLargestMagnitude) {
    // s = max|x| / H also without keep_negative: the codes of 'auto' are those of signed values.
    const Tensor w = Tensor::from({3, 1}, std::vector<float>{.4f, -1.4f, .1f});
    expect_near(run("quantized_bits(4,0,keep_negative=False,alpha='auto')", w).y, {.4, -1.4, .2}, 1e-6, "y");
    // quantized_linear has none for values below 0: max x counts.
    expect_near(run("quantized_linear(4,0,keep_negative=False,alpha='auto')", w).y, {.4, 0, .4 / 15 * 4}, 1e-6, "y");
}

TEST(Quantizers, LimitsOfQuantizedLinearAreItsLastCodes) {
    // Codes -7 to 7 times 2^(2 - 4 + 1), times alpha.
    EXPECT_EQ(max_value_of(parse_quantizer("quantized_linear(4,2)")), 3.5);
    EXPECT_EQ(min_value_of(parse_quantizer("quantized_linear(4,2,alpha=2.0)")), -7);
    EXPECT_EQ(min_value_of(parse_quantizer("quantized_linear(4,2,0)")), -4);
    EXPECT_EQ(min_value_of(parse_quantizer("quantized_linear(4,2,keep_negative=False)")), 0);
}

TEST(Quantizers, IntegerBitsBeyondThoseOfInt64) {
    // Steps of 2^(100 - 7): 1.25e29 is 12.6 of them, 3 is none, 4e32 lies above the last code, 127.
    const Result got = run("quantized_bits(8,100,1)", Tensor::from({4}, std::vector<float>{1.25e29f, 3, -1.1e30f, 4e32f}));
    const double step = std::exp2(93);
    EXPECT_EQ(got.y, (Values{13 * step, 0, -111 * step, 127 * step}));
    EXPECT_THROW(parse_quantizer("quantized_bits(8,128)"), UsageError);
}

TEST(Quantizers, ReluBoundOfZeroIsNoneForValues) {
    // "If relu_upper_bound": the surrogate ends at 0, the quantized value is not capped.
    const Result got = run("quantized_relu(2,0,relu_upper_bound=0.0,is_quantized_clip=False)", Tensor::from({2}, std::vector<float>{.5f, -1}));
    EXPECT_EQ(got.y, (Values{.5, 0}));
    EXPECT_EQ(got.gradient, (Values{0, 0}));
}

TEST(Quantizers, GradientsOutsideOfTheRange) {
    const Tensor x = Tensor::from({1, 5}, std::vector<float>{-3, -.5f, 0, .5f, 3});
    EXPECT_EQ(run("quantized_bits(4,0,alpha=1)", x).gradient, (Values{1, 1, 1, 1, 1}));
    EXPECT_EQ(run("quantized_linear(4,0)", x).gradient, (Values{0, 1, 1, 1, 0}));
    EXPECT_EQ(run("quantized_relu(4,0)", x).gradient, (Values{0, 0, 0, 1, 0}));
    EXPECT_EQ(run("quantized_relu(4,0,negative_slope=0.5)", x).gradient, (Values{.5, .5, .5, 1, 0}));
    // Upper bounds: 15/16 now, 1 in release 0.8, none without a clip.
    const Tensor edge = Tensor::from({1, 3}, std::vector<float>{.9375f, .96875f, 1.5f});
    EXPECT_EQ(run("quantized_relu(4,0)", edge).gradient, (Values{1, 0, 0}));
    EXPECT_EQ(run("quantized_relu(4,0)", edge, cpu_device, {.release = Release::v0_8}).gradient, (Values{1, 1, 0}));
    EXPECT_EQ(run("quantized_relu(4,0,is_quantized_clip=False)", edge).gradient, (Values{1, 1, 1}));
}

TEST(Quantizers, Release08StartsPowersOfTwoFromAPowerOfTwo) {
    // The spread, 2.27, over 7 levels is .324. From there least squares end at .5; from .25, its power of two, they stay there.
    const Tensor w = Tensor::from({4, 1}, std::vector<float>{.79f, .84f, .08f, -1.43f});
    Settings old;
    old.release = Release::v0_8;
    EXPECT_EQ(run("quantized_bits(3,0,1,alpha='auto')", w, cpu_device, old).y, (Values{1, 1, 0, -1.5}));
    EXPECT_EQ(run("quantized_bits(3,0,1,alpha='auto_po2')", w, cpu_device, old).y, (Values{.75, .75, 0, -.75}));
}

TEST(Quantizers, HardSwishGateEndsLikeARelu) {
    // d (x g / 6) / dx = (g + x g') / 6, g = relu(x + 3) up to 6: g' = 0 where the relu begins, 1 where the bound is reached.
    const Result got = run("quantized_hswish(8,3)", Tensor::from({5}, std::vector<float>{-4, -3, 0, 3, 4}));
    expect_near(got.gradient, {0, 0, .5, 1.5, 1}, 1e-6, "gradient");
}

TEST(Quantizers, NoiseMixesAndStopsTheGradient) {
    const Tensor x = Tensor::from({1, 1}, std::vector<float>{.3f});
    const double plain = run("quantized_bits(2,0,alpha=1)", x).y[0];
    EXPECT_EQ(plain, .5);
    EXPECT_NEAR(run("quantized_bits(2,0,alpha=1,qnoise_factor=0.25)", x).y[0], .75 * .3 + .25 * plain, 1e-7);
    EXPECT_EQ(run("quantized_bits(2,0,alpha=1,qnoise_factor=0.25)", x).gradient[0], 1);
    EXPECT_EQ(run("quantized_bits(2,0,alpha=1,qnoise_factor=0.25,use_ste=False)", x).gradient[0], .75);
    EXPECT_EQ(run("quantized_bits(4,0,alpha='auto',qnoise_factor=0.25,use_ste=False)", x).gradient[0], .75);
}

TEST(Quantizers, PostTrainingScaleFixesTheStep) {
    const Result got = run("quantized_bits(4,0,alpha='auto',post_training_scale=0.8)", kernel_example());
    // s = 0.8 / 8: codes of 0.9, -0.3, 0.55, -0.7 are 7 (capped), -3, 6 (5.5 away from zero), -7
    expect_near({got.y[0], got.y[2], got.y[4], got.y[6]}, {.7, -.3, .6, -.7}, 1e-6, "post-training scale");
    expect_near({got.scale[0]}, {.8}, 1e-6, "its scale");
}

TEST(Quantizers, StochasticRoundingIsRightInTheMeanAndOffInInference) {
    const Tensor x = Tensor::full({1, 40000}, 0.3);
    for (const std::string text : {"quantized_bits(3,0,alpha=1,use_stochastic_rounding=True)",
                                   "quantized_linear(3,0,use_stochastic_rounding=True)",
                                   "quantized_relu(3,0,use_stochastic_rounding=True)",
                                   "quantized_tanh(3,use_stochastic_rounding=True,use_real_tanh=False)",
                                   "quantized_po2(4,use_stochastic_rounding=True)"}) {
        for (const Device device : {cpu_device, reference_device}) {
            Pass pass;
            pass.training = true;
            pass.stream = stream(7, "test", 1);
            const Values y = run(text, x, device, {}, pass).y;
            double mean = 0;
            for (const double v : y) mean += v / static_cast<double>(y.size());
            EXPECT_NEAR(mean, 0.3, 0.004) << text;
            EXPECT_NE(*std::min_element(y.begin(), y.end()), *std::max_element(y.begin(), y.end())) << text;
            const Values still = run(text, x, device).y;
            EXPECT_EQ(*std::min_element(still.begin(), still.end()), *std::max_element(still.begin(), still.end())) << text;
        }
    }
}

// One step from s = 2/3: the first three are above s / 2, their mean is 0.56; half of that is below the fourth.
TEST(Quantizers, StochasticTernaryTakesAsManyStepsAsItIsTold) {
    const Tensor x = Tensor::from({4, 1}, Values{1, .34, .34, .29}).to(DType::f32);
    Pass pass;
    pass.training = true;
    pass.draws = pass.second_draws = Tensor::full({4, 1}, 0.5);
    for (const Device device : {cpu_device, reference_device}) {
        expect_near(run("stochastic_ternary(alpha='auto',number_of_unrolls=1)", x, device, {}, pass).scale, {.56}, 1e-6, "one");
        expect_near(run("stochastic_ternary(alpha='auto')", x, device, {}, pass).scale, {.4925}, 1e-6, "five");
    }
}

TEST(Quantizers, CpuAgreesWithReferenceToTheBit) {
    for (const test::QuantizerRow& row : test::quantizer_rows()) test::expect_row(row, cpu_device, test::Library::same);
    test::expect_uniform_stream(reference_device, nullptr);
}

TEST(Quantizers, MaskMultipliesInTheSamePass) {
    const Tensor x = Tensor::from({1, 4}, std::vector<float>{.3f, .6f, -.4f, .2f});
    Pass pass;
    pass.mask = Tensor::from({1, 4}, std::vector<float>{1, 0, 1, 0});
    for (const std::string text : {"quantized_bits(4,0,alpha=1)", "quantized_bits(4,0,alpha='auto')", "binary(alpha=1)"}) {
        const Result masked = run(text, x, cpu_device, {}, pass), free = run(text, x);
        EXPECT_EQ(masked.y, (Values{free.y[0], 0, free.y[2], 0})) << text;
        EXPECT_EQ(masked.gradient, (Values{1, 0, 1, 0})) << text;
    }
}

TEST(Quantizers, CodesTimesStepAreTheValues) {
    const Tensor x = Tensor::from({2, 7}, inputs());
    Tape tape(Tape::Mode::inference);
    for (const std::string text : {"quantized_bits(4,0,alpha=1)", "quantized_bits(4,1,alpha='auto')", "quantized_linear(1,0)",
                                   "quantized_linear(4,0,alpha='auto')", "binary(alpha='auto_po2')", "ternary(alpha=0.3)", "quantized_relu(3,1)"}) {
        const Quantized got = TensorQuantizer(parse_quantizer(text)).quantize(tape.constant(x));
        const Values k = codes(got.values.value(), got.step).values<double>(), step = got.step.values<double>();
        const Values y = got.values.value().values<double>();
        for (std::size_t i = 0; i < y.size(); ++i) EXPECT_NEAR(k[i] * step[step.size() == 1 ? 0 : i % 7], y[i], 1e-6) << text;
    }
    const Quantized powers = TensorQuantizer(parse_quantizer("quantized_po2(4)")).quantize(tape.constant(x));
    EXPECT_THROW(codes(powers.values.value(), powers.step), Error);
}

}  // namespace
}  // namespace bitloom::quant::qkeras
