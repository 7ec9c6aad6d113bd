#include "engine/data/normalize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/engine/data/data_fixtures.h"

namespace bitloom {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(Normalization, EvaluatesInFloatInTheGivenOrder) {
    for (const std::int64_t channels : {1, 2, 3, 5}) {
        const Shape shape{7, 9, channels};
        const auto data = counting_images(1, shape);
        std::vector<std::uint8_t> image(static_cast<std::size_t>(shape.numel()));
        data->read(0, image.data());
        const std::vector<float> as_float(image.begin(), image.end());
        for (const std::int64_t mean_size : {std::int64_t{0}, channels, shape.numel()})
            for (const std::int64_t std_size : {std::int64_t{0}, channels, shape.numel()}) {
                Normalization norm;
                for (std::int64_t i = 0; i < mean_size; ++i) norm.mean.push_back(0.4f + 0.01f * static_cast<float>(i));
                for (std::int64_t i = 0; i < std_size; ++i) norm.std.push_back(0.2f + 0.003f * static_cast<float>(i));
                std::vector<float> out(image.size()), from_float(image.size());
                norm.apply(image.data(), shape, out.data());
                norm.apply(as_float.data(), shape, from_float.data());
                EXPECT_EQ(out, from_float);
                norm.per_pixel(shape).apply(image.data(), shape, from_float.data());
                EXPECT_EQ(out, from_float);
                for (std::size_t i = 0; i < image.size(); ++i) {
                    const std::size_t c = i % static_cast<std::size_t>(channels);
                    float y = static_cast<float>(image[i]) / 255.0f;
                    if (mean_size) y = y - norm.mean[mean_size == channels ? c : i];
                    if (std_size) y = y / norm.std[std_size == channels ? c : i];
                    ASSERT_EQ(out[i], y) << channels << " channels, " << mean_size << " means, " << std_size
                                         << " deviations";
                }
            }
        Normalization wrong;
        wrong.mean.assign(static_cast<std::size_t>(channels + 1), 0.0f);
        std::vector<float> out(image.size());
        EXPECT_THAT(message_of([&] { wrong.apply(image.data(), shape, out.data()); }), HasSubstr("values of mean"));
        EXPECT_THAT(message_of([&] { wrong.per_pixel(shape); }), HasSubstr("values of mean"));
    }
}

TEST(Standardization, EqualsTheTwoPassFormula) {
    const auto data = counting_images(300, {4, 3, 2});
    std::vector<double> mean(24), variance(24);
    std::uint8_t image[24];
    for (std::int64_t n = 0; n < 300; ++n) {
        data->read(n, image);
        for (std::size_t i = 0; i < 24; ++i) mean[i] += image[i] / 255.0 / 300;
    }
    for (std::int64_t n = 0; n < 300; ++n) {
        data->read(n, image);
        for (std::size_t i = 0; i < 24; ++i) variance[i] += std::pow(image[i] / 255.0 - mean[i], 2) / 300;
    }
    const Normalization by_pixel = per_pixel_standardization(*data);
    ASSERT_EQ(by_pixel.mean.size(), 24u);
    for (std::size_t i = 0; i < 24; ++i) {
        EXPECT_NEAR(by_pixel.mean[i], mean[i], 1e-7);
        EXPECT_NEAR(by_pixel.std[i], std::sqrt(variance[i]), 1e-7);
    }
    const Normalization by_channel = per_channel_standardization(*data);
    ASSERT_EQ(by_channel.mean.size(), 2u);
    for (std::size_t c = 0; c < 2; ++c) {
        double m = 0, v = 0;
        for (std::size_t i = c; i < 24; i += 2) m += mean[i] / 12;
        for (std::size_t i = c; i < 24; i += 2) v += (variance[i] + std::pow(mean[i] - m, 2)) / 12;
        EXPECT_NEAR(by_channel.mean[c], m, 1e-7);
        EXPECT_NEAR(by_channel.std[c], std::sqrt(v), 1e-7);
    }
}

TEST(Standardization, AConstantPixelKeepsDeviationOne) {
    const MemoryDataset flat(Tensor::full({5, 2, 2, 1}, 200, DType::u8), {0, 0, 0, 0, 0}, 1);
    const Normalization norm = per_pixel_standardization(flat);
    EXPECT_THAT(norm.std, ElementsAre(1, 1, 1, 1));
    EXPECT_FLOAT_EQ(norm.mean[0], 200.0f / 255);
}

TEST(Normalization, ByName) {
    const auto rgb = counting_images(3, {2, 2, 3}), grey = counting_images(3, {2, 2, 1});
    EXPECT_EQ(normalization_by_name("none", *rgb).divisor, 1.0f);
    EXPECT_EQ(normalization_by_name("unit", *rgb).divisor, 255.0f);
    EXPECT_THAT(normalization_by_name("cifar-bsq", *rgb).std, ElementsAre(0.2023f, 0.1994f, 0.2010f));
    EXPECT_FLOAT_EQ(normalization_by_name("cifar-ec2t", *rgb).mean[2], 113.9f / 255);
    EXPECT_THAT(normalization_by_name("mnist-ec2t", *grey).std, ElementsAre(0.3081f));
    EXPECT_EQ(normalization_by_name("per-pixel", *rgb).mean.size(), 12u);
    EXPECT_EQ(normalization_by_name("per-channel", *rgb).mean.size(), 3u);
    const Normalization given = normalization_by_name("0.5,0.25,0/1,2,4", *rgb);
    EXPECT_THAT(given.mean, ElementsAre(0.5f, 0.25f, 0.0f));
    EXPECT_THAT(given.std, ElementsAre(1.0f, 2.0f, 4.0f));
    for (const char* bad : {"imagenet", "0.5,/1", "", "nan/1", "0.5/0", "0.5,0.5,0.5/1,-1,1"})
        message_of<UsageError>([&] { normalization_by_name(bad, *rgb); });
    EXPECT_THAT(message_of<UsageError>([&] { normalization_by_name("cifar-bsq", *grey); }), HasSubstr("1 channels"));
}

}  // namespace
}  // namespace bitloom
