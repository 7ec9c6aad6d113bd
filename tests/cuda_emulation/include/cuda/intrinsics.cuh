#pragma once
// Plain twins of cuda/intrinsics.cuh. Matrix products gather the fragments of the warp by the layouts that the PTX manual
// states and sum in f32, in the order of k.

#include <cuda_runtime.h>

#include "engine/dtype.h"

namespace bitloom::cuda {

inline void* dynamic_shared() { return emulation::dynamic_shared(); }

inline std::uint32_t pack_bf16(float low, float high) {
    return bf16(low).bits | static_cast<std::uint32_t>(bf16(high).bits) << 16;
}
inline std::uint32_t round_to_tf32(float value) {
    const std::uint32_t bits = __float_as_uint(value);
    if ((bits & 0x7f800000u) == 0x7f800000u) return bits;
    return (bits + 0x1000u) & ~0x1fffu;
}

namespace emulated {

/// What lane `from` gave as word `index` of its operands {a[4], b[2]}.
inline std::uint32_t word(const emulation::Gathered& warp, unsigned from, unsigned index) {
    std::uint32_t value;
    std::memcpy(&value, warp.data[from] + 4 * index, 4);
    return value;
}

template <int depth, class A, class B>
void multiply(float (&c)[4], A&& a_at, B&& b_at) {
    const unsigned group = emulation::lane() / 4, thread = emulation::lane() % 4;
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = group + i / 2 * 8, column = 2 * thread + i % 2;
        for (unsigned k = 0; k < depth; ++k) c[i] += a_at(row, k) * b_at(k, column);
    }
}

inline emulation::Gathered gather(const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    const std::uint32_t operands[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    return emulation::gather(operands, sizeof operands);
}

}  // namespace emulated

inline void multiply_bf16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    const emulation::Gathered warp = emulated::gather(a, b);
    const auto half = [](std::uint32_t pair, unsigned k) { return __uint_as_float(k % 2 ? pair & 0xffff0000u : pair << 16); };
    emulated::multiply<16>(
        c,
        [&](unsigned row, unsigned k) {
            return half(emulated::word(warp, row % 8 * 4 + k % 8 / 2, row / 8 + k / 8 * 2), k);
        },
        [&](unsigned k, unsigned column) { return half(emulated::word(warp, column * 4 + k % 8 / 2, 4 + k / 8), k); });
}

inline void multiply_tf32(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    const emulation::Gathered warp = emulated::gather(a, b);
    // The hardware ignores the lower 13 bits.
    const auto value = [](std::uint32_t bits) { return __uint_as_float(bits & ~0x1fffu); };
    emulated::multiply<8>(
        c,
        [&](unsigned row, unsigned k) { return value(emulated::word(warp, row % 8 * 4 + k % 4, row / 8 + k / 4 * 2)); },
        [&](unsigned k, unsigned column) { return value(emulated::word(warp, column * 4 + k % 4, 4 + k / 4)); });
}

}  // namespace bitloom::cuda
