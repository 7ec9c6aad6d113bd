#include "engine/data/digits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/data/digit_glyphs.h"
#include "tests/engine/data/data_fixtures.h"

namespace bitloom {
namespace {

using testing::HasSubstr;

std::uint64_t checksum(const MemoryDataset& data) {
    std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
    const auto add = [&](std::uint64_t byte) { hash = (hash ^ byte) * 0x100000001b3u; };
    const std::uint8_t* pixels = data.images().read<std::uint8_t>();
    for (std::int64_t i = 0; i < data.images().numel(); ++i) add(pixels[i]);
    for (const std::int32_t label : data.labels()) add(static_cast<std::uint64_t>(label));
    return hash;
}

TEST(Digits, DoNotDependOnTheThreads) {
    for (const bool grey : {false, true}) {
        const auto one = generate_digits({7, DigitsSplit::train, 800, grey, 1});
        EXPECT_EQ(one->image_shape(), grey ? (Shape{28, 28, 1}) : (Shape{32, 32, 3}));
        EXPECT_EQ(checksum(*one), checksum(*generate_digits({7, DigitsSplit::train, 800, grey, 3})));
        EXPECT_EQ(checksum(*one), checksum(*generate_digits({7, DigitsSplit::train, 800, grey})));
        EXPECT_NE(checksum(*one), checksum(*generate_digits({8, DigitsSplit::train, 800, grey})));
        EXPECT_NE(checksum(*one), checksum(*generate_digits({7, DigitsSplit::test, 800, grey})));
    }
}

TEST(Digits, ASmallerSetIsTheBeginningOfALargerOne) {
    const auto small = generate_digits({7, DigitsSplit::extra, 40, false}),
               large = generate_digits({7, DigitsSplit::extra, 900, false});
    EXPECT_EQ(std::memcmp(small->images().raw(), large->images().raw(), small->images().bytes()), 0);
    EXPECT_TRUE(std::equal(small->labels().begin(), small->labels().end(), large->labels().begin()));
}

TEST(Digits, LabelsAreBalancedAndImagesDiffer) {
    const auto data = generate_digits({1, DigitsSplit::train, 5000, false});
    std::vector<int> counts(10);
    for (const std::int32_t label : data->labels()) ++counts[static_cast<std::size_t>(label)];
    for (const int count : counts) EXPECT_NEAR(count, 500, 110);  // five standard deviations
    std::vector<std::uint8_t> a(3072), b(3072);
    for (std::int64_t i = 1; i < 50; ++i) {
        data->read(i - 1, a.data());
        data->read(i, b.data());
        EXPECT_NE(a, b);
    }
}

/// Nearest class mean on raw pixels, a linear classifier: learns little, as ink may be darker or lighter than its
/// ground.
TEST(Digits, PixelsAloneSayLittle) {
    const auto train = generate_digits({1, DigitsSplit::train, 4000, true}),
               test = generate_digits({1, DigitsSplit::test, 1000, true});
    constexpr std::size_t pixels = 784;
    std::vector<double> means(10 * pixels), counts(10);
    std::vector<std::uint8_t> image(pixels);
    for (std::int64_t n = 0; n < train->size(); ++n) {
        train->read(n, image.data());
        const auto label = static_cast<std::size_t>(train->label(n));
        ++counts[label];
        for (std::size_t i = 0; i < pixels; ++i) means[label * pixels + i] += image[i];
    }
    int correct = 0;
    for (std::int64_t n = 0; n < test->size(); ++n) {
        test->read(n, image.data());
        int best = 0;
        double best_distance = INFINITY;
        for (int k = 0; k < 10; ++k) {
            double distance = 0;
            for (std::size_t i = 0; i < pixels; ++i)
                distance += std::pow(
                    image[i] - means[static_cast<std::size_t>(k) * pixels + i] / counts[static_cast<std::size_t>(k)],
                    2);
            if (distance < best_distance) best_distance = distance, best = k;
        }
        correct += best == test->label(n);
    }
    EXPECT_LT(correct, 600);
}

TEST(Digits, RefusesImpossibleSizes) {
    EXPECT_THAT(message_of([] { generate_digits({1, DigitsSplit::train, 0}); }), HasSubstr("0 images"));
    EXPECT_THAT(message_of([] { generate_digits({1, DigitsSplit::train, -5}); }), HasSubstr("-5 images"));
    DatasetOptions options;
    options.train_size = 30;
    options.test_size = 20;
    options.extra = true;
    const DataSplits splits = load_dataset(options);
    EXPECT_EQ(splits.train->size(), 30);
    EXPECT_EQ(splits.test->size(), 20);
    EXPECT_EQ(splits.extra->size(), 30);
}

TEST(Glyphs, EveryDigitHasItsFacesInTheUnitBox) {
    for (int digit = 0; digit < 10; ++digit)
        for (int face = 0; face < glyph_faces; ++face) {
            const Glyph& g = glyph(digit, face);
            ASSERT_FALSE(g.pieces.empty());
            float top = 1, bottom = 0;
            std::vector<Segment> segments;
            flatten(g, g.points, 8, segments);
            EXPECT_GE(segments.size(), g.pieces.size());
            for (const Segment& s : segments)
                for (const Point p : {s.from, s.to}) {
                    EXPECT_TRUE(p.x >= -0.06f && p.x <= 1.06f && p.y >= -0.06f && p.y <= 1.06f)
                        << digit << " face " << face;
                    top = std::min(top, p.y);
                    bottom = std::max(bottom, p.y);
                }
            EXPECT_NEAR(top, 0, 0.06) << digit << " face " << face;
            EXPECT_NEAR(bottom, 1, 0.06) << digit << " face " << face;
        }
}

}  // namespace
}  // namespace bitloom
