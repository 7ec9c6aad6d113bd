// Pooling, vectorised over channels. The backward passes gather: every input cell is written once, as the sum over the
// windows that hold it in row-major order, which is also the order of a scatter.

#include <algorithm>

#include "ops/cpu/kernels.h"
#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu {

namespace {

/// The real cells [h0, h1) x [w0, w1) of one window, whose own corner, padding included, is (top, left).
struct Window {
    std::int64_t top, left, h0, h1, w0, w1;
    std::int64_t cells() const { return (h1 - h0) * (w1 - w0); }
};
Window window_of(const Pool2dGeometry& g, std::int64_t oh, std::int64_t ow) {
    const std::int64_t top = oh * g.stride_h - g.pad_top, left = ow * g.stride_w - g.pad_left;
    return {.top = top,
            .left = left,
            .h0 = std::max<std::int64_t>(top, 0),
            .h1 = std::min(top + g.window_h, g.in_h),
            .w0 = std::max<std::int64_t>(left, 0),
            .w1 = std::min(left + g.window_w, g.in_w)};
}

float divisor_of(const Pool2dGeometry& g, const Window& w, bool include_pad) {
    return static_cast<float>(include_pad ? g.window_h * g.window_w : w.cells());
}

std::int64_t input_cell(const Pool2dGeometry& g, std::int64_t n, std::int64_t h, std::int64_t w) {
    return ((n * g.in_h + h) * g.in_w + w) * g.channels;
}
std::int64_t output_cell(const Pool2dGeometry& g, std::int64_t n, std::int64_t h, std::int64_t w) {
    return ((n * g.out_h + h) * g.out_w + w) * g.channels;
}

/// Calls f(n, oh) for every row of windows.
template <class F>
void for_each_output_row(const Pool2dGeometry& g, F&& f) {
    parallel_items(g.batch * g.out_h, g.in_w * g.channels * g.stride_h, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) f(row / g.out_h, row % g.out_h);
    });
}

/// The maximum over one window's real cells, for all channels. Known extents (0: not known) unroll the loops.
template <bool wants_position, int known_height, int known_width, class T>
[[gnu::always_inline]] inline void max_of_window(const Pool2dGeometry& g, const Window& window, const T* first,
                                                 std::int64_t line, T* y, std::uint8_t* positions) {
    const std::int64_t height = known_height ? known_height : window.h1 - window.h0;
    const std::int64_t width = known_width ? known_width : window.w1 - window.w0;
    const auto corner = static_cast<std::int32_t>((window.h0 - window.top) * g.window_w + window.w0 - window.left);
    for_lanes(g.channels, [&]<int N>(std::int64_t c) {
        using V = typename Pack<N>::Float;
        using I = typename Pack<N>::Int;
        V best = load<V>(first + c);
        I position = splat<I>(corner);
        for (std::int64_t h = 0; h < height; ++h) {
            for (std::int64_t w = 0; w < width; ++w) {
                const V value = load<V>(first + h * line + w * g.channels + c);
                const I here = splat<I>(corner + static_cast<std::int32_t>(h * g.window_w + w));
                if constexpr (wants_position) position = value > best ? here : position;
                best = value > best ? value : best;
            }
        }
        store<V>(y + c, best);
        if constexpr (wants_position) {
            using B = typename Pack<N>::Byte;
            store<B>(positions + c, convert<B, N>(position));
        }
    });
}

template <bool wants_position, class T>
void max_forward(const Pool2dGeometry& g, const T* x, T* y, std::uint8_t* positions) {
    const std::int64_t line = g.in_w * g.channels;
    const bool two_by_two = g.window_h == 2 && g.window_w == 2;
    for_each_output_row(g, [&](std::int64_t n, std::int64_t oh) {
        std::int64_t out = output_cell(g, n, oh, 0);
        for (std::int64_t ow = 0; ow < g.out_w; ++ow, out += g.channels) {
            const Window window = window_of(g, oh, ow);
            const T* first = x + input_cell(g, n, window.h0, window.w0);
            std::uint8_t* at = wants_position ? positions + out : nullptr;
            if (two_by_two && window.cells() == 4)
                max_of_window<wants_position, 2, 2>(g, window, first, line, y + out, at);
            else
                max_of_window<wants_position, 0, 0>(g, window, first, line, y + out, at);
        }
    });
}

/// The windows [first, last) of one axis that hold a cell, for all its cells.
class Cover {
public:
    Cover(std::int64_t cells, std::int64_t windows, std::int64_t window, std::int64_t stride, std::int64_t pad)
        : storage_(Tensor::empty({cells, 2}, DType::i32)) {
        auto* p = storage_.write<std::int32_t>();
        for (std::int64_t i = 0; i < cells; ++i) {
            const std::int64_t after = i + pad - window;  // windows that start at or before it have ended
            p[2 * i] = static_cast<std::int32_t>(after < 0 ? 0 : after / stride + 1);
            p[2 * i + 1] = static_cast<std::int32_t>(std::min((i + pad) / stride + 1, windows));
        }
        ranges_ = p;
    }
    std::int64_t first(std::int64_t i) const { return ranges_[2 * i]; }
    std::int64_t last(std::int64_t i) const { return ranges_[2 * i + 1]; }

private:
    Tensor storage_;
    const std::int32_t* ranges_;
};

/// dx at each cell = the sum over the windows (n, oh, ow) that hold it of term<N>(out, h, w, oh, ow, c).
template <class T, class Term>
void gather(const Pool2dGeometry& g, T* dx, Term&& term) {
    const Cover rows(g.in_h, g.out_h, g.window_h, g.stride_h, g.pad_top);
    const Cover columns(g.in_w, g.out_w, g.window_w, g.stride_w, g.pad_left);
    parallel_items(g.batch * g.in_h, g.in_w * g.channels, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; ++row) {
            const std::int64_t n = row / g.in_h, h = row % g.in_h;
            for (std::int64_t w = 0; w < g.in_w; ++w) {
                T* cell = dx + input_cell(g, n, h, w);
                for_lanes(g.channels, [&]<int N>(std::int64_t c) {
                    using V = typename Pack<N>::Float;
                    V sum{};
                    for (std::int64_t oh = rows.first(h); oh < rows.last(h); ++oh)
                        for (std::int64_t ow = columns.first(w); ow < columns.last(w); ++ow)
                            sum += term.template operator()<N>(output_cell(g, n, oh, ow) + c, h, w, oh, ow);
                    store<V>(cell + c, sum);
                });
            }
        }
    });
}

/// The gradient of one window goes to its maximum, 0 to its other cells.
template <int known_height, int known_width, class T>
[[gnu::always_inline]] inline void scatter_window(const Pool2dGeometry& g, const T* dy, const std::uint8_t* positions,
                                                  std::int64_t line, T* corner) {
    const std::int64_t height = known_height ? known_height : g.window_h,
                       width = known_width ? known_width : g.window_w;
    for_lanes(g.channels, [&]<int N>(std::int64_t c) {
        using V = typename Pack<N>::Float;
        using I = typename Pack<N>::Int;
        const V gradient = load<V>(dy + c);
        const I position = convert<I, N>(load<typename Pack<N>::Byte>(positions + c));
        for (std::int64_t h = 0; h < height; ++h) {
            for (std::int64_t w = 0; w < width; ++w) {
                const I here = splat<I>(static_cast<std::int32_t>(h * width + w));
                store<V>(corner + h * line + w * g.channels + c, position == here ? gradient : V{});
            }
        }
    });
}

/// Windows that tile the input from its corner: each dy and position is read once. What no window holds is 0.
template <class T>
void max_backward_tiles(const Pool2dGeometry& g, const T* dy, const std::uint8_t* positions, T* dx) {
    const std::int64_t line = g.in_w * g.channels, covered = g.out_w * g.window_w * g.channels;
    const bool two_by_two = g.window_h == 2 && g.window_w == 2;
    for_each_output_row(g, [&](std::int64_t n, std::int64_t oh) {
        T* rows = dx + input_cell(g, n, oh * g.window_h, 0);
        std::int64_t out = output_cell(g, n, oh, 0);
        for (std::int64_t ow = 0; ow < g.out_w; ++ow, out += g.channels) {
            T* corner = rows + ow * g.window_w * g.channels;
            if (two_by_two)
                scatter_window<2, 2>(g, dy + out, positions + out, line, corner);
            else
                scatter_window<0, 0>(g, dy + out, positions + out, line, corner);
        }
        const std::int64_t last = oh + 1 == g.out_h ? g.in_h - oh * g.window_h : g.window_h;
        for (std::int64_t h = 0; h < last; ++h) {
            const std::int64_t from = h < g.window_h ? covered : 0;
            std::fill(rows + h * line + from, rows + (h + 1) * line, T{});
        }
    });
}

}  // namespace

void max_pool2d_forward(const Pool2dGeometry& g, const Tensor& x, Tensor& y, Tensor* argmax) {
    constexpr std::string_view who = "max_pool2d_forward";
    dispatch_storage(x, [&](auto zero) {
        using T = decltype(zero);
        const T* px = input<T>(x, who);
        T* py = output<T>(y, who);
        if (argmax)
            max_forward<true>(g, px, py, argmax->write<std::uint8_t>());
        else
            max_forward<false>(g, px, py, nullptr);
    });
}

void max_pool2d_backward(const Pool2dGeometry& g, const Tensor& dy, const Tensor& argmax, Tensor& dx) {
    constexpr std::string_view who = "max_pool2d_backward";
    const std::uint8_t* positions = argmax.read<std::uint8_t>();
    const bool tiles = g.stride_h == g.window_h && g.stride_w == g.window_w && g.pad_top == 0 && g.pad_left == 0 &&
                       g.pad_bottom == 0 && g.pad_right == 0;
    dispatch_storage(dy, [&](auto zero) {
        using T = decltype(zero);
        const T* pdy = input<T>(dy, who);
        T* pdx = output<T>(dx, who);
        if (tiles) return max_backward_tiles(g, pdy, positions, pdx);
        gather(g, pdx, [&]<int N>(std::int64_t out, std::int64_t h, std::int64_t w, std::int64_t oh, std::int64_t ow) {
            using V = typename Pack<N>::Float;
            using I = typename Pack<N>::Int;
            const std::int64_t top = oh * g.stride_h - g.pad_top, left = ow * g.stride_w - g.pad_left;
            const I here = splat<I>(static_cast<std::int32_t>((h - top) * g.window_w + w - left));
            return convert<I, N>(load<typename Pack<N>::Byte>(positions + out)) == here ? load<V>(pdy + out) : V{};
        });
    });
}

void avg_pool2d_forward(const Pool2dGeometry& g, bool include_pad, const Tensor& x, Tensor& y) {
    constexpr std::string_view who = "avg_pool2d_forward";
    dispatch_storage(x, [&](auto zero) {
        using T = decltype(zero);
        const T* px = input<T>(x, who);
        T* py = output<T>(y, who);
        const std::int64_t line = g.in_w * g.channels;
        for_each_output_row(g, [&](std::int64_t n, std::int64_t oh) {
            for (std::int64_t ow = 0; ow < g.out_w; ++ow) {
                const Window window = window_of(g, oh, ow);
                const float divisor = divisor_of(g, window, include_pad);
                const T* first = px + input_cell(g, n, window.h0, window.w0);
                const std::int64_t height = window.h1 - window.h0, width = window.w1 - window.w0,
                                   out = output_cell(g, n, oh, ow);
                for_lanes(g.channels, [&]<int N>(std::int64_t c) {
                    using V = typename Pack<N>::Float;
                    V sum{};
                    for (std::int64_t h = 0; h < height; ++h)
                        for (std::int64_t w = 0; w < width; ++w) sum += load<V>(first + h * line + w * g.channels + c);
                    store<V>(py + out + c, sum / splat<V>(divisor));
                });
            }
        });
    });
}

void avg_pool2d_backward(const Pool2dGeometry& g, bool include_pad, const Tensor& dy, Tensor& dx) {
    constexpr std::string_view who = "avg_pool2d_backward";
    Tensor share = Tensor::empty(dy.shape());  // what each cell of a window receives
    float* each = share.write<float>();
    dispatch_storage(dy, [&](auto zero) {
        using T = decltype(zero);
        const T* pdy = input<T>(dy, who);
        for_each_output_row(g, [&](std::int64_t n, std::int64_t oh) {
            for (std::int64_t ow = 0; ow < g.out_w; ++ow) {
                const float divisor = divisor_of(g, window_of(g, oh, ow), include_pad);
                const std::int64_t out = output_cell(g, n, oh, ow);
#pragma omp simd
                for (std::int64_t c = 0; c < g.channels; ++c)
                    each[out + c] = static_cast<float>(pdy[out + c]) / divisor;
            }
        });
        gather(g, output<T>(dx, who),
               [&]<int N>(std::int64_t out, std::int64_t, std::int64_t, std::int64_t, std::int64_t) {
                   return load<typename Pack<N>::Float>(each + out);
               });
    });
}

}  // namespace bitloom::ops::cpu
