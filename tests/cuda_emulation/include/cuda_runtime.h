#pragma once
// Stands in for NVIDIA's header where the sources of cuda/ops are compiled as plain C++ to run on the host: the language's
// additions, the built-in variables, barriers and shuffles. The threads of a block are fibers of one host thread
// (emulation.cpp), so shared memory is static memory and every run is reproducible.

#include <math.h>  // sqrt and others for both types, in the global namespace, as CUDA has them

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "emulation.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __shared__ static
#define __launch_bounds__(...)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline const emulation::Index& emulated_thread_index() { return emulation::thread_index; }
#define threadIdx emulated_thread_index()
#define blockIdx emulation::block_index
#define blockDim emulation::block_extent
#define gridDim emulation::grid_extent

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { emulation::exchange(mask, 0, emulation::lane()); }

namespace emulation {
template <class T>
T shuffle(unsigned mask, T value, unsigned from) {
    static_assert(sizeof(T) <= sizeof(std::uint64_t));
    std::uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof(T));
    bits = exchange(mask, bits, from);
    std::memcpy(&value, &bits, sizeof(T));
    return value;
}
}  // namespace emulation

template <class T>
T __shfl_sync(unsigned mask, T value, unsigned from) {
    return emulation::shuffle(mask, value, from % 32);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned lane_mask) {
    return emulation::shuffle(mask, value, emulation::lane() ^ lane_mask);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
    const unsigned from = emulation::lane() + delta;
    return emulation::shuffle(mask, value, from < 32 ? from : emulation::lane());
}

using std::max;
using std::min;

inline float __uint_as_float(std::uint32_t u) { return std::bit_cast<float>(u); }
inline std::uint32_t __float_as_uint(float v) { return std::bit_cast<std::uint32_t>(v); }
inline std::uint32_t __umulhi(std::uint32_t a, std::uint32_t b) {
    return static_cast<std::uint32_t>((static_cast<std::uint64_t>(a) * b) >> 32);
}
