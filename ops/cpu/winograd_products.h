#pragma once
// The sixteen products of a block of tiles, one a cell of the transforms. f32: sums of 16 filters in one register, each
// value of a tile sent to all of its lanes. bf16: the same on pairs of channels (of tiles in the filter gradient),
// whose two products one instruction adds.

#include "ops/cpu/winograd_tiles.h"

namespace bitloom::ops::cpu::winograd {

/// A value, or a pair of bf16, in every lane, and 16 of them from memory.
[[gnu::always_inline]] inline Vector spread(const float* from) { return splat<Vector>(*from); }
[[gnu::always_inline]] inline Pack<lanes>::Int spread(const bf16* from) {
    std::int32_t pair;
    std::memcpy(&pair, from, sizeof pair);
    return pair - Pack<lanes>::Int{};
}
[[gnu::always_inline]] inline Vector line(const float* from) { return load<Vector>(from); }
[[gnu::always_inline]] inline Pack<lanes>::Int line(const bf16* from) {
    return load<Pack<lanes>::Int>(static_cast<const void*>(from));
}
[[gnu::always_inline]] inline void add_product(Vector& sum, const Vector& a, const Vector& b) { sum += a * b; }
[[gnu::always_inline]] inline void add_product(Vector& sum, const Pack<lanes>::Int& a, const Pack<lanes>::Int& b) {
    add_pair_products(sum, a, b);
}

/// Values that lie side by side in a lane.
template <class Value>
inline constexpr std::int64_t together = sizeof(float) / sizeof(Value);

/// sums[Rows][Wide] = the products of a [Rows] and b [Wide * 16], over `steps` values or pairs: those of a are a_step
/// apart for the next and a_row for the next row, those of b b_step.
template <int Rows, int Wide, class Value>
[[gnu::always_inline]] inline void multiply_tile(const Value* a, std::int64_t a_step, std::int64_t a_row,
                                                 const Value* b, std::int64_t b_step, std::int64_t steps,
                                                 Vector (&sums)[Rows][Wide]) {
    for (std::int64_t k = 0; k < steps; ++k, a += a_step, b += b_step) {
        decltype(line(b)) factors[Wide];
#pragma GCC unroll 4
        for (int j = 0; j < Wide; ++j) factors[j] = line(b + j * lanes * together<Value>);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            const auto value = spread(a + r * a_row);
#pragma GCC unroll 4
            for (int j = 0; j < Wide; ++j) add_product(sums[r][j], value, factors[j]);
        }
    }
}

/// Tiles of a block. V, M and U of few channels then lie in the first cache together.
constexpr std::int64_t block_tiles(std::int64_t filters) { return filters == lanes ? 16 : 24; }

/// The columns of Wide * 16 filters of M for one cell; tiles up to the next multiple of Rows are computed too.
template <int Rows, int Wide, class Value>
void multiply_columns(const Value* v, const Value* u, std::int64_t tiles, std::int64_t channels, std::int64_t filters,
                      float* m) {
    constexpr std::int64_t pair = together<Value>;
    for (std::int64_t t = 0; t < tiles; t += Rows, v += Rows * cells * channels, m += Rows * cells * filters) {
        Vector sums[Rows][Wide] = {};
        multiply_tile<Rows, Wide>(v, pair, cells * channels, u, filters * pair, channels / pair, sums);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int j = 0; j < Wide; ++j) store<Vector>(m + r * cells * filters + j * lanes, sums[r][j]);
    }
}

/// Asks for memory part by part, one a cell, while products are computed: a block's transforms then find what they
/// read, and what they write, in the second cache.
class Prefetch {
   public:
    /// The share of `values` values from `all` on that groups [first, first + count) of `groups` have.
    template <class T>
    Prefetch(const T* all, std::int64_t values, std::int64_t first, std::int64_t count, std::int64_t groups,
             std::int64_t parts = cells)
        : next_(reinterpret_cast<const char*>(all + values * first / groups)),
          part_((values * count / groups * static_cast<std::int64_t>(sizeof(T)) + parts - 1) / parts) {}
    template <bool to_write>
    void next_part() {
        for (std::int64_t i = 0; i < part_; i += 64) __builtin_prefetch(next_ + i, to_write, 2);
        next_ += part_;
    }

   private:
    const char* next_;
    std::int64_t part_;
};

/// M of a block from V, both laid out by_tile, and U [cell][channels / together][filters][together]. `x` and `y`: what
/// the next block reads and writes.
template <class Value>
void multiply_cells(const Value* v, const Value* u, std::int64_t tiles, std::int64_t channels, std::int64_t filters,
                    float* m, Prefetch x, Prefetch y) {
    for (int cell = 0; cell < cells; ++cell, v += channels, m += filters, u += channels * filters) {
        x.next_part<false>();
        y.next_part<true>();
        if (filters == lanes) {
            channels == lanes ? multiply_columns<16, 1>(v, u, tiles, lanes, lanes, m)
                              : multiply_columns<16, 1>(v, u, tiles, channels, lanes, m);
            continue;
        }
        std::int64_t from = 0;
        for (; from + 2 * lanes <= filters; from += 2 * lanes)
            multiply_columns<12, 2>(v, u + from * together<Value>, tiles, channels, filters, m + from);
        if (from < filters) multiply_columns<12, 1>(v, u + from * together<Value>, tiles, channels, filters, m + from);
    }
}

}  // namespace bitloom::ops::cpu::winograd
