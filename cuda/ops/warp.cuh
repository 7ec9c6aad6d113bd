#pragma once
// Reductions in a fixed order, so that two runs give the same bits.

#include <cstdint>

#include "cuda/intrinsics.cuh"

namespace bitloom::cuda {

inline constexpr unsigned full_warp = 0xffffffffu;
inline constexpr int warp_size = 32;

/// The sum over the lanes of a warp, in every lane.
__device__ __forceinline__ float warp_sum(float value) {
#pragma unroll
    for (unsigned distance = warp_size / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(full_warp, value, distance);
    return value;
}

/// The maximum over the lanes of a warp, in every lane; NaN loses against numbers.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (unsigned distance = warp_size / 2; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(full_warp, value, distance));
    return value;
}

}  // namespace bitloom::cuda
