#include "engine/data/kfold.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/engine/data/data_fixtures.h"

namespace bitloom {
namespace {

using testing::HasSubstr;

TEST(FoldBoundary, AreThePublishedOnesOfSvhn) {
    const std::vector<std::int64_t> train{0, 7326, 14651, 21977, 29303, 36628, 43954, 51280, 58606, 65931, 73257};
    const std::vector<std::int64_t> extra{0,      53113,  106226, 159339, 212452, 265566,
                                          318679, 371792, 424905, 478018, 531131};
    for (int k = 0; k <= 10; ++k) {
        EXPECT_EQ(fold_boundary(k, 10, 73257), train[static_cast<std::size_t>(k)]);
        EXPECT_EQ(fold_boundary(k, 10, 531131), extra[static_cast<std::size_t>(k)]);
    }
    EXPECT_EQ(fold_boundary(1, 2, 5), 2);  // 2.5 to even
    EXPECT_EQ(fold_boundary(1, 2, 7), 4);  // 3.5 to even
    EXPECT_THAT(message_of([] { fold_boundary(11, 10, 5); }), HasSubstr("boundary 11 of 10"));
}

/// Each image holds its own number and its split.
std::shared_ptr<MemoryDataset> numbered(std::int64_t count, std::uint8_t split) {
    Tensor images = Tensor::empty({count, 1, 1, 3}, DType::u8);
    std::uint8_t* out = images.write<std::uint8_t>();
    for (std::int64_t i = 0; i < count; ++i, out += 3) {
        out[0] = split;
        out[1] = static_cast<std::uint8_t>(i % 256);
        out[2] = static_cast<std::uint8_t>(i / 256);
    }
    return std::make_shared<MemoryDataset>(images, std::vector<std::int32_t>(static_cast<std::size_t>(count)), 10);
}

std::vector<std::pair<int, int>> content(const Dataset& data) {
    std::vector<std::pair<int, int>> numbers;
    for (std::int64_t i = 0; i < data.size(); ++i) {
        std::uint8_t image[3];
        data.read(i, image);
        numbers.emplace_back(image[0], image[1] + 256 * image[2]);
    }
    return numbers;
}

TEST(MakeFold, JoinsTrainBeforeExtraInFileOrder) {
    const DataSplits splits{numbered(25, 0), nullptr, numbered(13, 1)};
    const Fold fold = make_fold(splits, 3, 10, FoldOrder::file);
    // 7.5 -> 8 and 10 of the training images, 3.9 -> 4 and 5.2 -> 5 of the extra ones.
    std::vector<std::pair<int, int>> train, validation{{0, 8}, {0, 9}, {1, 4}};
    for (int i = 0; i < 25; ++i)
        if (i < 8 || i >= 10) train.emplace_back(0, i);
    for (int i = 0; i < 13; ++i)
        if (i != 4) train.emplace_back(1, i);
    EXPECT_EQ(content(*fold.train), train);
    EXPECT_EQ(content(*fold.validation), validation);
}

TEST(MakeFold, EveryImageIsHeldOutOnce) {
    const DataSplits splits{numbered(257, 0), nullptr, numbered(100, 1)};
    for (const FoldOrder order : {FoldOrder::file, FoldOrder::permuted}) {
        std::multiset<std::pair<int, int>> held_out;
        for (int k = 0; k < 10; ++k) {
            const Fold fold = make_fold(splits, k, 10, order);
            EXPECT_EQ(fold.train->size() + fold.validation->size(), 357);
            const auto train = content(*fold.train), validation = content(*fold.validation);
            std::set<std::pair<int, int>> all(train.begin(), train.end());
            all.insert(validation.begin(), validation.end());
            EXPECT_EQ(all.size(), 357u);
            held_out.insert(validation.begin(), validation.end());
        }
        EXPECT_EQ(held_out.size(), 357u);
        EXPECT_EQ(std::set(held_out.begin(), held_out.end()).size(), 357u);
    }
    EXPECT_NE(content(*make_fold(splits, 0).validation),
              content(*make_fold(splits, 0, 10, FoldOrder::file).validation));
}

TEST(MakeFold, SizesOfThePublishedFoldZero) {
    // As large as SVHN, but one byte an image.
    const auto split = [](std::int64_t count) {
        return std::make_shared<MemoryDataset>(Tensor::zeros({count, 1, 1, 1}, DType::u8),
                                               std::vector<std::int32_t>(static_cast<std::size_t>(count)), 10);
    };
    const Fold fold = make_fold({split(73257), nullptr, split(531131)}, 0);
    EXPECT_EQ(fold.validation->size(), 60439);
    EXPECT_EQ(fold.train->size(), 543949);
}

TEST(MakeFold, RefusesImpossibleFolds) {
    const DataSplits splits{numbered(3, 0), nullptr, nullptr};
    EXPECT_THAT(message_of([&] { make_fold(splits, 0, 1); }), HasSubstr("at least 2"));
    EXPECT_THAT(message_of([&] { make_fold(splits, 10, 10); }), HasSubstr("fold 10 of 10"));
    EXPECT_THAT(message_of([&] { make_fold(splits, 0, 10); }), HasSubstr("too few images"));
    EXPECT_THAT(message_of([&] { make_fold({}, 0, 10); }), HasSubstr("no training images"));
}

TEST(SplitmixPermutation, IsFixed) {
    // The first outputs of SplitMix64 from state 1337, computed with arbitrary-precision integers, give these swaps.
    const std::vector<std::int64_t> ten = splitmix_permutation(10, 1337);
    EXPECT_EQ(ten, (std::vector<std::int64_t>{2, 4, 0, 5, 6, 8, 3, 1, 9, 7}));
    const std::vector<std::int64_t> order = splitmix_permutation(1000, 1337);
    EXPECT_EQ(std::set(order.begin(), order.end()).size(), 1000u);
    EXPECT_NE(order, splitmix_permutation(1000, 1338));
}

}  // namespace
}  // namespace bitloom
