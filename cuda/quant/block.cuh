#pragma once
// Sums and maxima over the threads of a block, in a fixed order, in every thread.

#include "cuda/ops/warp.cuh"

namespace bitloom::cuda {

/// The sum over the lanes of a warp, in every lane.
__device__ __forceinline__ double warp_sum(double value) {
#pragma unroll
    for (unsigned distance = warp_size / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(full_warp, value, distance);
    return value;
}

/// Replaces each of `values` by its sum over the block, but for those from number `used` on. All threads take part.
template <int threads, int count>
__device__ void block_sum(double (&values)[count], int used = count) {
    constexpr int warps = threads / warp_size;
#pragma unroll
    for (int k = 0; k < count; ++k)
        if (k < used) values[k] = warp_sum(values[k]);
    if constexpr (warps > 1) {
        __shared__ double shared[warps][count];
        __syncthreads();  // the numbers of the call before have been read
        if (threadIdx.x % warp_size == 0) {
#pragma unroll
            for (int k = 0; k < count; ++k) shared[threadIdx.x / warp_size][k] = values[k];
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < count; ++k) {
            values[k] = 0;
            for (int w = 0; w < warps; ++w) values[k] += shared[w][k];
        }
    }
}

/// The same with maxima; NaN loses against numbers.
template <int threads, int count>
__device__ void block_max(float (&values)[count]) {
    constexpr int warps = threads / warp_size;
#pragma unroll
    for (int k = 0; k < count; ++k) values[k] = warp_max(values[k]);
    if constexpr (warps > 1) {
        __shared__ float shared[warps][count];
        __syncthreads();
        if (threadIdx.x % warp_size == 0) {
#pragma unroll
            for (int k = 0; k < count; ++k) shared[threadIdx.x / warp_size][k] = values[k];
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < count; ++k) {
            values[k] = shared[0][k];
            for (int w = 1; w < warps; ++w) values[k] = fmaxf(values[k], shared[w][k]);
        }
    }
}

}  // namespace bitloom::cuda
