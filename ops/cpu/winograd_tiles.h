#pragma once
// Winograd's F(2x2, 3x3) on NHWC maps: tiles, and the transforms of inputs, outputs and gradients of a block of tiles.

#include <array>

#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu::winograd {

inline constexpr int lanes = 16, cells = 16;
inline constexpr std::int64_t block_tiles = 48;           // a multiple of every number of rows of the products
inline constexpr std::int64_t gradient_block_tiles = 64;  // the sums are read and written once a block
using Vector = Pack<lanes>::Float;

/// Values between the same tile's of two cells: a whole block of tiles and one line more, so that the sixteen
/// cells that a transform writes side by side do not meet in the same set of the first cache.
template <class Value>
constexpr std::int64_t cell_stride(std::int64_t tiles, std::int64_t channels) {
    return tiles * channels + 64 / static_cast<std::int64_t>(sizeof(Value));
}

/// A convolution in the form that the forward loops compute: y [batch, out_h, out_w, filters] of x [batch, in_h, in_w,
/// channels] padded by `top` and `left` zeros.
struct Shape {
    std::int64_t batch, in_h, in_w, channels, out_h, out_w, filters, top, left;
    std::int64_t tiles_down() const { return (out_h + 1) / 2; }
    std::int64_t tiles_across() const { return (out_w + 1) / 2; }
    std::int64_t tiles() const { return batch * tiles_down() * tiles_across(); }
};

inline Shape forward_shape(const Conv2dGeometry& g) {
    return {g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c, g.pad_top, g.pad_left};
}
inline Shape gradient_shape(const Conv2dGeometry& g) {
    return {g.batch, g.out_h, g.out_w, g.out_c, g.in_h, g.in_w, g.in_c, 2 - g.pad_top, 2 - g.pad_left};
}

/// The place of a tile: its image and the first row and column of its outputs.
struct Place {
    std::int64_t image, row, column;
    Place(const Shape& s, std::int64_t tile) {
        const std::int64_t across = s.tiles_across(), per_image = s.tiles_down() * across;
        image = tile / per_image;
        row = tile % per_image / across * 2;
        column = tile % across * 2;
    }
    void advance(const Shape& s) {
        if ((column += 2) < s.out_w) return;
        column = 0;
        if ((row += 2) < s.out_h) return;
        row = 0;
        ++image;
    }
};

/// Calls f(tile's index within the block, place) for `count` tiles from `first`.
template <class F>
void for_each_tile(const Shape& s, std::int64_t first, std::int64_t count, F&& f) {
    Place place(s, first);
    for (std::int64_t t = 0; t < count; ++t, place.advance(s)) f(t, place);
}

/// Calls f(index within the block, place, length) for the runs of tiles in a row that the `count` tiles from `first`
/// form.
template <class F>
void for_each_run(const Shape& s, std::int64_t first, std::int64_t count, F&& f) {
    Place place(s, first);
    for (std::int64_t t = 0; t < count;) {
        const std::int64_t length = std::min(count - t, (s.out_w - place.column + 1) / 2);
        f(t, place, length);
        t += length;
        place.column += 2 * (length - 1);
        place.advance(s);
    }
}

/// V[cell][tile][channel]. Neighbours in a row share two of the four columns of their windows, whose transforms by
/// column are kept.
template <class T, class Value>
void transform_input(const Shape& s, const T* x, const T* zeros, std::int64_t first, std::int64_t count,
                     std::int64_t block, Value* v) {
    const std::int64_t line = s.in_w * s.channels, stride = cell_stride<Value>(block, s.channels);
    for_each_run(s, first, count, [&](std::int64_t t, const Place& p, std::int64_t length) {
        std::array<const T*, 4> rows;
        for (std::int64_t r = 0; r < 4; ++r) {
            const std::int64_t h = p.row - s.top + r;
            rows[static_cast<std::size_t>(r)] = h < 0 || h >= s.in_h ? zeros : x + (p.image * s.in_h + h) * line;
        }
        for (std::int64_t i = 0; i < s.channels; i += lanes) {
            const auto column = [&](std::int64_t w) {
                if (w < 0 || w >= s.in_w) return std::array<Vector, 4>{};
                const std::int64_t at = w * s.channels + i;
                const Vector d0 = load<Vector>(rows[0] + at), d1 = load<Vector>(rows[1] + at),
                             d2 = load<Vector>(rows[2] + at), d3 = load<Vector>(rows[3] + at);
                return std::array<Vector, 4>{d0 - d2, d1 + d2, d2 - d1, d1 - d3};
            };
            std::int64_t w = p.column - s.left;
            std::array<Vector, 4> c0 = column(w), c1 = column(w + 1);
            Value* tile = v + t * s.channels + i;
            for (std::int64_t n = 0; n < length; ++n, tile += s.channels) {
                w += 2;
                const std::array<Vector, 4> c2 = column(w), c3 = column(w + 1);
                Value* to = tile;
#pragma GCC unroll 4
                for (std::size_t r = 0; r < 4; ++r, to += 4 * stride) {
                    store(to, c0[r] - c2[r]);
                    store(to + stride, c1[r] + c2[r]);
                    store(to + 2 * stride, c2[r] - c1[r]);
                    store(to + 3 * stride, c1[r] - c3[r]);
                }
                c0 = c2, c1 = c3;
            }
        }
    });
}

template <class T>
void transform_output(const Shape& s, const float* m, const float* bias, const T* residual, bool relu,
                      std::int64_t first, std::int64_t count, T* y) {
    const std::int64_t stride = cell_stride<float>(block_tiles, s.filters);
    for_each_tile(s, first, count, [&](std::int64_t t, const Place& p) {
        const std::int64_t corner = ((p.image * s.out_h + p.row) * s.out_w + p.column) * s.filters;
        const bool below = p.row + 1 < s.out_h, right = p.column + 1 < s.out_w;
        for (std::int64_t o = 0; o < s.filters; o += lanes) {
            const float* from = m + t * s.filters + o;
            Vector a[2][4];
#pragma GCC unroll 4
            for (int c = 0; c < 4; ++c) {
                const Vector m0 = load<Vector>(from + c * stride), m1 = load<Vector>(from + (4 + c) * stride),
                             m2 = load<Vector>(from + (8 + c) * stride), m3 = load<Vector>(from + (12 + c) * stride);
                a[0][c] = m0 + m1 + m2, a[1][c] = m1 - m2 - m3;
            }
            const Vector start = bias ? load<Vector>(bias + o) : Vector{};
            const auto finish = [&](Vector sum, std::int64_t r, std::int64_t c) {
                const std::int64_t at = corner + (r * s.out_w + c) * s.filters + o;
                sum += start;
                if (residual) sum += load<Vector>(residual + at);
                if (relu) sum = sum > 0 ? sum : Vector{};
                store(y + at, sum);
            };
            finish(a[0][0] + a[0][1] + a[0][2], 0, 0);
            if (right) finish(a[0][1] - a[0][2] - a[0][3], 0, 1);
            if (!below) continue;
            finish(a[1][0] + a[1][1] + a[1][2], 1, 0);
            if (right) finish(a[1][1] - a[1][2] - a[1][3], 1, 1);
        }
    });
}

/// Z[cell][tile][filter] = A dy A^T; outputs beyond the map count as 0.
template <class T, class Value>
void transform_gradient(const Shape& s, const T* dy, const T* zeros, std::int64_t first, std::int64_t count, Value* z) {
    const std::int64_t stride = cell_stride<Value>(gradient_block_tiles, s.filters);
    for_each_tile(s, first, count, [&](std::int64_t t, const Place& p) {
        const T* corner = dy + ((p.image * s.out_h + p.row) * s.out_w + p.column) * s.filters;
        const bool below = p.row + 1 < s.out_h, right = p.column + 1 < s.out_w;
        const T* p01 = right ? corner + s.filters : zeros;
        const T* p10 = below ? corner + s.out_w * s.filters : zeros;
        const T* p11 = below && right ? corner + (s.out_w + 1) * s.filters : zeros;
        for (std::int64_t o = 0; o < s.filters; o += lanes) {
            const Vector d00 = load<Vector>(corner + o), d01 = load<Vector>(p01 + o), d10 = load<Vector>(p10 + o),
                         d11 = load<Vector>(p11 + o);
            const Vector left[4] = {d00, d00 + d10, d00 - d10, -d10}, other[4] = {d01, d01 + d11, d01 - d11, -d11};
            Value* to = z + t * s.filters + o;
#pragma GCC unroll 4
            for (int r = 0; r < 4; ++r, to += 4 * stride) {
                store(to, left[r]);
                store(to + stride, left[r] + other[r]);
                store(to + 2 * stride, left[r] - other[r]);
                store(to + 3 * stride, -other[r]);
            }
        }
    });
}

}  // namespace bitloom::ops::cpu::winograd
