#pragma once
// Winograd's gradient of the filters, block by block: Z = A dy A^T, and dU += V^T Z cell by cell. f32: a group is one
// tile. bf16: a group is two tiles side by side, of which a pair of values lies in each lane of V and Z, so that one
// instruction adds the products of both; where a row ends within a group, Z of the tile beyond it is zero.

#include "ops/cpu/winograd_products.h"

namespace bitloom::ops::cpu::winograd {

inline constexpr std::int64_t gradient_block_tiles = 96;  // the sums are read and written once a block

/// Tiles of a group, groups of a block, and outputs in a row of a group.
template <class T>
inline constexpr std::int64_t group_tiles = together<T>;
template <class T>
inline constexpr std::int64_t block_groups = gradient_block_tiles / group_tiles<T>;
template <class T>
inline constexpr std::int64_t group_width = 2 * group_tiles<T>;

/// Memory of a block's V or Z, [cell][group][channel][tile]: a whole block of groups and one line more between cells,
/// so that the sixteen cells that a transform writes side by side do not meet in the same set of the first cache.
template <class T>
Strides by_cell(std::int64_t channels) {
    const std::int64_t group = channels * group_tiles<T>;
    return {group, block_groups<T> * group + 64 / static_cast<std::int64_t>(sizeof(T))};
}
template <class T>
std::int64_t block_size(std::int64_t channels) {
    return cells * by_cell<T>(channels).cell;
}

/// V of `count` groups from `first`.
inline void transform_groups(const Shape& s, const float* x, const float* zeros, std::int64_t first, std::int64_t count,
                             float* v) {
    transform_input<false>(s, x, zeros, first, count, by_cell<float>(s.channels), v);
}
inline void transform_groups(const Shape& s, const bf16* x, const bf16* zeros, std::int64_t first, std::int64_t count,
                             bf16* v) {
    const Strides strides = by_cell<bf16>(s.channels);
    for_each_run<4>(s, first, count, [&](std::int64_t g, const Place<4>& p, std::int64_t length) {
        const WindowColumns columns(s, x, zeros, p);
        for (std::int64_t i = 0; i < s.channels; i += lanes) {
            std::int64_t w = p.column - s.left;
            const std::int64_t end = w + 4 * length, inside = std::min(end, columns.width() - 5);
            Column c0 = columns.at<true>(w, i), c1 = columns.at<true>(w + 1, i);
            bf16* to = v + g * strides.group + 2 * i;
            const auto pair = [&]<bool checked>() __attribute__((always_inline)) {
                const Column c2 = columns.at<checked>(w + 2, i), c3 = columns.at<checked>(w + 3, i),
                             c4 = columns.at<checked>(w + 4, i), c5 = columns.at<checked>(w + 5, i);
                bf16* cell = to;
#pragma GCC unroll 4
                for (std::size_t r = 0; r < 4; ++r) {
                    const auto one = row_cells(c0[r], c1[r], c2[r], c3[r]), two = row_cells(c2[r], c3[r], c4[r], c5[r]);
#pragma GCC unroll 4
                    for (std::size_t c = 0; c < 4; ++c, cell += strides.cell)
                        store(static_cast<void*>(cell), round_pairs(one[c], two[c]));
                }
                c0 = c4, c1 = c5;
                to += strides.group;
                w += 4;
            };
            while (w < inside) pair.template operator()<false>();
            while (w < end) pair.template operator()<true>();
        }
    });
}

/// Z [cell] = A d A^T of the outputs' gradients d[row][column] of a tile.
[[gnu::always_inline]] inline std::array<Vector, cells> gradient_cells(const Vector& d00, const Vector& d01,
                                                                       const Vector& d10, const Vector& d11) {
    const Vector minus = -d01;
    const Vector left[4] = {d00, d00 + d10, d00 - d10, -d10}, right[4] = {minus, minus - d11, minus + d11, d11};
    std::array<Vector, cells> z;
#pragma GCC unroll 4
    for (std::size_t r = 0; r < 4; ++r) {
        z[4 * r] = left[r];
        z[4 * r + 1] = left[r] - right[r];
        z[4 * r + 2] = left[r] + right[r];
        z[4 * r + 3] = right[r];
    }
    return z;
}

/// Z of `count` groups from `first`; outputs beyond the map count as 0.
template <class T>
void transform_gradient(const Shape& s, const T* dy, const T* zeros, std::int64_t first, std::int64_t count, T* z) {
    constexpr std::int64_t width = group_width<T>;
    const Strides strides = by_cell<T>(s.filters);
    for_each_group<width>(s, first, count, [&](std::int64_t g, const Place<width>& p) {
        const T* top = dy + ((p.image * s.out_h + p.row) * s.out_w + p.column) * s.filters;
        const bool below = p.row + 1 < s.out_h;
        std::array<const T*, 2 * width> at;
        for (std::int64_t c = 0; c < width; ++c) {
            const bool inside = p.column + c < s.out_w;
            const auto column = static_cast<std::size_t>(c);
            at[column] = inside ? top + c * s.filters : zeros;
            at[column + width] = inside && below ? top + (s.out_w + c) * s.filters : zeros;
        }
        for (std::int64_t o = 0; o < s.filters; o += lanes) {
            const auto tile = [&](std::size_t c) __attribute__((always_inline)) {
                return gradient_cells(load<Vector>(at[c] + o), load<Vector>(at[c + 1] + o),
                                      load<Vector>(at[c + width] + o), load<Vector>(at[c + 1 + width] + o));
            };
            T* to = z + g * strides.group + o * group_tiles<T>;
            const auto one = tile(0);
            if constexpr (group_tiles<T> == 2) {
                const auto two = tile(2);
#pragma GCC unroll 16
                for (std::size_t cell = 0; cell < cells; ++cell, to += strides.cell)
                    store(static_cast<void*>(to), round_pairs(one[cell], two[cell]));
            } else {
#pragma GCC unroll 16
                for (std::size_t cell = 0; cell < cells; ++cell, to += strides.cell) store(to, one[cell]);
            }
        }
    });
}

/// sums [channels, filters] += v^T z, v [steps][channels][together], z [steps][filters][together]. The block's sum is
/// formed first and then added: with the long sum in one register, rounding errors would be several times as large.
template <class T>
void add_cell(const T* v, const T* z, std::int64_t steps, std::int64_t channels, std::int64_t filters, float* sums) {
    constexpr std::int64_t pair = together<T>;
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

/// dU [cell][channels][filters] += V^T Z of a block of `groups` groups. `x` and `dy`: what the next block reads.
template <class T>
void add_cells(const T* v, const T* z, std::int64_t groups, std::int64_t channels, std::int64_t filters, float* sums,
               Prefetch x, Prefetch dy) {
    for (int cell = 0; cell < cells; ++cell) {
        x.next_part<false>();
        dy.next_part<false>();
        add_cell<T>(v, z, groups, channels, filters, sums);
        v += by_cell<T>(channels).cell, z += by_cell<T>(filters).cell;
        sums += channels * filters;
    }
}

}  // namespace bitloom::ops::cpu::winograd
