#include "engine/data/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>

#include "engine/allocator.h"
#include "engine/data/order.h"
#include "tests/engine/data/data_fixtures.h"

namespace bitloom {
namespace {

using testing::HasSubstr;

/// What one batch holds, as plain values.
struct Content {
    std::vector<float> images;
    std::vector<std::int32_t> labels;
    std::vector<std::int64_t> indices;
    bool operator==(const Content&) const = default;
};

std::vector<Content> drain(Loader& loader) {
    std::vector<Content> batches;
    Batch batch;
    while (loader.next(batch))
        batches.push_back({batch.images.values<float>(), batch.labels.values<std::int32_t>(), batch.indices});
    return batches;
}

LoaderOptions augmented_options() {
    LoaderOptions options;
    options.batch_size = 16;
    options.shuffle = Shuffle::full;
    options.augmentation = parse_augmentations("crop2,flip,shift0.1,cutout4");
    options.normalization.mean = {0.4f, 0.5f, 0.6f};
    options.normalization.std = {0.2f, 0.3f, 0.25f};
    return options;
}

TEST(Loader, OutputDoesNotDependOnTheWorkers) {
    const auto data = counting_images(101, {8, 8, 3});
    LoaderOptions options = augmented_options();
    options.workers = 0;
    Loader reference(data, options);
    EXPECT_EQ(reference.batches(), 7);
    std::vector<std::vector<Content>> epochs;
    for (int epoch = 0; epoch < 3; ++epoch) {
        reference.start(epoch);
        epochs.push_back(drain(reference));
        EXPECT_EQ(epochs.back().size(), 7u);
        EXPECT_EQ(epochs.back().back().labels.size(), 5u);
    }
    EXPECT_NE(epochs[0][0].indices, epochs[1][0].indices);
    for (const int workers : {1, 2, 5})
        for (const int prefetch : {1, 4, 20}) {
            options.workers = workers;
            options.prefetch = prefetch;
            Loader loader(data, options);
            for (const int epoch : {2, 0, 1}) {
                loader.start(epoch);
                EXPECT_EQ(drain(loader), epochs[static_cast<std::size_t>(epoch)])
                    << workers << " workers, epoch " << epoch;
            }
        }
}

TEST(Loader, AResumedEpochGivesTheRest) {
    const auto data = counting_images(101, {8, 8, 3});
    for (const Shuffle shuffle : {Shuffle::none, Shuffle::full, Shuffle::reservoir}) {
        LoaderOptions options = augmented_options();
        options.shuffle = shuffle;
        options.reservoir = 10;
        Loader first(data, options), second(data, options);
        first.start(4);
        const std::vector<Content> whole = drain(first);
        second.start(4, 3);
        EXPECT_EQ(drain(second), std::vector<Content>(whole.begin() + 3, whole.end()));
        second.start(4, 7);
        EXPECT_TRUE(drain(second).empty());
        // Broken off in mid-epoch and begun again.
        Batch batch;
        second.start(3);
        ASSERT_TRUE(second.next(batch));
        second.start(4);
        EXPECT_EQ(drain(second), whole);
    }
}

TEST(Loader, NormalisesAndLabels) {
    const auto data = counting_images(10, {2, 3, 1});
    LoaderOptions options;
    options.batch_size = 4;
    options.drop_last = true;
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
        options.dtype = dtype;
        Loader loader(data, options);
        EXPECT_EQ(loader.batches(), 2);
        loader.start(0);
        Batch batch;
        ASSERT_TRUE(loader.next(batch));
        EXPECT_EQ(batch.images.shape(), (Shape{4, 2, 3, 1}));
        EXPECT_EQ(batch.images.dtype(), dtype);
        EXPECT_EQ(batch.size(), 4);
        EXPECT_THAT(batch.indices, testing::ElementsAre(0, 1, 2, 3));
        EXPECT_THAT(batch.labels.values<std::int32_t>(), testing::ElementsAre(0, 1, 2, 3));
        const std::vector<float> values = batch.images.values<float>();
        for (int n = 0; n < 4; ++n)
            for (int i = 0; i < 6; ++i) {
                const float expected = static_cast<float>(7 * n + i) / 255.0f;
                EXPECT_EQ(values[static_cast<std::size_t>(6 * n + i)],
                          dtype == DType::bf16 ? static_cast<float>(bf16(expected)) : expected);
            }
    }
}

/// Fails to read one image.
class Brittle final : public Dataset {
   public:
    std::int64_t size() const override { return 100; }
    Shape image_shape() const override { return {1, 1, 1}; }
    int classes() const override { return 10; }
    void read(std::int64_t index, std::uint8_t* image) const override {
        require(index != 37, "image 37 is damaged");
        *image = 0;
    }
    int label(std::int64_t) const override { return 0; }
};

TEST(Loader, ErrorsOfWorkersSurfaceAtTheirBatch) {
    LoaderOptions options;
    options.batch_size = 10;
    for (const int workers : {0, 1, 3}) {
        options.workers = workers;
        Loader loader(std::make_shared<Brittle>(), options);
        loader.start(0);
        Batch batch;
        for (int i = 0; i < 3; ++i) EXPECT_TRUE(loader.next(batch));
        EXPECT_EQ(message_of([&] { loader.next(batch); }), "image 37 is damaged");
        EXPECT_EQ(message_of([&] { loader.next(batch); }), "image 37 is damaged") << "the epoch stays where it failed";
        loader.start(0, 4);
        EXPECT_TRUE(loader.next(batch));
        EXPECT_EQ(batch.indices[0], 40);
    }
}

TEST(Loader, StopsCleanlyInMidEpoch) {
    const auto data = counting_images(2000, {8, 8, 3});
    for (int round = 0; round < 20; ++round) {
        LoaderOptions options = augmented_options();
        options.workers = 1 + round % 4;
        Loader loader(data, options);
        if (round % 3 == 0) continue;  // never started
        loader.start(round);
        Batch batch;
        for (int i = 0; i < round % 5; ++i) ASSERT_TRUE(loader.next(batch));
    }
}

TEST(Loader, SteadyStateAsksTheSystemForNothing) {
    const auto data = counting_images(512, {8, 8, 3});
    LoaderOptions options = augmented_options();
    options.workers = 2;
    Loader loader(data, options);
    Batch batch;
    for (int epoch = 0; epoch < 3; ++epoch) {
        loader.start(epoch);
        while (loader.next(batch)) {
        }
    }
    const auto before = allocator_of(cpu_device).stats();
    for (int epoch = 3; epoch < 6; ++epoch) {
        loader.start(epoch);
        while (loader.next(batch)) {
        }
    }
    const auto after = allocator_of(cpu_device).stats();
    EXPECT_EQ(after.requests, before.requests) << "the ring's tensors are filled again";
    EXPECT_EQ(after.system_allocations, before.system_allocations);
    EXPECT_EQ(after.bytes_in_use, before.bytes_in_use);
}

TEST(Loader, LeavesBatchesAloneThatTheCallerKeeps) {
    const auto data = counting_images(64, {2, 2, 1});
    for (int workers : {0, 1}) {
        LoaderOptions options;
        options.batch_size = 4;
        options.workers = workers;
        Loader loader(data, options);
        loader.start(0);
        std::vector<Batch> kept;
        std::vector<std::vector<float>> pixels;
        for (Batch batch; loader.next(batch);) {
            kept.push_back(batch);
            pixels.push_back(batch.images.values<float>());
        }
        ASSERT_EQ(kept.size(), 16u);
        for (std::size_t i = 0; i < kept.size(); ++i) {
            EXPECT_EQ(kept[i].images.values<float>(), pixels[i]) << i;
            EXPECT_EQ(kept[i].labels.values<std::int32_t>()[0], data->label(static_cast<std::int64_t>(4 * i))) << i;
        }
    }
}

TEST(Loader, ABatchLargerThanTheDataIsAllOfThem) {
    LoaderOptions options;
    options.batch_size = std::numeric_limits<std::int64_t>::max();
    Loader loader(counting_images(5, {2, 2, 1}), options);
    EXPECT_EQ(loader.batches(), 1);
    loader.start(0);
    Batch batch;
    ASSERT_TRUE(loader.next(batch));
    EXPECT_EQ(batch.size(), 5);
}

TEST(Loader, RefusesBadOptions) {
    const auto data = counting_images(4, {2, 2, 1});
    const auto message = [&](auto change) {
        LoaderOptions options;
        change(options);
        return message_of([&] { Loader(data, options); });
    };
    EXPECT_THAT(message([](LoaderOptions& o) { o.batch_size = 0; }), HasSubstr("batch size 0"));
    EXPECT_THAT(message([](LoaderOptions& o) { o.workers = -1; }), HasSubstr("-1 workers"));
    EXPECT_THAT(message([](LoaderOptions& o) { o.prefetch = 0; }), HasSubstr("prefetch 0"));
    EXPECT_THAT(message([](LoaderOptions& o) { o.dtype = DType::i32; }), HasSubstr("i32"));
    EXPECT_THAT(message([](LoaderOptions& o) { o.shuffle = Shuffle::reservoir, o.reservoir = 0; }),
                HasSubstr("reservoir"));
    EXPECT_THAT(message_of([] { Loader(nullptr, {}); }), HasSubstr("no data set"));
    EXPECT_THAT(message_of([&] { Loader(std::make_shared<Subset>(data, std::vector<std::int64_t>{}), {}); }),
                HasSubstr("empty"));
    Loader loader(data, {});
    Batch batch;
    EXPECT_THAT(message_of([&] { loader.next(batch); }), HasSubstr("before start()"));
    EXPECT_THAT(message_of([&] { loader.start(0, 2); }), HasSubstr("batch 2"));
    EXPECT_THAT(message_of([&] { loader.start(-1); }), HasSubstr("epoch -1"));
    LoaderOptions mismatched;
    mismatched.normalization.mean = {0, 0, 0};
    EXPECT_THAT(message_of([&] { Loader(data, mismatched); }), HasSubstr("3 values of mean"));
}

std::vector<std::int64_t> order_of(Shuffle shuffle, std::int64_t count, std::int64_t reservoir, std::uint64_t counter) {
    Rng rng(1, "order", counter);
    std::vector<std::int64_t> order;
    fill_order(shuffle, count, reservoir, rng, order);
    return order;
}

TEST(Order, IsAPermutation) {
    for (const std::int64_t count : {1, 2, 17, 1000})
        for (const Shuffle shuffle : {Shuffle::none, Shuffle::full, Shuffle::reservoir}) {
            std::vector<std::int64_t> order = order_of(shuffle, count, 64, 0);
            const bool ascending = std::is_sorted(order.begin(), order.end());
            if (shuffle == Shuffle::none || count == 1) {
                EXPECT_TRUE(ascending);
            } else if (count >= 17) {
                EXPECT_FALSE(ascending);
            }
            std::sort(order.begin(), order.end());
            for (std::int64_t i = 0; i < count; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
        }
}

TEST(Order, AReservoirHoldsOnlyWhatTheStreamHasDelivered) {
    constexpr std::int64_t count = 5000, reservoir = 100;
    const std::vector<std::int64_t> order = order_of(Shuffle::reservoir, count, reservoir, 0);
    std::set<std::int64_t> buffer;
    for (std::int64_t i = 0; i < reservoir; ++i) buffer.insert(i);
    double delay = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t emitted = order[static_cast<std::size_t>(i)];
        ASSERT_EQ(buffer.erase(emitted), 1u) << "element " << emitted << " was not in the buffer at draw " << i;
        if (reservoir + i < count) buffer.insert(reservoir + i);
        if (i < count - reservoir)
            delay += static_cast<double>(i + reservoir - emitted) / static_cast<double>(count - reservoir);
    }
    EXPECT_TRUE(buffer.empty());
    EXPECT_NEAR(delay, reservoir, 10) << "an element waits for `reservoir` draws on average";
    EXPECT_EQ(order_of(Shuffle::reservoir, 50, 1, 0), order_of(Shuffle::none, 50, 1, 0));
    EXPECT_NE(order_of(Shuffle::reservoir, 50, 1000, 0), order_of(Shuffle::reservoir, 50, 1000, 1));
    // With the whole stream in the buffer, the first draw is uniform.
    double first = 0;
    for (std::uint64_t n = 0; n < 2000; ++n)
        first += static_cast<double>(order_of(Shuffle::reservoir, 21, 64, n)[0]) / 2000;
    EXPECT_NEAR(first, 10, 0.7);  // five standard deviations of the mean
}

}  // namespace
}  // namespace bitloom
