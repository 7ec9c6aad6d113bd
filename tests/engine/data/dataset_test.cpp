#include "engine/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/data/normalize.h"
#include "engine/data/readers.h"
#include "engine/data/resize.h"
#include "tests/engine/data/data_fixtures.h"

namespace bitloom {
namespace {

using testing::HasSubstr;

TEST(MemoryDataset, RefusesContradictions) {
    const Tensor images = Tensor::zeros({2, 3, 3, 1}, DType::u8);
    EXPECT_THAT(message_of([&] { MemoryDataset(images, {0}, 10); }), HasSubstr("2 images but 1 labels"));
    EXPECT_THAT(message_of([&] { MemoryDataset(images, {0, 10}, 10); }), HasSubstr("image 1 has label 10"));
    EXPECT_THAT(message_of([&] { MemoryDataset(images, {0, -1}, 10); }), HasSubstr("label -1"));
    EXPECT_THAT(message_of([&] { MemoryDataset(Tensor::zeros({2, 3, 3, 1}), {0, 1}, 10); }), HasSubstr("u8"));
    std::uint8_t image[9];
    EXPECT_THAT(message_of([&] { MemoryDataset(images, {0, 1}, 10).read(2, image); }), HasSubstr("image 2 of 2"));
}

TEST(Subset, AndConcatenationAddressTheSource) {
    const auto data = counting_images(10, {2, 2, 1});
    const auto some = std::make_shared<Subset>(data, std::vector<std::int64_t>{7, 0, 7});
    const ConcatDataset joined({some, data});
    ASSERT_EQ(joined.size(), 13);
    const std::vector<int> expected{7, 0, 7, 0, 1, 2};
    std::uint8_t image[4];
    for (std::size_t i = 0; i < expected.size(); ++i) {
        joined.read(static_cast<std::int64_t>(i), image);
        EXPECT_EQ(image[0], 7 * expected[i]);
        EXPECT_EQ(joined.label(static_cast<std::int64_t>(i)), expected[i]);
    }
    EXPECT_THAT(message_of([&] { Subset(data, {10}); }), HasSubstr("index 10"));
    EXPECT_THAT(message_of([&] { ConcatDataset({data, counting_images(2, {2, 2, 3})}); }), HasSubstr("do not go with"));
    EXPECT_THAT(message_of([&] { joined.read(13, image); }), HasSubstr("image 13 of 13"));
}

TEST(Resize, InterpolatesBetweenHalfPixelCentres) {
    Tensor image = Tensor::empty({1, 2, 2, 1}, DType::u8);
    const std::uint8_t values[] = {0, 100, 200, 60};
    std::copy(values, values + 4, image.write<std::uint8_t>());
    const auto source = std::make_shared<MemoryDataset>(image, std::vector<std::int32_t>{0}, 1);
    const auto larger = resized(source, 4, true);
    ASSERT_EQ(larger->image_shape(), (Shape{4, 4, 3}));
    std::vector<std::uint8_t> out(48);
    larger->read(0, out.data());
    const double position[] = {0, 0.25, 0.75, 1};  // (i + 1/2) / 2 - 1/2, kept inside
    for (int r = 0; r < 4; ++r)
        for (int c = 0; c < 4; ++c) {
            const double v = position[r], u = position[c];
            const double expected = (1 - v) * ((1 - u) * 0 + u * 100) + v * ((1 - u) * 200 + u * 60);
            for (int k = 0; k < 3; ++k)
                EXPECT_EQ(out[static_cast<std::size_t>((4 * r + c) * 3 + k)], static_cast<int>(expected + 0.5));
        }
    EXPECT_EQ(resized(source, 2, false), source);
    EXPECT_EQ(resized(source, 0, false), source);
    EXPECT_THAT(message_of([&] { resized(counting_images(1, {2, 2, 2}), 0, true); }), HasSubstr("2 channels"));
    EXPECT_THAT(message_of([&] { resized(source, -1, false); }), HasSubstr("side -1"));
}

TEST(LoadDataset, NamesWhatItKnows) {
    DatasetOptions options;
    options.name = "imagenet";
    EXPECT_THAT(message_of<UsageError>([&] { load_dataset(options); }), HasSubstr("fashion-mnist"));
    options.name = "mnist";
    options.extra = true;
    EXPECT_THAT(message_of([&] { load_dataset(options); }), HasSubstr("no extra images"));
    for (const std::string& name : dataset_names()) {
        if (name.starts_with("digits")) continue;
        options.name = name;
        options.extra = false;
        options.data_dir = "/nonexistent";
        EXPECT_THAT(message_of([&] { load_dataset(options); }), HasSubstr("/nonexistent"));
    }
}

TEST(RealData, MnistAndFashionMnist) {
    for (const char* name : {"mnist", "fashion-mnist"}) {
        if (!std::filesystem::exists(real_data_folder() / name))
            GTEST_SKIP() << "no " << name << " in " << real_data_folder() << " (set BITLOOM_DATA)";
        DatasetOptions options;
        options.name = name;
        options.data_dir = real_data_folder().string();
        const DataSplits splits = load_dataset(options);
        EXPECT_EQ(splits.train->size(), 60000);
        EXPECT_EQ(splits.test->size(), 10000);
        EXPECT_EQ(splits.train->image_shape(), (Shape{28, 28, 1}));
        // The published statistics of the training images.
        const bool mnist = options.name == "mnist";
        const Normalization norm = per_channel_standardization(*splits.train);
        EXPECT_NEAR(norm.mean[0], mnist ? 0.1307 : 0.2860, mnist ? 5e-5 : 1e-3);
        EXPECT_NEAR(norm.std[0], mnist ? 0.3081 : 0.3530, mnist ? 5e-5 : 1e-3);
        const std::vector<int> first = mnist ? std::vector<int>{5, 0, 4, 1, 9} : std::vector<int>{9, 0, 0, 3, 0};
        for (std::size_t i = 0; i < first.size(); ++i)
            EXPECT_EQ(splits.train->label(static_cast<std::int64_t>(i)), first[i]);
    }
}

TEST(RealData, Cifar10Subset) {
    const std::filesystem::path path = real_data_folder() / "cifar-10" / "cifar10_test_subset1000.bin";
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no " << path << " (set BITLOOM_DATA)";
    const auto data = read_cifar_files({path.string()}, 1, 10);
    ASSERT_EQ(data->size(), 1000);
    for (std::int64_t i = 1; i < 1000; ++i)
        EXPECT_LE(data->label(i - 1), data->label(i));  // the file is sorted by class
    const Normalization norm = per_channel_standardization(*data);
    const double mean[] = {0.4914, 0.4822, 0.4465};  // of the training images
    for (std::size_t c = 0; c < 3; ++c) EXPECT_NEAR(norm.mean[c], mean[c], 0.02);
}

TEST(RealData, Cifar10) {
    DatasetOptions options;
    options.name = "cifar10";
    options.data_dir = real_data_folder().string();
    if (!std::filesystem::exists(real_data_folder() / "cifar-10" / "data_batch_1.bin") &&
        !std::filesystem::exists(real_data_folder() / "data_batch_1.bin"))
        GTEST_SKIP() << "no unpacked CIFAR-10 in " << real_data_folder();
    const DataSplits splits = load_dataset(options);
    EXPECT_EQ(splits.train->size(), 50000);
    EXPECT_EQ(splits.test->size(), 10000);
    const Normalization norm = per_channel_standardization(*splits.train);
    const double mean[] = {0.4914, 0.4822, 0.4465}, std[] = {0.2470, 0.2435, 0.2616};
    for (std::size_t c = 0; c < 3; ++c) {
        EXPECT_NEAR(norm.mean[c], mean[c], 1e-4);
        EXPECT_NEAR(norm.std[c], std[c], 1e-4);
    }
}

}  // namespace
}  // namespace bitloom
