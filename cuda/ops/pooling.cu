// Pooling in NHWC. The gradients gather: each input cell visits the windows that hold it, in row-major order, so that sums
// have one order and need no atomics.

#include "cuda/ops/elements.cuh"
#include "cuda/ops/kernels.h"

namespace bitloom::cuda {

namespace {

/// Pool2dGeometry in 32 bits, channels counted in packs.
struct Pool {
    int in_h, in_w, out_h, out_w, window_h, window_w, stride_h, stride_w, pad_top, pad_left;
    int packs;  ///< of channels
};

struct Window {
    int top, left, h0, h1, w0, w1;  ///< its own corner, padding included, and its real cells
};
__device__ __forceinline__ Window window_of(const Pool& g, int oh, int ow) {
    const int top = oh * g.stride_h - g.pad_top, left = ow * g.stride_w - g.pad_left;
    return {top, left, max(top, 0), min(top + g.window_h, g.in_h), max(left, 0), min(left + g.window_w, g.in_w)};
}
__device__ __forceinline__ float divisor_of(const Pool& g, const Window& w, bool include_pad) {
    return static_cast<float>(include_pad ? g.window_h * g.window_w : (w.h1 - w.h0) * (w.w1 - w.w0));
}

/// A pack of channels of one cell of a map.
struct Cell {
    std::int64_t image;
    int h, w, pack;
};
__device__ __forceinline__ Cell cell_of(std::int64_t i, int height, int width, int packs) {
    const std::int64_t cell = i / packs, row = cell / width;
    return {row / height, static_cast<int>(row % height), static_cast<int>(cell % width), static_cast<int>(i % packs)};
}
/// First element of the pack in a map.
template <int width>
__device__ __forceinline__ std::int64_t element(const Cell& at, int map_h, int map_w, int h, int w, int packs) {
    return (((at.image * map_h + h) * map_w + w) * packs + at.pack) * width;
}

/// The windows [first, last) of one axis that hold cell `i`.
struct Holders {
    int first, last;
};
__device__ __forceinline__ Holders holders_of(int i, int pad, int window, int stride, int out) {
    const int above = i + pad - window;  // the last window start that ends before the cell
    return {above < 0 ? 0 : above / stride + 1, min((i + pad) / stride + 1, out)};
}

template <int width, class T>
__global__ void max_pool_kernel(std::int64_t n, Pool g, const T* x, T* y, std::uint8_t* argmax) {
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        const Cell at = cell_of(i, g.out_h, g.out_w, g.packs);
        const Window window = window_of(g, at.h, at.w);
        float best[width] = {}, value[width];
        int position[width] = {};
        bool first = true;
        for (int h = window.h0; h < window.h1; ++h) {
            for (int w = window.w0; w < window.w1; ++w) {
                load_wide(x + element<width>(at, g.in_h, g.in_w, h, w, g.packs), value);
                const int here = (h - window.top) * g.window_w + w - window.left;
#pragma unroll
                for (int k = 0; k < width; ++k) {
                    if (!first && !(value[k] > best[k])) continue;
                    best[k] = value[k];
                    position[k] = here;
                }
                first = false;
            }
        }
        store_narrow(y + i * width, best);
        if (!argmax) continue;
        Pack<std::uint8_t, width> positions;
#pragma unroll
        for (int k = 0; k < width; ++k) positions.at[k] = static_cast<std::uint8_t>(position[k]);
        store_pack<width>(argmax + i * width, positions);
    }
}

template <int width, class T>
__global__ void max_pool_backward_kernel(std::int64_t n, Pool g, const T* dy, const std::uint8_t* argmax, T* dx) {
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        const Cell at = cell_of(i, g.in_h, g.in_w, g.packs);
        const Holders rows = holders_of(at.h, g.pad_top, g.window_h, g.stride_h, g.out_h);
        const Holders columns = holders_of(at.w, g.pad_left, g.window_w, g.stride_w, g.out_w);
        float sum[width] = {};
        for (int oh = rows.first; oh < rows.last; ++oh) {
            for (int ow = columns.first; ow < columns.last; ++ow) {
                const int here = (at.h - (oh * g.stride_h - g.pad_top)) * g.window_w + at.w - (ow * g.stride_w - g.pad_left);
                const std::int64_t from = element<width>(at, g.out_h, g.out_w, oh, ow, g.packs);
                const Pack<std::uint8_t, width> positions = load_pack<width>(argmax + from);
                float gradient[width];
                load_wide(dy + from, gradient);
#pragma unroll
                for (int k = 0; k < width; ++k) sum[k] += positions.at[k] == here ? gradient[k] : 0.0f;
            }
        }
        store_narrow(dx + i * width, sum);
    }
}

template <int width, class T>
__global__ void avg_pool_kernel(std::int64_t n, Pool g, bool include_pad, const T* x, T* y) {
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        const Cell at = cell_of(i, g.out_h, g.out_w, g.packs);
        const Window window = window_of(g, at.h, at.w);
        float sum[width] = {}, value[width];
        for (int h = window.h0; h < window.h1; ++h) {
            for (int w = window.w0; w < window.w1; ++w) {
                load_wide(x + element<width>(at, g.in_h, g.in_w, h, w, g.packs), value);
#pragma unroll
                for (int k = 0; k < width; ++k) sum[k] += value[k];
            }
        }
        const float divisor = divisor_of(g, window, include_pad);
#pragma unroll
        for (int k = 0; k < width; ++k) sum[k] /= divisor;
        store_narrow(y + i * width, sum);
    }
}

template <int width, class T>
__global__ void avg_pool_backward_kernel(std::int64_t n, Pool g, bool include_pad, const T* dy, T* dx) {
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        const Cell at = cell_of(i, g.in_h, g.in_w, g.packs);
        const Holders rows = holders_of(at.h, g.pad_top, g.window_h, g.stride_h, g.out_h);
        const Holders columns = holders_of(at.w, g.pad_left, g.window_w, g.stride_w, g.out_w);
        float sum[width] = {}, gradient[width];
        for (int oh = rows.first; oh < rows.last; ++oh) {
            for (int ow = columns.first; ow < columns.last; ++ow) {
                const float divisor = divisor_of(g, window_of(g, oh, ow), include_pad);
                load_wide(dy + element<width>(at, g.out_h, g.out_w, oh, ow, g.packs), gradient);
#pragma unroll
                for (int k = 0; k < width; ++k) sum[k] += gradient[k] / divisor;
            }
        }
        store_narrow(dx + i * width, sum);
    }
}

/// Calls f(width as a constant, geometry) with packs as wide as channels and addresses allow.
template <class T, class F, class... Pointers>
void dispatch_width(const Pool2dGeometry& p, F&& f, const std::uint8_t* positions, const Pointers*... pointers) {
    constexpr int wide = pack_width<T>;
    const bool vectorised = p.channels % wide == 0 && aligned_to(16, pointers...) && aligned_to(wide, positions);
    const auto narrowed = [](std::int64_t v) { return static_cast<int>(v); };
    const Pool g{narrowed(p.in_h),     narrowed(p.in_w),     narrowed(p.out_h),    narrowed(p.out_w),
                 narrowed(p.window_h), narrowed(p.window_w), narrowed(p.stride_h), narrowed(p.stride_w),
                 narrowed(p.pad_top),  narrowed(p.pad_left), narrowed(p.channels / (vectorised ? wide : 1))};
    if (vectorised)
        f(std::integral_constant<int, wide>{}, g);
    else
        f(std::integral_constant<int, 1>{}, g);
}

std::int64_t inputs(const Pool2dGeometry& p, const Pool& g) { return p.batch * p.in_h * p.in_w * g.packs; }
std::int64_t outputs(const Pool2dGeometry& p, const Pool& g) { return p.batch * p.out_h * p.out_w * g.packs; }

}  // namespace

void max_pool2d_forward(const Pool2dGeometry& p, const Tensor& x, Tensor& y, Tensor* argmax) {
    dispatch_activation(x.dtype(), "max_pool2d_forward", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        T* out = y.write<T>();
        std::uint8_t* positions = write_if<std::uint8_t>(argmax);
        dispatch_width<T>(
            p,
            [&](auto width, const Pool& g) {
                const std::int64_t n = outputs(p, g);
                launch(x.device(), max_pool_kernel<width.value, T>, blocks_for(x.device(), n, threads_per_block),
                       threads_per_block, 0, n, g, in, out, positions);
            },
            positions, in, out);
    });
}

void max_pool2d_backward(const Pool2dGeometry& p, const Tensor& dy, const Tensor& argmax, Tensor& dx) {
    dispatch_activation(dy.dtype(), "max_pool2d_backward", [&](auto zero) {
        using T = decltype(zero);
        const T* in = dy.read<T>();
        T* out = dx.write<T>();
        const std::uint8_t* positions = argmax.read<std::uint8_t>();
        dispatch_width<T>(
            p,
            [&](auto width, const Pool& g) {
                const std::int64_t n = inputs(p, g);
                launch(dy.device(), max_pool_backward_kernel<width.value, T>,
                       blocks_for(dy.device(), n, threads_per_block), threads_per_block, 0, n, g, in, positions, out);
            },
            positions, in, out);
    });
}

void avg_pool2d_forward(const Pool2dGeometry& p, bool include_pad, const Tensor& x, Tensor& y) {
    dispatch_activation(x.dtype(), "avg_pool2d_forward", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        T* out = y.write<T>();
        dispatch_width<T>(
            p,
            [&](auto width, const Pool& g) {
                const std::int64_t n = outputs(p, g);
                launch(x.device(), avg_pool_kernel<width.value, T>, blocks_for(x.device(), n, threads_per_block),
                       threads_per_block, 0, n, g, include_pad, in, out);
            },
            nullptr, in, out);
    });
}

void avg_pool2d_backward(const Pool2dGeometry& p, bool include_pad, const Tensor& dy, Tensor& dx) {
    dispatch_activation(dy.dtype(), "avg_pool2d_backward", [&](auto zero) {
        using T = decltype(zero);
        const T* in = dy.read<T>();
        T* out = dx.write<T>();
        dispatch_width<T>(
            p,
            [&](auto width, const Pool& g) {
                const std::int64_t n = inputs(p, g);
                launch(dy.device(), avg_pool_backward_kernel<width.value, T>,
                       blocks_for(dy.device(), n, threads_per_block), threads_per_block, 0, n, g, include_pad, in, out);
            },
            nullptr, in, out);
    });
}

}  // namespace bitloom::cuda
