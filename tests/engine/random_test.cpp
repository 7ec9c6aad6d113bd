#include "engine/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

namespace bitloom {
namespace {

// Known-answer vectors of the Random123 distribution (Salmon et al., SC 2011), philox4x32-10.
TEST(Philox, KnownAnswers) {
    using Block = std::array<std::uint32_t, 4>;
    EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
    EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
              (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
    EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
              (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, IsAFunctionOfSeedNameAndCounter) {
    const auto draw = [](std::uint64_t seed, const char* name, std::uint64_t counter) {
        return Rng(seed, name, counter).next_u32();
    };
    EXPECT_EQ(draw(1, "a", 0), draw(1, "a", 0));
    EXPECT_EQ((std::set<std::uint32_t>{draw(1, "a", 0), draw(2, "a", 0), draw(1, "b", 0), draw(1, "a", 1)}).size(), 4u);
}

TEST(Rng, SequenceEqualsTheStreamsElements) {
    const PhiloxStream s = stream(7, "weights", 3);
    Rng rng(s);
    for (std::uint64_t i = 0; i < 11; ++i) EXPECT_EQ(rng.next_u32(), s.word(i));
}

TEST(Rng, MomentsOfUniformAndNormal) {
    Rng rng(5, "moments");
    const int n = 200000;
    double u1 = 0, u2 = 0, n1 = 0, n2 = 0;
    for (int i = 0; i < n; ++i) {
        const double u = rng.uniform(), z = rng.normal();
        ASSERT_GE(u, 0.0);
        ASSERT_LT(u, 1.0);
        u1 += u, u2 += u * u, n1 += z, n2 += z * z;
    }
    EXPECT_NEAR(u1 / n, 0.5, 0.003);
    EXPECT_NEAR(u2 / n, 1.0 / 3, 0.003);
    EXPECT_NEAR(n1 / n, 0.0, 0.01);
    EXPECT_NEAR(n2 / n, 1.0, 0.02);
}

TEST(Rng, BelowIsUniformAndShuffleIsAPermutation) {
    Rng rng(5, "below");
    std::array<int, 6> counts{};
    for (int i = 0; i < 60000; ++i) ++counts[rng.below(6)];
    for (int c : counts) EXPECT_NEAR(c, 10000, 500);
    EXPECT_THROW(rng.below(0), Error);
    std::vector<int> v(100), sorted(100);
    std::iota(v.begin(), v.end(), 0);
    sorted = v;
    rng.shuffle(v);
    EXPECT_NE(v, sorted);
    std::sort(v.begin(), v.end());
    EXPECT_EQ(v, sorted);
}

TEST(Rng, FillsTensorsWithinBounds) {
    Tensor t = Tensor::empty({1000});
    Rng rng(1, "fill");
    fill_uniform(t, -2, 3, rng);
    const auto v = t.values<float>();
    EXPECT_GE(*std::min_element(v.begin(), v.end()), -2);
    EXPECT_LE(*std::max_element(v.begin(), v.end()), 3);
    EXPECT_LT(*std::min_element(v.begin(), v.end()), -1.9);
    fill_normal(t, 10, 0.1, rng);
    const auto w = t.values<float>();
    EXPECT_NEAR(std::accumulate(w.begin(), w.end(), 0.0) / 1000, 10, 0.02);
}

}  // namespace
}  // namespace bitloom
