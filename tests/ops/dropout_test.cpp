#include "ops/dropout.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/ops/expect_error.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;

Tensor ones(const Shape& shape, Device device) { return Tensor::full(shape, 1, DType::f32, device); }

TEST(Dropout, KeepsTheMeanAndTheRate) {
    for (const Device device : {reference_device, cpu_device}) {
        for (const double rate : {0.1, 0.5, 0.8}) {
            Tape tape;
            const Values y =
                dropout(tape.constant(ones({40000}, device)), rate, stream(1, "mean", 0)).value().values<double>();
            const double n = static_cast<double>(y.size());
            const double dropped = static_cast<double>(std::count(y.begin(), y.end(), 0.0)) / n;
            EXPECT_NEAR(dropped, rate, 5 * std::sqrt(rate * (1 - rate) / n)) << device;  // five standard errors
            const double mean = std::accumulate(y.begin(), y.end(), 0.0) / n;
            EXPECT_NEAR(mean, 1, 5 * std::sqrt(rate / (1 - rate) / n)) << device;
            for (const double v : y) ASSERT_TRUE(v == 0 || std::abs(v - 1 / (1 - rate)) < 1e-6) << device;
        }
    }
}

TEST(Dropout, ElementsFollowTheStream) {
    const PhiloxStream s = stream(7, "elements", 3);
    for (const Device device : {reference_device, cpu_device}) {
        for (const std::int64_t n : {1, 3, 4, 5, 63, 1027}) {
            Tape tape;
            const Values y = dropout(tape.constant(ones({n}, device)), 0.5, s).value().values<double>();
            for (std::int64_t i = 0; i < n; ++i)
                ASSERT_EQ(y[static_cast<std::size_t>(i)],
                          to_unit_float(s.word(static_cast<std::uint64_t>(i))) >= 0.5f ? 2 : 0)
                    << device << ", element " << i << " of " << n;
        }
    }
}

TEST(Dropout, AUniformEqualToTheRateSurvives) {
    const PhiloxStream s = stream(7, "elements", 3);
    for (const Device device : {reference_device, cpu_device}) {
        for (const std::uint64_t i : {0u, 5u, 36u}) {
            const double rate = static_cast<double>(to_unit_float(s.word(i)));
            const auto drawn = [&](double r) {
                Tape tape;
                return dropout(tape.constant(ones({37}, device)), r, s).value().values<double>()[i];
            };
            EXPECT_GT(drawn(rate), 0) << device << ", element " << i;
            EXPECT_EQ(drawn(rate + 0x1.0p-24), 0) << device << ", element " << i;
        }
    }
}

TEST(Dropout, IsReproducibleAndItsGradientUsesTheSameMask) {
    for (const Device device : {reference_device, cpu_device}) {
        Tape tape;
        const Var x = tape.input(ones({1001}, device), true);
        const Var y = dropout(x, 0.5, stream(1, "mask", 0));
        tape.backward(y);
        EXPECT_EQ(tape.grad(x).values<float>(), y.value().values<float>()) << device;
        Tape other;
        const auto draw = [&](std::uint64_t seed, std::string_view name, std::uint64_t step) {
            return dropout(other.constant(ones({1001}, device)), 0.5, stream(seed, name, step)).value().values<float>();
        };
        EXPECT_EQ(draw(1, "mask", 0), y.value().values<float>());
        EXPECT_NE(draw(1, "mask", 1), draw(1, "mask", 0)) << "the next step draws another mask";
        EXPECT_NE(draw(2, "mask", 0), draw(1, "mask", 0));
        EXPECT_NE(draw(1, "other", 0), draw(1, "mask", 0));
    }
}

TEST(Dropout, OfRateZeroIsTheInput) {
    Tape tape;
    const Var x = tape.input(ones({3}, reference_device), true);
    EXPECT_TRUE(dropout(x, 0, stream(1, "zero", 0)).value().shares_storage(x.value()));
    EXPECT_TRUE(drop_path(x, 0, stream(1, "zero", 0)).value().shares_storage(x.value()));
    EXPECT_EQ(tape.node_count(), 0);
}

TEST(DropPath, DropsWholeSamples) {
    for (const Device device : {reference_device, cpu_device}) {
        Tape tape;
        const Var x =
            tape.input(Tensor::from(Shape{4, 2}, Values{1, 2, 3, 4, 5, 6, 7, 8}, device).to(DType::f32), true);
        // floor(0.75 + u): 0 below u = 0.25, else 1; survivors are divided by 0.75.
        const Var y = drop_path(x, 0.25, std::vector<float>{0.2f, 0.25f, 0.9f, 0.0f});
        const std::vector<float> factors{0, static_cast<float>(1 / 0.75), static_cast<float>(1 / 0.75), 0};
        std::vector<float> expected, gradient;
        for (std::size_t i = 0; i < 8; ++i) {
            expected.push_back(static_cast<float>(i + 1) * factors[i / 2]);
            gradient.push_back(10 * factors[i / 2]);
        }
        EXPECT_EQ(y.value().values<float>(), expected) << device;
        tape.backward(y, Tensor::full({4, 2}, 10, DType::f32, device));
        EXPECT_EQ(tape.grad(x).values<float>(), gradient) << device;
    }
}

TEST(DropPath, StreamGivesSampleNItsElement) {
    const PhiloxStream s = stream(5, "paths", 9);
    std::vector<float> uniforms;
    for (std::uint64_t n = 0; n < 33; ++n) uniforms.push_back(to_unit_float(s.word(n)));
    Tape tape;
    const Var x = tape.constant(ones({33, 3}, reference_device));
    const std::vector<float> y = drop_path(x, 0.4, s).value().values<float>();
    EXPECT_EQ(y, drop_path(x, 0.4, uniforms).value().values<float>());
    EXPECT_GT(std::count(y.begin(), y.end(), 0.0f), 0);
    EXPECT_LT(std::count(y.begin(), y.end(), 0.0f), 99);
}

TEST(Dropout, SaysWhatIsWrong) {
    Tape tape;
    const Var x = tape.constant(ones({3}, reference_device));
    expect_error([&] { dropout(x, 1, {}); }, "dropout: rate 1 is outside [0, 1)");
    expect_error([&] { dropout(x, -0.5, {}); }, "dropout: rate -0.5 is outside [0, 1)");
    expect_error([&] { drop_path(x, 1.5, PhiloxStream{}); }, "drop_path: rate 1.5 is outside [0, 1)");
    expect_error([&] { drop_path(x, 0.5, std::vector<float>{0.5f}); },
                 "drop_path: 1 uniforms for an input of shape [3]");
}

}  // namespace
}  // namespace bitloom::ops::test
