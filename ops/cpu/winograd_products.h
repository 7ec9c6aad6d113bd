#pragma once
// The sixteen products of a block of tiles, one a cell of the transforms. f32: sums of 16 filters in one register, each
// value of a tile sent to all of its lanes. bf16: the same on pairs of channels (of tiles in the filter gradient),
// whose two products one instruction adds.

#include "ops/cpu/winograd_tiles.h"

// Vectors wider than the build's registers are returned below by functions that are always inlined: no ABI is concerned.
#pragma GCC diagnostic ignored "-Wpsabi"

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

/// m [tiles, filters] = v [tiles, channels] u [channels, filters], the columns of Wide * 16 filters; tiles up to the
/// next multiple of Rows are computed too.
template <int Rows, int Wide, class Value>
void multiply_columns(const Value* v, const Value* u, std::int64_t tiles, std::int64_t channels, std::int64_t filters,
                      float* m) {
    constexpr std::int64_t pair = together<Value>;
    for (std::int64_t t = 0; t < tiles; t += Rows, v += Rows * channels, m += Rows * filters) {
        Vector sums[Rows][Wide] = {};
        multiply_tile<Rows, Wide>(v, pair, channels, u, filters * pair, channels / pair, sums);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int j = 0; j < Wide; ++j) store<Vector>(m + r * filters + j * lanes, sums[r][j]);
    }
}

/// M of a block from V and U [cell][channels / together][filters][together].
template <class Value>
void multiply_cells(const Value* v, const Value* u, std::int64_t tiles, std::int64_t channels, std::int64_t filters,
                    float* m) {
    for (int cell = 0; cell < cells; ++cell) {
        std::int64_t from = 0;
        const auto at = [&] { return u + from * together<Value>; };
        for (; from + 4 * lanes <= filters; from += 4 * lanes)
            multiply_columns<6, 4>(v, at(), tiles, channels, filters, m + from);
        for (; from + 2 * lanes <= filters; from += 2 * lanes)
            multiply_columns<12, 2>(v, at(), tiles, channels, filters, m + from);
        for (; from < filters; from += lanes) multiply_columns<12, 1>(v, at(), tiles, channels, filters, m + from);
        v += cell_stride<Value>(block_tiles, channels), m += cell_stride<float>(block_tiles, filters);
        u += channels * filters;
    }
}

/// sums [channels, filters] += v^T z, v [steps][channels][together], z [steps][filters][together]. The block's sum is
/// formed first and then added: with the long sum in one register, rounding errors would be several times as large.
template <class Value>
void add_cell(const Value* v, const Value* z, std::int64_t steps, std::int64_t channels, std::int64_t filters,
              float* sums) {
    constexpr std::int64_t pair = together<Value>;
    const auto add = [&]<int Rows, int Wide>(std::int64_t channel, std::int64_t filter) {
        Vector s[Rows][Wide] = {};
        multiply_tile<Rows, Wide>(v + channel * pair, channels * pair, pair, z + filter * pair, filters * pair, steps,
                                  s);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
            for (int j = 0; j < Wide; ++j) {
                float* to = sums + (channel + r) * filters + filter + j * lanes;
                store<Vector>(to, load<Vector>(to) + s[r][j]);
            }
    };
    std::int64_t filter = 0;
    for (; filter + 2 * lanes <= filters; filter += 2 * lanes)
        for (std::int64_t channel = 0; channel < channels; channel += 8) add.template operator()<8, 2>(channel, filter);
    for (; filter < filters; filter += lanes)
        for (std::int64_t channel = 0; channel < channels; channel += 16)
            add.template operator()<16, 1>(channel, filter);
}

/// The rows of two tiles as pairs; where `tiles` is odd the last has a zero beside it.
inline void pair_tiles(const bf16* v, std::int64_t tiles, std::int64_t channels, bf16* pairs) {
    using Int = Pack<lanes>::Int;
    const auto widened = [](const bf16* from) {
        return convert<Int, lanes>(load<Pack<lanes>::Half>(static_cast<const void*>(from)));
    };
    for (std::int64_t t = 0; t < tiles; t += 2)
        for (std::int64_t i = 0; i < channels; i += lanes, pairs += 2 * lanes) {
            const bf16* from = v + t * channels + i;
            const Int second = t + 1 < tiles ? widened(from + channels) : Int{};
            store<Int>(static_cast<void*>(pairs), widened(from) | second << 16);
        }
}

/// Values of scratch that add_cells needs.
template <class Value>
constexpr std::int64_t pairs_size(std::int64_t channels, std::int64_t filters) {
    return together<Value> == 1 ? 0 : gradient_block_tiles * (channels + filters);
}

/// dU [cell][channels][filters] += V^T Z of a block; `pairs` holds pairs_size values.
template <class Value>
void add_cells(const Value* v, const Value* z, std::int64_t tiles, std::int64_t channels, std::int64_t filters,
               Value* pairs, float* sums) {
    for (int cell = 0; cell < cells; ++cell) {
        if constexpr (together<Value> == 2) {
            bf16* z_pairs = pairs + gradient_block_tiles * channels;
            pair_tiles(v, tiles, channels, pairs);
            pair_tiles(z, tiles, filters, z_pairs);
            add_cell<Value>(pairs, z_pairs, (tiles + 1) / 2, channels, filters, sums);
        } else {
            add_cell<Value>(v, z, tiles, channels, filters, sums);
        }
        v += cell_stride<Value>(gradient_block_tiles, channels), z += cell_stride<Value>(gradient_block_tiles, filters);
        sums += channels * filters;
    }
}

}  // namespace bitloom::ops::cpu::winograd
