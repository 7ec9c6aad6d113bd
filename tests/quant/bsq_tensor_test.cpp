// The worked examples of bsq.md, section 11, and the rules of 5.2 and 5.5.

#include <gtest/gtest.h>

#include "engine/random.h"
#include "quant/bsq/bit_tensor.h"
#include "quant/bsq/kernels.h"

namespace bitloom::bsq {
namespace {

using Codes = std::vector<std::int64_t>;

BitTensor from(const Codes& values, float scale, int bits) {
    return from_codes(values, {static_cast<std::int64_t>(values.size())}, scale, bits);
}
/// Planes of one value a list: {p_0, n_0, p_1, n_1, ...} of each.
Tensor planes(const std::vector<std::vector<float>>& values) {
    const auto count = static_cast<std::int64_t>(values.size()), rows = static_cast<std::int64_t>(values[0].size());
    std::vector<float> flat;
    for (std::int64_t row = 0; row < rows; ++row)
        for (const auto& value : values) flat.push_back(value[static_cast<std::size_t>(row)]);
    return Tensor::from({rows / 2, 2, count}, flat);
}

TEST(BitTensor, ConversionOfExampleA) {
    const Tensor w = Tensor::from({2, 4}, std::vector<float>{0.7f, -0.35f, 0.1f, 0, -0.7f, 0.05f, 0.5f, -0.2f});
    const BitTensor bits = to_bits(w, 3);
    EXPECT_EQ(codes(bits), (Codes{7, -4, 1, 0, -7, 0, 5, -2}));
    EXPECT_FLOAT_EQ(bits.scale, 0.7f);
    EXPECT_EQ(bits.shape(), (Shape{2, 4}));
    const std::vector<float> values = to_values(bits).values<float>();
    const float expected[] = {0.7f, -0.4f, 0.1f, 0, -0.7f, 0, 0.5f, -0.2f};
    for (std::size_t i = 0; i < 8; ++i) EXPECT_NEAR(values[i], expected[i], 1e-6);
    // -4 is 100 in the negative planes and nothing in the positive ones
    const float* p = bits.planes.read<float>();
    for (int b = 0; b < 3; ++b) {
        EXPECT_EQ(p[(2 * b) * 8 + 1], 0);
        EXPECT_EQ(p[(2 * b + 1) * 8 + 1], b == 0 ? 1 : 0);
    }
}

TEST(BitTensor, ZeroTensorsAndPrecisionZero) {
    const BitTensor zero = to_bits(Tensor::zeros({3}), 4);
    EXPECT_EQ(zero.bits(), 4);
    EXPECT_EQ(zero.scale, 0);
    EXPECT_FALSE(zero.zero);
    const BitTensor none = to_bits(Tensor::from({2}, std::vector<float>{1, -2}), 0);
    EXPECT_EQ(none.bits(), 1);
    EXPECT_TRUE(none.zero);
    EXPECT_TRUE(all_zero(none));
    EXPECT_THROW(to_bits(Tensor::zeros({3}), max_bits + 1), Error);
    EXPECT_THROW(from({8}, 1, 3), Error);
}

TEST(BitTensor, EveryCodeComesBackAtEveryPrecision) {
    for (int bits = 1; bits <= max_bits; ++bits) {
        const std::int64_t top = (std::int64_t{1} << bits) - 1;
        Codes wanted;
        for (std::int64_t code = -top; code <= top; code += std::max<std::int64_t>(1, top / 700)) wanted.push_back(code);
        EXPECT_EQ(codes(from(wanted, 1, bits)), wanted) << bits;
    }
}

TEST(BitTensor, RequantizationOfExampleD) {
    // p = [[1.2, 0.3], [2.0, 1.5]], n = [[0.1, 0.9], [0, 0]]
    const BitTensor tensor{planes({{1.2f, 0.1f, 0.3f, 0.9f}, {2.0f, 0, 1.5f, 0}}), 0.6f, false};
    const std::vector<float> t = normalized(tensor).values<float>();
    EXPECT_NEAR(t[0], 0.533333, 1e-6);
    EXPECT_NEAR(t[1], 1.833333, 1e-6);
    const BitTensor grown = requantize(tensor, 8);
    EXPECT_EQ(grown.bits(), 3);
    EXPECT_EQ(codes(grown), (Codes{2, 6}));
    EXPECT_NEAR(grown.scale, 1.4f, 1e-6);
    const BitTensor stripped = strip(grown, 0);
    EXPECT_EQ(stripped.bits(), 2);
    EXPECT_EQ(codes(stripped), (Codes{1, 3}));
    EXPECT_NEAR(stripped.scale, 1.2f, 1e-6);
    for (const BitTensor& clipped : {requantize(tensor, 2), requantize(tensor, 8, false)}) {
        EXPECT_EQ(clipped.bits(), 2);
        EXPECT_EQ(codes(clipped), (Codes{2, 3}));
        EXPECT_EQ(clipped.scale, 0.6f);
    }
}

TEST(BitTensor, StrippingOfExampleE) {
    struct Row {
        int bits;
        Codes codes;
        int bits_after;
        Codes codes_after;
        double scale_after, threshold;
    };
    const Row rows[] = {{5, {3, -7, 0, 5}, 3, {3, -7, 0, 5}, 0.180645, 0},
                        {5, {16, -8, 24, 12}, 3, {4, -2, 6, 3}, 0.722581, 0},
                        {6, {4, -12, 8, 0}, 2, {1, -3, 2, 0}, 0.152381, 0},
                        {5, {0, 0, 0, 0}, 1, {0, 0, 0, 0}, 0.025806, 0},
                        {8, {16, -16, 0, 16}, 1, {1, -1, 0, 1}, 0.050196, 0},
                        {4, {15, -9, 1, 0}, 4, {15, -9, 1, 0}, 0.8, 0},
                        {5, {17, 2, -6, 8}, 2, {1, 2, -3, 0}, 0.077419, 30}};
    for (const Row& row : rows) {
        const BitTensor before = from(row.codes, 0.8f, row.bits), after = strip(before, row.threshold);
        EXPECT_EQ(after.bits(), row.bits_after);
        EXPECT_EQ(codes(after), row.codes_after);
        EXPECT_NEAR(after.scale, row.scale_after, 1e-6);
        if (row.threshold > 0) continue;
        const std::vector<float> was = to_values(before).values<float>(), is = to_values(after).values<float>();
        for (std::size_t i = 0; i < was.size(); ++i) EXPECT_NEAR(was[i], is[i], 1e-6);
    }
}

TEST(BitTensor, FoldingSaturatesDownToOnePlane) {
    // Half of the values have the top plane, below 60 %: it is folded into the last one, 1 + 1 clipped to 1.
    const BitTensor after = strip(from({3, 3, 1, 0}, 0.8f, 2), 60);
    EXPECT_EQ(after.bits(), 1);
    EXPECT_EQ(after.planes.values<float>(), (std::vector<float>{1, 1, 1, 0, 0, 0, 0, 0}));
    EXPECT_NEAR(after.scale, 0.8 / 3, 1e-7);
}

TEST(BitTensor, OnePlaneIsLeftAlone) {
    const BitTensor zero = from({0, 0}, 0.5f, 1);
    const BitTensor after = strip(zero, 50);
    EXPECT_EQ(after.bits(), 1);
    EXPECT_EQ(after.scale, 0.5f);
}

TEST(BitTensor, RequantizationOfRandomPlanesKeepsWhatTheyRepresent) {
    Rng rng(1, "planes", 0);
    for (int bits = 1; bits <= 10; ++bits) {
        std::vector<float> values(static_cast<std::size_t>(2 * bits * 50));
        for (float& v : values) v = static_cast<float>(2 * rng.uniform());
        const BitTensor tensor{Tensor::from({bits, 2, 50}, values), 0.3f, false};
        const BitTensor after = requantize(tensor, 12);
        const std::vector<float> was = to_values(tensor).values<float>(), is = to_values(after).values<float>();
        const float step = tensor.scale / top_code(bits);
        for (std::size_t i = 0; i < was.size(); ++i) EXPECT_LE(std::abs(was[i] - is[i]), 0.5f * step + 1e-6f);
        for (const float bit : after.planes.values<float>()) EXPECT_TRUE(bit == 0 || bit == 1);
        const BitTensor again = requantize(after, 12);
        EXPECT_EQ(again.bits(), after.bits());
        EXPECT_EQ(again.planes.values<float>(), after.planes.values<float>());
    }
}

TEST(BitTensor, StatisticsAndTheDynamicQuantizer) {
    const std::vector<double> percent = nonzero_percentages(from({16, -8, 24, 12}, 1, 5));
    EXPECT_EQ(percent, (std::vector<double>{50, 75, 25, 0, 0}));
    const std::vector<float> q =
        quantize_dynamically(Tensor::from({4}, std::vector<float>{1.5f, -0.75f, 0.1f, 0}), 2).values<float>();  // example H
    EXPECT_EQ(q, (std::vector<float>{1.5f, -1.0f, 0, 0}));
    EXPECT_EQ(quantize_dynamically(Tensor::full({3}, 2), 0).values<float>(), (std::vector<float>{0, 0, 0}));
}

}  // namespace
}  // namespace bitloom::bsq
