#include <algorithm>

#include "ops/reference/kernels.h"

namespace bitloom::ops::reference {

namespace {

/// The real cells [h0, h1) x [w0, w1) of one window, whose own corner, padding included, is (top, left).
struct Window {
    std::int64_t top, left, h0, h1, w0, w1;
};
Window window_of(const Pool2dGeometry& g, std::int64_t oh, std::int64_t ow) {
    const std::int64_t top = oh * g.stride_h - g.pad_top, left = ow * g.stride_w - g.pad_left;
    return {top,
            left,
            std::max<std::int64_t>(top, 0),
            std::min(top + g.window_h, g.in_h),
            std::max<std::int64_t>(left, 0),
            std::min(left + g.window_w, g.in_w)};
}

std::int64_t divisor_of(const Pool2dGeometry& g, const Window& w, bool include_pad) {
    return include_pad ? g.window_h * g.window_w : (w.h1 - w.h0) * (w.w1 - w.w0);
}

/// Calls f(image, window, first element of the output cell) for every window, images in parallel.
template <class F>
void for_each_window(const Pool2dGeometry& g, F&& f) {
#pragma omp parallel for schedule(static) if (worth_threads(g.batch * g.in_h * g.in_w * g.channels))
    for (std::int64_t n = 0; n < g.batch; ++n)
        for (std::int64_t oh = 0; oh < g.out_h; ++oh)
            for (std::int64_t ow = 0; ow < g.out_w; ++ow)
                f(n, window_of(g, oh, ow), ((n * g.out_h + oh) * g.out_w + ow) * g.channels);
}

std::int64_t input_cell(const Pool2dGeometry& g, std::int64_t n, std::int64_t h, std::int64_t w) {
    return ((n * g.in_h + h) * g.in_w + w) * g.channels;
}

}  // namespace

void max_pool2d_forward(const Pool2dGeometry& g, const Tensor& x, Tensor& y, Tensor* argmax) {
    dispatch_float(x.dtype(), "max_pool2d_forward", [&](auto type) {
        using T = decltype(type);
        const T* px = x.read<T>();
        T* py = y.write<T>();
        std::uint8_t* positions = argmax ? argmax->write<std::uint8_t>() : nullptr;
        for_each_window(g, [&](std::int64_t n, const Window& window, std::int64_t out) {
            for (std::int64_t c = 0; c < g.channels; ++c) {
                std::int64_t best_h = window.h0, best_w = window.w0;
                T best = px[input_cell(g, n, best_h, best_w) + c];
                for (std::int64_t h = window.h0; h < window.h1; ++h) {
                    for (std::int64_t w = window.w0; w < window.w1; ++w) {
                        const T value = px[input_cell(g, n, h, w) + c];
                        if (value > best) best = value, best_h = h, best_w = w;
                    }
                }
                py[out + c] = best;
                const std::int64_t position = (best_h - window.top) * g.window_w + best_w - window.left;
                if (positions) positions[out + c] = static_cast<std::uint8_t>(position);
            }
        });
    });
}

void max_pool2d_backward(const Pool2dGeometry& g, const Tensor& dy, const Tensor& argmax, Tensor& dx) {
    dispatch_float(dy.dtype(), "max_pool2d_backward", [&](auto type) {
        using T = decltype(type);
        const T* pdy = dy.read<T>();
        const std::uint8_t* positions = argmax.read<std::uint8_t>();
        T* pdx = dx.write<T>();
        std::fill_n(pdx, dx.numel(), T(0));
        for_each_window(g, [&](std::int64_t n, const Window& window, std::int64_t out) {
            for (std::int64_t c = 0; c < g.channels; ++c) {
                const std::int64_t h = window.top + positions[out + c] / g.window_w;
                const std::int64_t w = window.left + positions[out + c] % g.window_w;
                pdx[input_cell(g, n, h, w) + c] += pdy[out + c];
            }
        });
    });
}

void avg_pool2d_forward(const Pool2dGeometry& g, bool include_pad, const Tensor& x, Tensor& y) {
    dispatch_float(x.dtype(), "avg_pool2d_forward", [&](auto type) {
        using T = decltype(type);
        const T* px = x.read<T>();
        T* py = y.write<T>();
        for_each_window(g, [&](std::int64_t n, const Window& window, std::int64_t out) {
            const T divisor = static_cast<T>(divisor_of(g, window, include_pad));
            for (std::int64_t c = 0; c < g.channels; ++c) {
                T sum = 0;
                for (std::int64_t h = window.h0; h < window.h1; ++h)
                    for (std::int64_t w = window.w0; w < window.w1; ++w) sum += px[input_cell(g, n, h, w) + c];
                py[out + c] = sum / divisor;
            }
        });
    });
}

void avg_pool2d_backward(const Pool2dGeometry& g, bool include_pad, const Tensor& dy, Tensor& dx) {
    dispatch_float(dy.dtype(), "avg_pool2d_backward", [&](auto type) {
        using T = decltype(type);
        const T* pdy = dy.read<T>();
        T* pdx = dx.write<T>();
        std::fill_n(pdx, dx.numel(), T(0));
        for_each_window(g, [&](std::int64_t n, const Window& window, std::int64_t out) {
            const T divisor = static_cast<T>(divisor_of(g, window, include_pad));
            for (std::int64_t h = window.h0; h < window.h1; ++h)
                for (std::int64_t w = window.w0; w < window.w1; ++w)
                    for (std::int64_t c = 0; c < g.channels; ++c)
                        pdx[input_cell(g, n, h, w) + c] += pdy[out + c] / divisor;
        });
    });
}

}  // namespace bitloom::ops::reference
