// Dropout and per-sample scaling.

#include <array>
#include <cmath>
#include <cstring>

#include "ops/cpu/kernels.h"
#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu {

namespace {

/// Blocks of Philox drawn at once, one a lane; a 32-bit word sits in a 64-bit lane, so that products keep their upper
/// half.
constexpr int philox_lanes = 8;
typedef std::uint64_t Wide __attribute__((vector_size(8 * philox_lanes)));

/// Words of blocks [first, first + philox_lanes) of a stream, in the order of the elements. The rounds:
/// engine/random.cpp.
[[gnu::always_inline]] inline void draw(PhiloxStream stream, std::uint64_t first, std::uint32_t* words) {
    constexpr std::uint64_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, low = 0xFFFFFFFFu;
    const Wide block = first + Wide{0, 1, 2, 3, 4, 5, 6, 7};
    Wide c0 = block & low, c1 = block >> 32, c2 = Wide{} + (stream.counter & low), c3 = Wide{} + (stream.counter >> 32);
    auto k0 = static_cast<std::uint32_t>(stream.key), k1 = static_cast<std::uint32_t>(stream.key >> 32);
    for (int round = 0; round < 10; ++round) {
        const Wide p0 = m0 * c0, p1 = m1 * c2;
        c0 = (p1 >> 32) ^ c1 ^ k0;
        c1 = p1 & low;
        c2 = (p0 >> 32) ^ c3 ^ k1;
        c3 = p0 & low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    // Lane i of c0..c3 holds the words of elements 4 i to 4 i + 3: packed into 64 bits by pairs, then interleaved.
    const Wide even = c0 | (c1 << 32), odd = c2 | (c3 << 32);
    const Wide front = __builtin_shufflevector(even, odd, 0, 8, 1, 9, 2, 10, 3, 11);
    const Wide back = __builtin_shufflevector(even, odd, 4, 12, 5, 13, 6, 14, 7, 15);
    std::memcpy(words, &front, sizeof front);
    std::memcpy(words + 2 * philox_lanes, &back, sizeof back);
}

}  // namespace

void dropout(double rate, PhiloxStream stream, const Tensor& x, Tensor& y) {
    constexpr std::string_view who = "dropout";
    constexpr std::int64_t batch = 4 * philox_lanes;
    const float keep = static_cast<float>(1 - rate);
    // to_unit_float(word) >= rate, in integers: (word >> 8) >= rate 2^24.
    const auto threshold = static_cast<std::uint32_t>(std::ceil(rate * 0x1.0p24));
    const std::int64_t n = x.numel();
    dispatch_storage(x, [&](auto zero) {
        using T = decltype(zero);
        const T* px = input<T>(x, who);
        T* py = output<T>(y, who);
        parallel_items((n + batch - 1) / batch, batch * 4, [=](std::int64_t begin, std::int64_t end) {
            std::array<std::uint32_t, batch> words;
            for (std::int64_t group = begin; group < end; ++group) {
                draw(stream, static_cast<std::uint64_t>(group) * philox_lanes, words.data());
                const T* from = px + group * batch;
                T* to = py + group * batch;
                const std::int64_t count = std::min(batch, n - group * batch);
#pragma omp simd
                for (std::int64_t i = 0; i < count; ++i) {
                    const float kept = static_cast<float>(from[i]) / keep;
                    to[i] = static_cast<T>((words[static_cast<std::size_t>(i)] >> 8) >= threshold ? kept : 0.0f);
                }
            }
        });
    });
}

void row_scale(const Tensor& factors, const Tensor& x, Tensor& y) {
    constexpr std::string_view who = "row_scale";
    const float* factor = input(factors, who);
    const std::int64_t width = x.shape().product(1, x.rank());
    dispatch_storage(x, [&](auto zero) {
        using T = decltype(zero);
        const T* px = input<T>(x, who);
        T* py = output<T>(y, who);
        parallel_items(x.dim(0), width, [=](std::int64_t begin, std::int64_t end) {
            for (std::int64_t n = begin; n < end; ++n) {
                const float f = factor[n];
#pragma omp simd
                for (std::int64_t i = n * width; i < (n + 1) * width; ++i)
                    py[i] = static_cast<T>(static_cast<float>(px[i]) * f);
            }
        });
    });
}

}  // namespace bitloom::ops::cpu
