#pragma once
// Winograd's F(2x2, 3x3) on NHWC maps: tiles, and the transforms of inputs and outputs of a block of tiles.

#include <array>

#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu::winograd {

inline constexpr int lanes = 16, cells = 16;
using Vector = Pack<lanes>::Float;

/// A convolution in the form that the forward loops compute: y [batch, out_h, out_w, filters] of x [batch, in_h, in_w,
/// channels] padded by `top` and `left` zeros.
struct Shape {
    std::int64_t batch, in_h, in_w, channels, out_h, out_w, filters, top, left;
    std::int64_t tiles_down() const { return (out_h + 1) / 2; }
    /// Groups of tiles that cover `width` outputs of a row, in all rows of the batch.
    std::int64_t groups(std::int64_t width) const { return batch * tiles_down() * ((out_w + width - 1) / width); }
    std::int64_t tiles() const { return groups(2); }
    std::int64_t x_values() const { return batch * in_h * in_w * channels; }
    std::int64_t y_values() const { return batch * out_h * out_w * filters; }
    /// Values of x that a window reads below its first two lines: those above, the tiles of the row before have read.
    std::int64_t lines_below() const { return 2 * in_w * channels; }
};

inline Shape forward_shape(const Conv2dGeometry& g) {
    return {g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c, g.pad_top, g.pad_left};
}
inline Shape gradient_shape(const Conv2dGeometry& g) {
    return {g.batch, g.out_h, g.out_w, g.out_c, g.in_h, g.in_w, g.in_c, 2 - g.pad_top, 2 - g.pad_left};
}

/// The place of a group of tiles that covers `width` outputs of a row: its image, the first row and column of its
/// outputs.
template <std::int64_t width>
struct Place {
    std::int64_t image, row, column;
    Place(const Shape& s, std::int64_t group) {
        const std::int64_t across = (s.out_w + width - 1) / width, per_image = s.tiles_down() * across;
        image = group / per_image;
        row = group % per_image / across * 2;
        column = group % across * width;
    }
    void advance(const Shape& s) {
        if ((column += width) < s.out_w) return;
        column = 0;
        if ((row += 2) < s.out_h) return;
        row = 0;
        ++image;
    }
};

/// Calls f(group's index within the block, place) for `count` groups from `first`.
template <std::int64_t width, class F>
void for_each_group(const Shape& s, std::int64_t first, std::int64_t count, F&& f) {
    Place<width> place(s, first);
    for (std::int64_t t = 0; t < count; ++t, place.advance(s)) f(t, place);
}

/// Calls f(index within the block, place, length) for the runs of groups in a row that the `count` groups from `first`
/// form.
template <std::int64_t width, class F>
void for_each_run(const Shape& s, std::int64_t first, std::int64_t count, F&& f) {
    Place<width> place(s, first);
    for (std::int64_t t = 0; t < count;) {
        const std::int64_t length = std::min(count - t, (s.out_w - place.column + width - 1) / width);
        f(t, place, length);
        t += length;
        place.column += width * (length - 1);
        place.advance(s);
    }
}

/// Values from one group's to the next one's, and from one cell's to the next one's, in memory of transforms.
struct Strides {
    std::int64_t group, cell;
};
/// [tile][cell][channel]: what is written together lies together.
inline Strides by_tile(std::int64_t channels) { return {cells * channels, channels}; }

/// Two vectors to places `apart` values from each other; `adjacent` where that is known to be one vector.
template <bool adjacent>
[[gnu::always_inline]] inline void store_two(float* to, std::int64_t apart, const Vector& a, const Vector& b) {
    store(to, a);
    store(to + apart, b);
}
template <bool adjacent>
[[gnu::always_inline]] inline void store_two(bf16* to, std::int64_t apart, const Vector& a, const Vector& b) {
    if constexpr (adjacent) {
        store(static_cast<void*>(to), round_two(a, b));
    } else {
        store(to, a);
        store(to + apart, b);
    }
}

/// A column of a tile's window, transformed: B^T of its four values, for 16 channels.
using Column = std::array<Vector, 4>;

/// The columns of the windows of one row of tiles.
template <class T>
class WindowColumns {
   public:
    template <std::int64_t width>
    WindowColumns(const Shape& s, const T* x, const T* zeros, const Place<width>& p)
        : channels_(s.channels), width_(s.in_w) {
        for (std::int64_t r = 0; r < 4; ++r) {
            const std::int64_t h = p.row - s.top + r;
            rows_[static_cast<std::size_t>(r)] =
                h < 0 || h >= s.in_h ? zeros : x + (p.image * s.in_h + h) * s.in_w * s.channels;
        }
    }
    /// Column w of the map, 16 channels from `channel`; with `checked`, zeros where it lies beyond the map.
    template <bool checked>
    [[gnu::always_inline]] Column at(std::int64_t w, std::int64_t channel) const {
        if (checked && (w < 0 || w >= width_)) return {};
        const std::int64_t i = w * channels_ + channel;
        const Vector d0 = load<Vector>(rows_[0] + i), d1 = load<Vector>(rows_[1] + i), d2 = load<Vector>(rows_[2] + i),
                     d3 = load<Vector>(rows_[3] + i);
        return {d0 - d2, d1 + d2, d2 - d1, d1 - d3};
    }
    std::int64_t width() const { return width_; }

   private:
    std::int64_t channels_, width_;
    std::array<const T*, 4> rows_;
};

/// The four cells of a row of a transform from the same row of its columns.
[[gnu::always_inline]] inline std::array<Vector, 4> row_cells(const Vector& c0, const Vector& c1, const Vector& c2,
                                                              const Vector& c3) {
    return {c0 - c2, c1 + c2, c2 - c1, c1 - c3};
}

/// V of `count` tiles from `first`. Neighbours in a row share two of the four columns of their windows, whose
/// transforms by column are kept. `sixteen`: there are 16 channels, and the cells lie side by side.
template <bool sixteen, class T>
void transform_input(const Shape& s, const T* x, const T* zeros, std::int64_t first, std::int64_t count,
                     Strides strides, T* v) {
    const std::int64_t apart = sixteen ? lanes : strides.cell;
    for_each_run<2>(s, first, count, [&](std::int64_t t, const Place<2>& p, std::int64_t length) {
        const WindowColumns columns(s, x, zeros, p);
        for (std::int64_t i = 0; i < s.channels; i += lanes) {
            std::int64_t w = p.column - s.left;
            const std::int64_t end = w + 2 * length, inside = std::min(end, columns.width() - 3);
            Column c0 = columns.template at<true>(w, i), c1 = columns.template at<true>(w + 1, i);
            T* to = v + t * strides.group + i;
            const auto tile = [&]<bool checked>() __attribute__((always_inline)) {
                const Column c2 = columns.template at<checked>(w + 2, i), c3 = columns.template at<checked>(w + 3, i);
#pragma GCC unroll 4
                for (std::size_t r = 0; r < 4; ++r) {
                    const auto row = row_cells(c0[r], c1[r], c2[r], c3[r]);
                    T* cell = to + static_cast<std::int64_t>(r) * 4 * apart;
                    store_two<sixteen>(cell, apart, row[0], row[1]);
                    store_two<sixteen>(cell + 2 * apart, apart, row[2], row[3]);
                }
                c0 = c2, c1 = c3;
                to += strides.group;
                w += 2;
            };
            while (w < inside) tile.template operator()<false>();
            while (w < end) tile.template operator()<true>();
        }
    });
}

/// y of `count` tiles from M, laid out by_tile. `sixteen`: there are 16 filters.
template <bool sixteen, class T>
void transform_output(const Shape& s, const float* m, const float* bias, const T* residual, bool relu,
                      std::int64_t first, std::int64_t count, T* y) {
    const std::int64_t filters = sixteen ? lanes : s.filters;
    for_each_group<2>(s, first, count, [&](std::int64_t t, const Place<2>& p) {
        const std::int64_t corner = ((p.image * s.out_h + p.row) * s.out_w + p.column) * filters;
        const bool below = p.row + 1 < s.out_h, right = p.column + 1 < s.out_w;
        for (std::int64_t o = 0; o < filters; o += lanes) {
            const float* from = m + t * cells * filters + o;
            Vector a[2][4];
#pragma GCC unroll 4
            for (int c = 0; c < 4; ++c) {
                const Vector m0 = load<Vector>(from + c * filters), m1 = load<Vector>(from + (4 + c) * filters),
                             m2 = load<Vector>(from + (8 + c) * filters), m3 = load<Vector>(from + (12 + c) * filters);
                a[0][c] = m0 + m1 + m2, a[1][c] = m1 - m2 - m3;
            }
            const Vector start = bias ? load<Vector>(bias + o) : Vector{};
            const auto finish = [&](int r) __attribute__((always_inline)) {
                const std::int64_t at = corner + r * s.out_w * filters + o;
                Vector one = a[r][0] + a[r][1] + a[r][2] + start, other = a[r][1] - a[r][2] - a[r][3] + start;
                if (residual) {
                    one += load<Vector>(residual + at);
                    if (right) other += load<Vector>(residual + at + filters);
                }
                if (relu) one = one > 0 ? one : Vector{}, other = other > 0 ? other : Vector{};
                if (right)
                    store_two<sixteen>(y + at, filters, one, other);
                else
                    store(y + at, one);
            };
            finish(0);
            if (below) finish(1);
        }
    });
}

}  // namespace bitloom::ops::cpu::winograd
