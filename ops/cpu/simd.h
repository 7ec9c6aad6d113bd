#pragma once
// Short vectors on GCC's vector extension. A kernel written as a template over the number of lanes runs on the widest
// registers and finishes a row with narrower ones; one lane is plain float, so the same text serves the last elements.

#include <cstdint>
#include <cstring>

#include "engine/dtype.h"

#ifdef __AVX512F__
#include <immintrin.h>
#endif

// Vectors wider than the build's registers are returned below by functions that are always inlined: no ABI is
// concerned.
#pragma GCC diagnostic ignored "-Wpsabi"

namespace bitloom::ops::cpu {

/// Lanes of the widest register of floats that this build may use.
#ifdef __AVX512F__
inline constexpr int simd_lanes = 16;
#else
inline constexpr int simd_lanes = 8;
#endif

/// Vectors of N lanes.
template <int N>
struct Pack;
template <>
struct Pack<1> {
    using Float = float;
    using Int = std::int32_t;
    using Byte = std::uint8_t;
    using Half = std::uint16_t;
};
template <>
struct Pack<4> {
    typedef float Float __attribute__((vector_size(16)));
    typedef std::int32_t Int __attribute__((vector_size(16)));
    typedef std::uint8_t Byte __attribute__((vector_size(4)));
    typedef std::uint16_t Half __attribute__((vector_size(8)));
};
template <>
struct Pack<8> {
    typedef float Float __attribute__((vector_size(32)));
    typedef std::int32_t Int __attribute__((vector_size(32)));
    typedef std::uint8_t Byte __attribute__((vector_size(8)));
    typedef std::uint16_t Half __attribute__((vector_size(16)));
};
template <>
struct Pack<16> {
    typedef float Float __attribute__((vector_size(64)));
    typedef std::int32_t Int __attribute__((vector_size(64)));
    typedef std::uint8_t Byte __attribute__((vector_size(16)));
    typedef std::uint16_t Half __attribute__((vector_size(32)));
};

/// Lane by lane from one element type to another.
template <class To, int N, class From>
[[gnu::always_inline]] inline To convert(const From& v) {
    if constexpr (N == 1)
        return static_cast<To>(v);
    else
        return __builtin_convertvector(v, To);
}

/// Memory of any alignment.
template <class V>
[[gnu::always_inline]] inline V load(const void* from) {
    V value;
    std::memcpy(&value, from, sizeof(V));
    return value;
}
template <class V>
[[gnu::always_inline]] inline void store(void* to, const V& value) {
    std::memcpy(to, &value, sizeof(V));
}

/// Halves as the lower halves of ints.
template <int N>
[[gnu::always_inline]] inline typename Pack<N>::Int widen_halves(typename Pack<N>::Half halves) {
#ifdef __AVX512F__
    // GCC 12 converts a vector of this size in two parts.
    if constexpr (N == 16)
        return reinterpret_cast<Pack<16>::Int>(_mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(halves)));
    else
#endif
        return convert<typename Pack<N>::Int, N>(halves);
}

/// bf16 memory as floats: they are the upper halves.
template <class V>
[[gnu::always_inline]] inline V load(const bf16* from) {
    if constexpr (sizeof(V) == sizeof(float)) {
        return static_cast<V>(*from);
    } else {
        constexpr int lanes = sizeof(V) / sizeof(float);
        const auto halves = load<typename Pack<lanes>::Half>(static_cast<const void*>(from));
        return reinterpret_cast<V>(widen_halves<lanes>(halves) << 16);
    }
}

/// Floats rounded to bf16, to nearest, ties to even. (The instruction also flushes numbers below 2^-126 to zero.)
template <class V>
[[gnu::always_inline]] inline void store(bf16* to, const V& value) {
    if constexpr (sizeof(V) == sizeof(float)) {
        *to = bf16(value);
    } else {
        constexpr int lanes = sizeof(V) / sizeof(float);
        using Half = typename Pack<lanes>::Half;
        Half halves;
#if defined(__AVX512BF16__) && defined(__AVX512VL__)
        if constexpr (lanes == 16) {
            halves = reinterpret_cast<Half>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(value)));
        } else if constexpr (lanes == 8) {
            halves = reinterpret_cast<Half>(_mm256_cvtneps_pbh(reinterpret_cast<__m256>(value)));
        } else {
            const auto wide = _mm_cvtneps_pbh(reinterpret_cast<__m128>(value));  // in the lower half
            std::memcpy(&halves, &wide, sizeof halves);
        }
#else
        using Int = typename Pack<lanes>::Int;
        const Int bits = reinterpret_cast<Int>(value);
        const Int rounded = bits + 0x7fff + ((bits >> 16) & 1), quiet = bits | 0x400000;
        halves = convert<Half, lanes>((value == value ? rounded : quiet) >> 16);
#endif
        store<Half>(static_cast<void*>(to), halves);
    }
}

/// 32 bf16: those of a, rounded as store rounds, and behind them those of b.
using TwoRounded = std::uint16_t __attribute__((vector_size(64)));
[[gnu::always_inline]] inline TwoRounded round_two(const Pack<16>::Float& a, const Pack<16>::Float& b) {
#ifdef __AVX512BF16__
    return reinterpret_cast<TwoRounded>(_mm512_cvtne2ps_pbh(reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(a)));
#else
    bf16 both[32];
    store(both, a);
    store(both + 16, b);
    return load<TwoRounded>(static_cast<const void*>(both));
#endif
}

/// The same in the order a0, b0, a1, b1, ...: pairs, one a lane of 32 bits.
[[gnu::always_inline]] inline Pack<16>::Int round_pairs(const Pack<16>::Float& a, const Pack<16>::Float& b) {
    const TwoRounded both = round_two(a, b);
    return reinterpret_cast<Pack<16>::Int>(__builtin_shufflevector(
        both, both, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29,
        14, 30, 15, 31));
}

/// Adds a b to sum, lane by lane, where the 32 bits of a lane of a and b are two bf16 whose products are added.
[[gnu::always_inline]] inline void add_pair_products(Pack<16>::Float& sum, const Pack<16>::Int& a, const Pack<16>::Int& b) {
    using Float = Pack<16>::Float;
#ifdef __AVX512BF16__
    sum = reinterpret_cast<Float>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(a),
                                                   reinterpret_cast<__m512bh>(b)));
#else
    const Pack<16>::Int upper = Pack<16>::Int{} + static_cast<std::int32_t>(0xffff0000);
    sum += reinterpret_cast<Float>(a << 16) * reinterpret_cast<Float>(b << 16);
    sum += reinterpret_cast<Float>(a & upper) * reinterpret_cast<Float>(b & upper);
#endif
}

/// The same value in every lane. (x - 0 is x for every x, so that no instruction is left of it; 0 + x is not for -0.)
template <class V, class T>
[[gnu::always_inline]] inline V splat(T value) {
    return value - V{};
}

/// Calls f.template operator()<lanes>(i) so that the runs [i, i + lanes) cover [0, n): wide ones first.
template <class F>
[[gnu::always_inline]] inline void for_lanes(std::int64_t n, F&& f) {
    std::int64_t i = 0;
    for (; i + simd_lanes <= n; i += simd_lanes) f.template operator()<simd_lanes>(i);
    if constexpr (simd_lanes > 8) {
        if (i + 8 <= n) f.template operator()<8>(i), i += 8;
    }
    if (i + 4 <= n) f.template operator()<4>(i), i += 4;
    for (; i < n; ++i) f.template operator()<1>(i);
}

}  // namespace bitloom::ops::cpu
