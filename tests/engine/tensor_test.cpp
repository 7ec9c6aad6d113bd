#include "engine/tensor.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "engine/allocator.h"
#include "engine/kernels.h"

namespace bitloom {
namespace {

TEST(Shape, CountsIndexesAndRefuses) {
    const Shape s{2, 3, 4};
    EXPECT_EQ(s.numel(), 24);
    EXPECT_EQ(s[-1], 4);
    EXPECT_EQ(s.product(1, 3), 12);
    EXPECT_EQ(Shape{}.numel(), 1);
    EXPECT_EQ((Shape{2, 0}.numel()), 0);
    EXPECT_NE((Shape{2, 3}), (Shape{3, 2}));
    EXPECT_THROW(s[3], Error);
    EXPECT_THROW((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), Error);
    EXPECT_THROW((Shape{-1}), Error);
}

TEST(Tensor, RefusesShapesWhoseSizeOverflows) {
    constexpr std::int64_t huge = std::numeric_limits<std::int64_t>::max();
    for (const Shape& shape : {Shape{huge}, Shape{64, huge}, Shape{std::int64_t{1} << 32, std::int64_t{1} << 32}, Shape{huge / 4 + 1}})
        EXPECT_THROW(Tensor::zeros(shape), Error);
    EXPECT_EQ((Tensor::zeros({0, huge}).numel()), 0);
}

TEST(Tensor, HandlesShareAndClonesDoNot) {
    Tensor a = Tensor::from<float>({2, 2}, {1, 2, 3, 4});
    Tensor b = a;
    EXPECT_FALSE(a.unique());
    b.write<float>()[0] = 9;
    EXPECT_EQ(a.values<float>(), (std::vector<float>{9, 2, 3, 4}));
    Tensor c = a.clone();
    c.fill(0);
    EXPECT_EQ(a.values<float>()[0], 9);
    EXPECT_TRUE(c.unique());
}

TEST(Tensor, EveryWriteRaisesTheVersionAndIdsAreNeverReused) {
    Tensor a = Tensor::zeros({3});
    const auto version = a.version();
    a.read<float>();
    EXPECT_EQ(a.version(), version);
    a.write<float>();
    EXPECT_EQ(a.version(), version + 1);
    const auto id = a.id();
    a = Tensor();
    Tensor b = Tensor::zeros({3});  // the same block and header, recycled
    EXPECT_NE(b.id(), id);
}

TEST(Tensor, RowsAreAViewAndBoundsAreChecked) {
    Tensor a = Tensor::from<std::int32_t>({3, 2}, {1, 2, 3, 4, 5, 6});
    Tensor middle = a.rows(1, 2);
    EXPECT_EQ(middle.values<std::int32_t>(), (std::vector<std::int32_t>{3, 4, 5, 6}));
    EXPECT_TRUE(middle.shares_storage(a));
    EXPECT_THROW(a.rows(2, 2), Error);
    EXPECT_THROW(a.reshape({5}), Error);
}

TEST(Tensor, ReadingTheWrongTypeIsAnError) {
    Tensor a = Tensor::zeros({2});
    EXPECT_THROW(a.read<double>(), Error);
    EXPECT_THROW(Tensor().read<float>(), Error);
    EXPECT_THROW((Tensor::from<float>({3}, {1, 2})), Error);
    EXPECT_THROW(a.item(), Error);
}

TEST(Tensor, CastsBetweenAllTypes) {
    Tensor a = Tensor::from<float>({4}, {0, 1, 2, 100});
    for (DType t : {DType::f64, DType::bf16, DType::i32, DType::i8, DType::u8})
        EXPECT_EQ(a.to(t).values<float>(), a.values<float>()) << name_of(t);
}

TEST(Bf16, RoundsToNearestEvenAndKeepsNaN) {
    EXPECT_EQ(static_cast<float>(bf16(1.0f)), 1.0f);
    EXPECT_EQ(static_cast<float>(bf16(1.0f + 0x1p-8f)), 1.0f);                      // a tie, to even
    EXPECT_EQ(static_cast<float>(bf16(1.0f + 0x1p-7f + 0x1p-8f)), 1.0f + 0x1p-6f);  // a tie, to even
    EXPECT_TRUE(std::isnan(static_cast<float>(bf16(std::nanf("")))));
    EXPECT_EQ(static_cast<float>(bf16(std::numeric_limits<float>::max())), std::numeric_limits<float>::infinity());
}

TEST(Allocator, ReusesBlocksInSteadyState) {
    CachingAllocator& allocator = allocator_of(cpu_device);
    const auto step = [] {
        Tensor a = Tensor::empty({1000, 7}), b = Tensor::empty({33});
        a.fill(1), b.fill(2);
    };
    step();
    const auto before = allocator.stats();
    for (int i = 0; i < 100; ++i) step();
    const auto after = allocator.stats();
    EXPECT_EQ(after.system_allocations, before.system_allocations);
    EXPECT_EQ(after.requests, before.requests + 200);
    EXPECT_EQ(after.bytes_in_use, before.bytes_in_use);
}

TEST(Allocator, SizeClassesWasteAtMostAFifth) {
    for (std::size_t bytes : {1u, 256u, 257u, 1000u, 4097u, 1000000u, 123456789u}) {
        const std::size_t size = CachingAllocator::size_class(bytes);
        EXPECT_GE(size, bytes);
        EXPECT_EQ(size % 64, 0u);
        if (bytes >= 256) {
            EXPECT_LE(size - bytes, size / 5) << bytes;
        }
    }
}

TEST(Allocator, OutOfMemoryIsOneLineAndMemoryStaysUsable) {
    class Tiny final : public MemorySource {
       public:
        void* allocate(std::size_t bytes) override { return bytes > budget ? nullptr : (budget -= bytes, std::malloc(bytes)); }
        void release(void* p) override { std::free(p), ++released; }
        std::size_t budget = 2048;
        int released = 0;
    } source;
    CachingAllocator allocator(source, "toy");
    void* a = allocator.allocate(1024);
    allocator.release(a, 1024);
    try {
        allocator.allocate(4096);
        FAIL() << "no error";
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("out of memory on toy: asked for 4096 bytes"), std::string::npos) << e.what();
    }
    EXPECT_EQ(source.released, 1) << "the cache is given back before giving up";
    void* b = allocator.allocate(512);
    EXPECT_NE(b, nullptr);
    allocator.release(b, 512);
    allocator.trim();
}

TEST(Allocator, ThreadsShareIt) {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([t] {
            for (int i = 0; i < 500; ++i) {
                Tensor a = Tensor::full({16 + i % 5}, t);
                Tensor b = a;
                ASSERT_EQ(b.values<float>()[0], t);
            }
        });
    for (auto& t : threads) t.join();
}

TEST(Kernels, AddScaleAndFinite) {
    for (Device device : {cpu_device, reference_device}) {
        Tensor a = Tensor::from<double>({3}, {1, 2, 3}, device);
        engine_kernels(device).add(a, Tensor::from<double>({3}, {10, 20, 30}, device));
        engine_kernels(device).scale(a, 0.5);
        EXPECT_EQ(a.values<double>(), (std::vector<double>{5.5, 11, 16.5}));
        EXPECT_TRUE(engine_kernels(device).all_finite(a));
        a.write<double>()[1] = std::numeric_limits<double>::infinity();
        EXPECT_FALSE(engine_kernels(device).all_finite(a));
        a.write<double>()[1] = std::nan("");
        EXPECT_FALSE(engine_kernels(device).all_finite(a));
    }
}

TEST(Device, ParsesNamesAndRefusesOthers) {
    EXPECT_EQ(parse_device("cpu"), cpu_device);
    EXPECT_EQ(parse_device("reference"), reference_device);
    EXPECT_EQ(parse_device("cuda"), (Device{DeviceKind::cuda, 0}));
    EXPECT_EQ(parse_device("cuda:3"), (Device{DeviceKind::cuda, 3}));
    for (const char* bad : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x"}) EXPECT_THROW(parse_device(bad), UsageError) << bad;
    EXPECT_THROW(Tensor::empty({1}, DType::f32, {DeviceKind::cuda, 77}), Error);
}

}  // namespace
}  // namespace bitloom
