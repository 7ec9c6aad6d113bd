// Direct convolution. Padding cells are skipped, since a zero adds nothing.

#include <algorithm>

#include "ops/reference/kernels.h"

namespace bitloom::ops::reference {

namespace {

/// The kernel positions k of one axis that meet a real cell: start + k * dilation in [0, n).
struct Taps {
    std::int64_t first, last;
};
Taps taps_inside(std::int64_t start, std::int64_t n, std::int64_t kernel, std::int64_t dilation) {
    const std::int64_t first = start < 0 ? (-start + dilation - 1) / dilation : 0;
    const std::int64_t last = start < n ? std::min(kernel, (n - start + dilation - 1) / dilation) : 0;
    return {first, std::max(first, last)};
}

std::int64_t multiplications(const Conv2dGeometry& g) {
    return g.batch * g.out_h * g.out_w * g.out_c * g.kernel_h * g.kernel_w * (g.in_c / g.groups);
}

template <class T>
void forward(const Conv2dGeometry& g, const T* x, const T* w, const T* bias, T* y, const T* residual = nullptr,
             bool relu = false) {
    const std::int64_t in_per_group = g.in_c / g.groups, out_per_group = g.out_c / g.groups;
#pragma omp parallel for schedule(static) if (worth_threads(multiplications(g)))
    for (std::int64_t row = 0; row < g.batch * g.out_h; ++row) {
        const std::int64_t n = row / g.out_h, start_h = row % g.out_h * g.stride_h - g.pad_top;
        const Taps th = taps_inside(start_h, g.in_h, g.kernel_h, g.dilation_h);
        for (std::int64_t ow = 0; ow < g.out_w; ++ow) {
            const std::int64_t start_w = ow * g.stride_w - g.pad_left;
            const Taps tw = taps_inside(start_w, g.in_w, g.kernel_w, g.dilation_w);
            for (std::int64_t o = 0; o < g.out_c; ++o) {
                T sum = 0;
                for (std::int64_t kh = th.first; kh < th.last; ++kh) {
                    for (std::int64_t kw = tw.first; kw < tw.last; ++kw) {
                        const std::int64_t ih = start_h + kh * g.dilation_h, iw = start_w + kw * g.dilation_w;
                        const T* cell =
                            x + ((n * g.in_h + ih) * g.in_w + iw) * g.in_c + o / out_per_group * in_per_group;
                        const T* taps = w + ((o * g.kernel_h + kh) * g.kernel_w + kw) * in_per_group;
                        for (std::int64_t i = 0; i < in_per_group; ++i) sum += cell[i] * taps[i];
                    }
                }
                const std::int64_t at = (row * g.out_w + ow) * g.out_c + o;
                if (bias) sum += bias[o];
                if (residual) sum += residual[at];
                y[at] = relu && sum < 0 ? T(0) : sum;
            }
        }
    }
}

/// Each input cell gathers from the output cells whose windows hold it.
template <class T>
void backward_data(const Conv2dGeometry& g, const T* dy, const T* w, T* dx) {
    const std::int64_t in_per_group = g.in_c / g.groups, out_per_group = g.out_c / g.groups;
#pragma omp parallel for schedule(static) if (worth_threads(multiplications(g)))
    for (std::int64_t row = 0; row < g.batch * g.in_h; ++row) {
        const std::int64_t n = row / g.in_h, ih = row % g.in_h;
        std::fill_n(dx + row * g.in_w * g.in_c, g.in_w * g.in_c, T(0));
        for (std::int64_t iw = 0; iw < g.in_w; ++iw) {
            T* cell = dx + (row * g.in_w + iw) * g.in_c;
            for (std::int64_t kh = 0; kh < g.kernel_h; ++kh) {
                const std::int64_t from_h = ih + g.pad_top - kh * g.dilation_h, oh = from_h / g.stride_h;
                if (from_h < 0 || from_h % g.stride_h != 0 || oh >= g.out_h) continue;
                for (std::int64_t kw = 0; kw < g.kernel_w; ++kw) {
                    const std::int64_t from_w = iw + g.pad_left - kw * g.dilation_w, ow = from_w / g.stride_w;
                    if (from_w < 0 || from_w % g.stride_w != 0 || ow >= g.out_w) continue;
                    const T* gradients = dy + ((n * g.out_h + oh) * g.out_w + ow) * g.out_c;
                    for (std::int64_t o = 0; o < g.out_c; ++o) {
                        T* target = cell + o / out_per_group * in_per_group;
                        const T* taps = w + ((o * g.kernel_h + kh) * g.kernel_w + kw) * in_per_group;
                        for (std::int64_t i = 0; i < in_per_group; ++i) target[i] += gradients[o] * taps[i];
                    }
                }
            }
        }
    }
}

template <class T>
void backward_weights(const Conv2dGeometry& g, const T* x, const T* dy, T* dw, T* db) {
    const std::int64_t in_per_group = g.in_c / g.groups, out_per_group = g.out_c / g.groups;
    const std::int64_t filter = g.kernel_h * g.kernel_w * in_per_group;
#pragma omp parallel for schedule(static) if (worth_threads(multiplications(g)))
    for (std::int64_t o = 0; o < g.out_c; ++o) {
        T* taps = dw + o * filter;
        std::fill_n(taps, filter, T(0));
        T bias_sum = 0;
        for (std::int64_t row = 0; row < g.batch * g.out_h; ++row) {
            const std::int64_t n = row / g.out_h, start_h = row % g.out_h * g.stride_h - g.pad_top;
            const Taps th = taps_inside(start_h, g.in_h, g.kernel_h, g.dilation_h);
            for (std::int64_t ow = 0; ow < g.out_w; ++ow) {
                const std::int64_t start_w = ow * g.stride_w - g.pad_left;
                const Taps tw = taps_inside(start_w, g.in_w, g.kernel_w, g.dilation_w);
                const T gradient = dy[(row * g.out_w + ow) * g.out_c + o];
                bias_sum += gradient;
                for (std::int64_t kh = th.first; kh < th.last; ++kh) {
                    for (std::int64_t kw = tw.first; kw < tw.last; ++kw) {
                        const std::int64_t ih = start_h + kh * g.dilation_h, iw = start_w + kw * g.dilation_w;
                        const T* cell =
                            x + ((n * g.in_h + ih) * g.in_w + iw) * g.in_c + o / out_per_group * in_per_group;
                        T* target = taps + (kh * g.kernel_w + kw) * in_per_group;
                        for (std::int64_t i = 0; i < in_per_group; ++i) target[i] += gradient * cell[i];
                    }
                }
            }
        }
        if (db) db[o] = bias_sum;
    }
}

}  // namespace

void conv2d_forward(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    dispatch_float(x.dtype(), "conv2d_forward", [&](auto type) {
        using T = decltype(type);
        forward<T>(g, x.read<T>(), weight.read<T>(), bias ? bias->read<T>() : nullptr, y.write<T>());
    });
}

void conv2d_inference(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias,
                      const Tensor* residual, NormEpilogue epilogue, Tensor& y) {
    dispatch_float(x.dtype(), "conv2d_inference", [&](auto type) {
        using T = decltype(type);
        forward<T>(g, x.read<T>(), weight.read<T>(), bias ? bias->read<T>() : nullptr, y.write<T>(),
                   residual ? residual->read<T>() : nullptr, epilogue == NormEpilogue::relu);
    });
}

void conv2d_backward_data(const Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx) {
    dispatch_float(dy.dtype(), "conv2d_backward_data", [&](auto type) {
        using T = decltype(type);
        backward_data<T>(g, dy.read<T>(), weight.read<T>(), dx.write<T>());
    });
}

void conv2d_backward_weights(const Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight,
                             Tensor* dbias) {
    dispatch_float(x.dtype(), "conv2d_backward_weights", [&](auto type) {
        using T = decltype(type);
        backward_weights<T>(g, x.read<T>(), dy.read<T>(), dweight.write<T>(), dbias ? dbias->write<T>() : nullptr);
    });
}

}  // namespace bitloom::ops::reference
