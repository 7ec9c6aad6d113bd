// The emulation itself: it runs what a GPU runs, and sees the faults it is there for.

#include "emulation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "cuda/common.h"
#include "cuda/intrinsics.cuh"

namespace bitloom::cuda::test {
namespace {

constexpr Device device = cpu_device;

__global__ void number_threads(int* out) {
    const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
    out[block * 24 + thread] += static_cast<int>(block * 24 + thread);
}

/// Each thread reads its neighbour's number, with or without the barrier that this needs.
__global__ void rotate(bool with_barrier, int* out) {
    int* shared = static_cast<int*>(dynamic_shared());
    shared[threadIdx.x] = static_cast<int>(threadIdx.x);
    if (with_barrier) __syncthreads();
    out[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

__global__ void barrier_of_some(int count) {
    if (static_cast<int>(threadIdx.x) < count) __syncthreads();
}
__global__ void shuffle_of_some(int count, float* out) {
    if (static_cast<int>(threadIdx.x) < count) out[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
__global__ void lanes(int* out) {
    out[threadIdx.x] = __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x), 5) * 1000000 +
                       __shfl_down_sync(0xffffffffu, static_cast<int>(threadIdx.x), 4) * 1000 +
                       __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 3);
}
__global__ void read_unwritten(float* out) { out[threadIdx.x] = static_cast<float*>(dynamic_shared())[threadIdx.x]; }

/// D = A B for one warp, by the fragment layouts written in cuda/intrinsics.cuh.
__global__ void one_product(bool tf32, const float* a, const float* b, float* d) {
    const int group = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
    float c[4] = {};
    if (tf32) {
        const std::uint32_t fa[4] = {round_to_tf32(a[group * 8 + t]), round_to_tf32(a[(group + 8) * 8 + t]),
                                     round_to_tf32(a[group * 8 + t + 4]), round_to_tf32(a[(group + 8) * 8 + t + 4])};
        const std::uint32_t fb[2] = {round_to_tf32(b[t * 8 + group]), round_to_tf32(b[(t + 4) * 8 + group])};
        multiply_tf32(c, fa, fb);
    } else {
        const auto pair_a = [&](int row, int k) { return pack_bf16(a[row * 16 + k], a[row * 16 + k + 1]); };
        const auto pair_b = [&](int k) { return pack_bf16(b[k * 8 + group], b[(k + 1) * 8 + group]); };
        const std::uint32_t fa[4] = {pair_a(group, 2 * t), pair_a(group + 8, 2 * t), pair_a(group, 2 * t + 8), pair_a(group + 8, 2 * t + 8)};
        const std::uint32_t fb[2] = {pair_b(2 * t), pair_b(2 * t + 8)};
        multiply_bf16(c, fa, fb);
    }
    for (int i = 0; i < 4; ++i) d[(group + i / 2 * 8) * 8 + 2 * t + i % 2] = c[i];
}

}  // namespace

TEST(Emulation, RunsEveryThreadOnce) {
    std::vector<int> out(24 * 30);
    launch(device, number_threads, dim3(5, 3, 2), dim3(4, 3, 2), 0, out.data());
    std::vector<int> expected(out.size());
    std::iota(expected.begin(), expected.end(), 0);
    EXPECT_EQ(out, expected);
}

TEST(Emulation, AMissingBarrierShows) {
    std::vector<int> expected(64), out(64), without_forward(64), without_backward(64);
    for (int i = 0; i < 64; ++i) expected[static_cast<std::size_t>(i)] = (i + 1) % 64;
    launch(device, rotate, 1, 64, 64 * sizeof(int), true, out.data());
    EXPECT_EQ(out, expected);
    launch(device, rotate, 1, 64, 64 * sizeof(int), false, without_forward.data());
    emulation::set_order(emulation::Order::backward);
    launch(device, rotate, 1, 64, 64 * sizeof(int), true, out.data());
    launch(device, rotate, 1, 64, 64 * sizeof(int), false, without_backward.data());
    emulation::set_order(emulation::Order::forward);
    EXPECT_EQ(out, expected);
    EXPECT_NE(without_forward, expected);
    EXPECT_NE(without_backward, expected);
}

TEST(Emulation, RefusesBarriersThatNotAllThreadsReach) {
    EXPECT_THROW(launch(device, barrier_of_some, 1, 64, 0, 40), Error);
    std::vector<float> out(64);
    EXPECT_THROW(launch(device, shuffle_of_some, 1, 64, 0, 40, out.data()), Error);
    EXPECT_NO_THROW(launch(device, barrier_of_some, 1, 64, 0, 64));  // it goes on working
}

TEST(Emulation, ShufflesAsTheManualSays) {
    std::vector<int> out(64);
    launch(device, lanes, 1, 64, 0, out.data());
    for (int i = 0; i < 64; ++i) {
        const int warp = i / 32 * 32, lane = i % 32;
        const int down = lane + 4 < 32 ? i + 4 : i;
        EXPECT_EQ(out[static_cast<std::size_t>(i)], (warp + 5) * 1000000 + down * 1000 + warp + (lane ^ 3));
    }
}

TEST(Emulation, FreshSharedMemoryIsNotANumber) {
    std::vector<float> out(32);
    launch(device, read_unwritten, 1, 32, 32 * sizeof(float), out.data());
    for (const float v : out) EXPECT_TRUE(std::isnan(v));
}

TEST(Emulation, MultipliesMatrices) {
    for (const bool tf32 : {false, true}) {
        const int depth = tf32 ? 8 : 16;
        std::vector<float> a(static_cast<std::size_t>(16 * depth)), b(static_cast<std::size_t>(depth * 8)), d(128);
        for (std::size_t i = 0; i < a.size(); ++i) a[i] = static_cast<float>(static_cast<int>(i * 7 % 13) - 6);
        for (std::size_t i = 0; i < b.size(); ++i) b[i] = static_cast<float>(static_cast<int>(i * 5 % 11) - 5);
        launch(device, one_product, 1, 32, 0, tf32, a.data(), b.data(), d.data());
        for (int row = 0; row < 16; ++row) {
            for (int column = 0; column < 8; ++column) {
                float sum = 0;
                for (int k = 0; k < depth; ++k) sum += a[static_cast<std::size_t>(row * depth + k)] * b[static_cast<std::size_t>(k * 8 + column)];
                EXPECT_EQ(d[static_cast<std::size_t>(row * 8 + column)], sum) << row << ", " << column;
            }
        }
    }
}

TEST(Emulation, RoundsToTf32) {
    EXPECT_EQ(round_to_tf32(1.0f), __float_as_uint(1.0f));
    EXPECT_EQ(round_to_tf32(1.0f + 0x1p-11f), __float_as_uint(1.0f + 0x1p-10f));  // a tie goes away from zero
    EXPECT_EQ(round_to_tf32(-1.0f - 0x1p-11f), __float_as_uint(-1.0f - 0x1p-10f));
    EXPECT_EQ(round_to_tf32(1.0f + 0x1p-12f), __float_as_uint(1.0f));
    EXPECT_EQ(round_to_tf32(INFINITY), __float_as_uint(INFINITY));
}

}  // namespace bitloom::cuda::test
