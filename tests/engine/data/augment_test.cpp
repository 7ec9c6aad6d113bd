#include "engine/data/augment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <set>

#include "tests/engine/data/data_fixtures.h"

namespace bitloom {
namespace {

using testing::HasSubstr;

const Shape shape{9, 11, 3};

std::vector<float> picture() {
    std::vector<float> image(static_cast<std::size_t>(shape.numel()));
    Rng rng(5, "picture");
    for (float& x : image) x = static_cast<float>(rng.below(256));
    return image;
}

std::vector<float> augmented(const std::string& text, std::uint64_t counter) {
    std::vector<float> image = picture(), scratch(image.size(), -1.0f);
    Rng rng(1, "test", counter);
    for (const auto& step : parse_augmentations(text)) step->apply(image.data(), shape, scratch.data(), rng);
    return image;
}

float at(const std::vector<float>& image, std::int64_t y, std::int64_t x, std::int64_t c) {
    return image[static_cast<std::size_t>((y * shape[1] + x) * shape[2] + c)];
}

/// Bilinear with nearest edge, in double, straight from the definition.
double sampled(const std::vector<float>& image, double y, double x, std::int64_t c) {
    y = std::clamp(y, 0.0, static_cast<double>(shape[0] - 1));
    x = std::clamp(x, 0.0, static_cast<double>(shape[1] - 1));
    double sum = 0;
    for (std::int64_t r = 0; r < shape[0]; ++r)
        for (std::int64_t q = 0; q < shape[1]; ++q)
            sum += at(image, r, q, c) * std::max(0.0, 1 - std::abs(y - static_cast<double>(r))) *
                   std::max(0.0, 1 - std::abs(x - static_cast<double>(q)));
    return sum;
}

TEST(Crop, IsAWindowOfTheZeroPaddedImage) {
    const std::vector<float> source = picture();
    std::set<std::pair<int, int>> seen;
    for (std::uint64_t n = 0; n < 200; ++n) {
        const std::vector<float> out = augmented("crop2", n);
        Rng rng(1, "test", n);
        const int dy = static_cast<int>(rng.below(5)) - 2, dx = static_cast<int>(rng.below(5)) - 2;
        seen.insert({dy, dx});
        for (std::int64_t y = 0; y < shape[0]; ++y)
            for (std::int64_t x = 0; x < shape[1]; ++x) {
                const bool inside = y + dy >= 0 && y + dy < shape[0] && x + dx >= 0 && x + dx < shape[1];
                for (std::int64_t c = 0; c < 3; ++c)
                    ASSERT_EQ(at(out, y, x, c), inside ? at(source, y + dy, x + dx, c) : 0.0f);
            }
    }
    EXPECT_EQ(seen.size(), 25u);
    EXPECT_EQ(augmented("crop0", 3), source);
    // Padding greater than the image: all-zero crops are possible and harmless.
    for (std::uint64_t n = 0; n < 20; ++n) EXPECT_EQ(augmented("crop40", n).size(), source.size());
}

TEST(Flip, MirrorsHalfOfTheImages) {
    const std::vector<float> source = picture();
    int flipped = 0;
    for (std::uint64_t n = 0; n < 400; ++n) {
        const std::vector<float> out = augmented("flip", n);
        const bool mirrored = out != source;
        flipped += mirrored;
        if (!mirrored) continue;
        for (std::int64_t y = 0; y < shape[0]; ++y)
            for (std::int64_t x = 0; x < shape[1]; ++x)
                for (std::int64_t c = 0; c < 3; ++c) ASSERT_EQ(at(out, y, x, c), at(source, y, shape[1] - 1 - x, c));
    }
    EXPECT_NEAR(flipped, 200, 50);  // five standard deviations
}

TEST(Shift, FollowsKerasWithRowDrawnBeforeColumn) {
    const std::vector<float> source = picture();
    for (std::uint64_t n = 0; n < 20; ++n) {
        const std::vector<float> out = augmented("shift0.3", n);
        Rng rng(1, "test", n);
        const double ty = rng.uniform(-0.3, 0.3) * static_cast<double>(shape[0]);
        const double tx = rng.uniform(-0.3, 0.3) * static_cast<double>(shape[1]);
        for (std::int64_t y = 0; y < shape[0]; ++y)
            for (std::int64_t x = 0; x < shape[1]; ++x)
                for (std::int64_t c = 0; c < 3; ++c)
                    ASSERT_NEAR(at(out, y, x, c),
                                sampled(source, static_cast<double>(y) + ty, static_cast<double>(x) + tx, c), 1e-3);
    }
    EXPECT_EQ(augmented("shift0", 1), source);
}

TEST(Rotate, TurnsAboutTheCentre) {
    const std::vector<float> source = picture();
    for (std::uint64_t n = 0; n < 20; ++n) {
        const std::vector<float> out = augmented("rotate30", n);
        Rng rng(1, "test", n);
        const double angle = rng.uniform(-30, 30) * std::numbers::pi / 180;
        for (std::int64_t y = 0; y < shape[0]; ++y)
            for (std::int64_t x = 0; x < shape[1]; ++x)
                for (std::int64_t c = 0; c < 3; ++c) {
                    const double dy = static_cast<double>(y) - 4, dx = static_cast<double>(x) - 5;
                    const double from_y = 4 + std::cos(angle) * dy + std::sin(angle) * dx;
                    const double from_x = 5 - std::sin(angle) * dy + std::cos(angle) * dx;
                    ASSERT_NEAR(at(out, y, x, c), sampled(source, from_y, from_x, c), 1e-3);
                }
        EXPECT_EQ(at(out, 4, 5, 1), at(source, 4, 5, 1));
    }
}

TEST(Cutout, ClipsItsHoleAtTheBorder) {
    const std::vector<float> source = picture();
    EXPECT_TRUE(parse_augmentations("cutout4")[0]->after_normalization());
    std::set<std::int64_t> areas;
    for (std::uint64_t n = 0; n < 300; ++n) {
        const std::vector<float> out = augmented("cutout4", n);
        Rng rng(1, "test", n);
        const auto y0 = static_cast<std::int64_t>(rng.below(9)), x0 = static_cast<std::int64_t>(rng.below(11));
        std::int64_t area = 0;
        for (std::int64_t y = 0; y < shape[0]; ++y)
            for (std::int64_t x = 0; x < shape[1]; ++x) {
                const bool hole = y >= y0 - 2 && y < y0 + 2 && x >= x0 - 2 && x < x0 + 2;
                area += hole;
                for (std::int64_t c = 0; c < 3; ++c) ASSERT_EQ(at(out, y, x, c), hole ? 0.0f : at(source, y, x, c));
            }
        areas.insert(area);
    }
    EXPECT_TRUE(areas.contains(4) && areas.contains(16)) << "corners and whole holes both occur";
}

TEST(ParseAugmentations, KeepsTheOrderAndRefusesNonsense) {
    const AugmentationPipeline pipeline = parse_augmentations("crop4,flip,shift0.1,rotate8,cutout16");
    std::string names;
    for (const auto& step : pipeline) names += step->name() + ",";
    EXPECT_EQ(names, "crop4,flip,shift0.1,rotate8,cutout16,");
    EXPECT_TRUE(parse_augmentations("").empty());
    EXPECT_TRUE(parse_augmentations("none").empty());
    for (const char* bad : {"crop", "crop-1", "crop4x", "flip2", "shift", "shift1.5", "rotate360", "rotatenan",
                            "cutout2.5", "mirror", ",", "crop4,", "crop99999999999"})
        EXPECT_THAT(message_of<UsageError>([&] { parse_augmentations(bad); }), HasSubstr("augmentation '"));
}

}  // namespace
}  // namespace bitloom
