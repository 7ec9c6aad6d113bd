#pragma once
// The three passes of a convolution as products for gemm_tile.cuh. `vectorised` where the channels of a group are whole
// quads and all addresses aligned: then the four elements of a quad lie side by side.

#include "cuda/ops/conv_shape.cuh"
#include "cuda/ops/gemm_tile.cuh"

namespace bitloom::cuda {

/// A position of the filter and a channel, as offsets from a window's corner.
struct Tap {
    int h, w, channel;
};
/// The taps of a quad: one where its elements are neighbouring channels, else one an element.
template <bool vectorised>
struct Taps {
    Tap at[vectorised ? 1 : 4];
};

/// A window's corner in an image.
template <class T>
struct Corner {
    const T* image;
    int h, w;
};

/// What `make(i)` gives for each tap of a quad.
template <bool vectorised, class Make>
__device__ __forceinline__ Taps<vectorised> make_taps(Make&& make) {
    Taps<vectorised> taps;
#pragma unroll
    for (int j = 0; j < (vectorised ? 1 : 4); ++j) taps.at[j] = make(j);
    return taps;
}

/// The quad of an NHWC map at a window's corner, zero where it lies outside.
template <bool vectorised, class T>
__device__ __forceinline__ Quad<T> gather(const Corner<T>& corner, const Taps<vectorised>& taps, int height, int width,
                                          int channels) {
    Quad<T> quad{};
    const auto inside = [&](int h, int w) {
        return static_cast<unsigned>(h) < static_cast<unsigned>(height) && static_cast<unsigned>(w) < static_cast<unsigned>(width);
    };
    if constexpr (vectorised) {
        const int h = corner.h + taps.at[0].h, w = corner.w + taps.at[0].w;
        if (inside(h, w)) quad = load_pack<4>(corner.image + (h * width + w) * channels + taps.at[0].channel);
    } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            const int h = corner.h + taps.at[j].h, w = corner.w + taps.at[j].w;
            if (inside(h, w)) quad.at[j] = corner.image[(h * width + w) * channels + taps.at[j].channel];
        }
    }
    return quad;
}

/// `count` of the elements from `source` on, the others zero; all four at once where they are there and aligned.
template <bool vectorised, class T>
__device__ __forceinline__ Quad<T> load_some(const T* source, int count) {
    Quad<T> quad{};
    if constexpr (vectorised) {
        if (count > 0) quad = load_pack<4>(source);
    } else {
#pragma unroll
        for (int j = 0; j < 4; ++j)
            if (j < count) quad.at[j] = source[j];
    }
    return quad;
}

/// Stores the first `inside` of the values, all at once where they are aligned.
template <int count, class T>
__device__ __forceinline__ void store_some(T* target, const float (&values)[count], int inside, bool vectorised) {
    if (vectorised && inside >= count) {
        store_narrow(target, values);
    } else {
#pragma unroll
        for (int j = 0; j < count; ++j)
            if (j < inside) target[j] = narrow<T>(values[j]);
    }
}

/// y = epilogue(conv(x) [+ bias] [+ residual]): rows are output pixels, columns output channels, the depth is the filter.
template <class T, bool vectorised>
struct ForwardPass {
    using AElement = T;
    using BElement = float;
    static constexpr bool a_along_depth = true, b_along_depth = true;

    ConvShape s;
    const T* x;
    const float* weight;
    const float* bias;
    const T* residual;
    T* y;
    bool relu, vector_store;

    struct Block {
        int group, rows, columns, depth_first, depth_last;
    };
    __device__ Block block() const {
        return {static_cast<int>(blockIdx.z), s.batch * s.out_h * s.out_w, s.out_group, 0, s.taps() * s.in_group};
    }
    __device__ Corner<T> a_row(const Block& b, int m) const {
        if (m >= b.rows) return {x, far_outside, far_outside};
        const int image = s.by_out_area.divide(m), h = s.by_out_w.divide(m);
        return {x + static_cast<std::int64_t>(image) * s.in_h * s.in_w * s.in_c + b.group * s.in_group,
                h * s.stride_h - s.pad_top, m * s.stride_w - s.pad_left};
    }
    __device__ Taps<vectorised> a_depth(const Block& b, int k) const {
        return make_taps<vectorised>([&](int j) -> Tap {
            int channel = k + j;
            if (channel >= b.depth_last) return {far_outside, far_outside, 0};
            int tap = s.by_in_group.divide(channel);
            const int h = s.by_kernel_w.divide(tap);
            return {h * s.dilation_h, tap * s.dilation_w, channel};
        });
    }
    __device__ Quad<T> a(const Corner<T>& corner, const Taps<vectorised>& taps) const {
        return gather<vectorised>(corner, taps, s.in_h, s.in_w, s.in_c);
    }
    __device__ const float* b_row(const Block& b, int n) const {
        return n < b.columns ? weight + static_cast<std::int64_t>(b.group * s.out_group + n) * b.depth_last : nullptr;
    }
    struct FilterDepth {
        int k, count;
    };
    __device__ FilterDepth b_depth(const Block& b, int k) const { return {k, b.depth_last - k}; }
    __device__ Quad<float> b(const float* filter, FilterDepth at) const {
        return filter ? load_some<vectorised>(filter + at.k, at.count) : Quad<float>{};
    }
    template <int count>
    __device__ void store(const Block& b, int m, int n, const float (&sums)[count]) const {
        if (m >= b.rows || n >= b.columns) return;
        const int channel = b.group * s.out_group + n, inside = b.columns - n;
        const std::int64_t at = static_cast<std::int64_t>(m) * s.out_c + channel;
        float values[count];
#pragma unroll
        for (int j = 0; j < count; ++j) {
            values[j] = sums[j];
            if (j >= inside) continue;
            if (bias) values[j] += bias[channel + j];
            if (residual) values[j] += widen(residual[at + j]);
            if (relu) values[j] = values[j] < 0 ? 0.0f : values[j];
        }
        store_some(y + at, values, inside, vector_store);
    }
};

/// dx: rows are input pixels, columns input channels, the depth runs over taps and output channels. With strides the pixels
/// fall into stride_h x stride_w phases, each of which meets its own part of the filter and is a product of its own.
template <class T, bool vectorised>
struct DataPass {
    using AElement = T;
    using BElement = float;
    static constexpr bool a_along_depth = true, b_along_depth = false;

    ConvShape s;
    const T* dy;
    const float* weight;
    T* dx;

    /// One axis of a phase: its pixels are first_pixel + stride i; tap first + step t meets output cell i + cell(t).
    struct Axis {
        int first_pixel, pixels, first, step, taps;
    };
    struct Block {
        int group, rows, columns, depth_first, depth_last;
        Axis h, w;
    };
    __device__ static Axis axis_of(int phase, int extent, int stride, int pad, int dilation, int kernel) {
        // Taps k with (phase + pad - k dilation) % stride == 0: every step-th from the first on.
        int first = 0, step = 1;
        while (first < kernel && (phase + pad - first * dilation) % stride != 0) ++first;
        while (step * dilation % stride != 0) ++step;
        return {phase, (extent - phase + stride - 1) / stride, first, step, first < kernel ? (kernel - first + step - 1) / step : 0};
    }
    __device__ Block block() const {
        int phase = static_cast<int>(blockIdx.z);
        const int group = phase % s.groups;
        phase /= s.groups;
        const Axis h = axis_of(phase / s.stride_w, s.in_h, s.stride_h, s.pad_top, s.dilation_h, s.kernel_h);
        const Axis w = axis_of(phase % s.stride_w, s.in_w, s.stride_w, s.pad_left, s.dilation_w, s.kernel_w);
        return {group, max(0, s.batch * h.pixels * w.pixels), s.in_group, 0, h.taps * w.taps * s.out_group, h, w};
    }
    __device__ Corner<T> a_row(const Block& b, int m) const {
        if (m >= b.rows) return {dy, far_outside, far_outside};
        const int area = b.h.pixels * b.w.pixels, image = m / area, pixel = m % area;
        return {dy + static_cast<std::int64_t>(image) * s.out_h * s.out_w * s.out_c + b.group * s.out_group,
                pixel / b.w.pixels, pixel % b.w.pixels};
    }
    /// The filter's position of tap number `tap` of the phase.
    __device__ Tap position(const Block& b, int tap) const {
        return {b.h.first + b.h.step * (tap / b.w.taps), b.w.first + b.w.step * (tap % b.w.taps), 0};
    }
    __device__ Taps<vectorised> a_depth(const Block& b, int k) const {
        return make_taps<vectorised>([&](int j) -> Tap {
            int channel = k + j;
            if (channel >= b.depth_last) return {far_outside, far_outside, 0};
            const Tap tap = position(b, s.by_out_group.divide(channel));
            return {(b.h.first_pixel + s.pad_top - tap.h * s.dilation_h) / s.stride_h,
                    (b.w.first_pixel + s.pad_left - tap.w * s.dilation_w) / s.stride_w, channel};
        });
    }
    __device__ Quad<T> a(const Corner<T>& corner, const Taps<vectorised>& taps) const {
        return gather<vectorised>(corner, taps, s.out_h, s.out_w, s.out_c);
    }
    struct Columns {
        int first, count;
    };
    __device__ Columns b_row(const Block& b, int n) const { return {n, b.columns - n}; }
    __device__ const float* b_depth(const Block& b, int k) const {
        if (k >= b.depth_last) return nullptr;
        const Tap tap = position(b, s.by_out_group.divide(k));
        return weight + ((static_cast<std::int64_t>(b.group * s.out_group + k) * s.kernel_h + tap.h) * s.kernel_w + tap.w) * s.in_group;
    }
    __device__ Quad<float> b(Columns columns, const float* taps) const {
        return taps ? load_some<vectorised>(taps + columns.first, columns.count) : Quad<float>{};
    }
    template <int count>
    __device__ void store(const Block& b, int m, int n, const float (&sums)[count]) const {
        if (m >= b.rows || n >= b.columns) return;
        const int area = b.h.pixels * b.w.pixels, image = m / area, pixel = m % area;
        const int h = b.h.first_pixel + s.stride_h * (pixel / b.w.pixels), w = b.w.first_pixel + s.stride_w * (pixel % b.w.pixels);
        const std::int64_t at = ((static_cast<std::int64_t>(image) * s.in_h + h) * s.in_w + w) * s.in_c + b.group * s.in_group + n;
        store_some(dx + at, sums, b.columns - n, vectorised);
    }
};

/// Parts of dweight: rows are the filter's cells, columns output channels, the depth a run of output pixels. Part r of the
/// pixels goes to partial[r][group][cell][channel]; the parts are summed in order afterwards.
template <class T, bool vectorised>
struct WeightPass {
    using AElement = T;
    using BElement = T;
    static constexpr bool a_along_depth = false, b_along_depth = false;

    ConvShape s;
    const T* x;
    const T* dy;
    float* partial;
    int run;  ///< pixels of a part

    struct Block {
        int group, rows, columns, depth_first, depth_last, product;
    };
    __device__ Block block() const {
        int part = static_cast<int>(blockIdx.z);
        const int group = part % s.groups;
        part /= s.groups;
        const int first = part * run;
        return {group, s.taps() * s.in_group, s.out_group, first, min(first + run, s.batch * s.out_h * s.out_w),
                static_cast<int>(blockIdx.z)};
    }
    __device__ Taps<vectorised> a_row(const Block& b, int m) const {
        return make_taps<vectorised>([&](int j) -> Tap {
            int channel = m + j;
            if (channel >= b.rows) return {far_outside, far_outside, 0};
            int tap = s.by_in_group.divide(channel);
            const int h = s.by_kernel_w.divide(tap);
            return {h * s.dilation_h - s.pad_top, tap * s.dilation_w - s.pad_left, channel + b.group * s.in_group};
        });
    }
    __device__ Corner<T> a_depth(const Block& b, int k) const {
        if (k >= b.depth_last) return {x, far_outside, far_outside};
        const int image = s.by_out_area.divide(k), h = s.by_out_w.divide(k);
        return {x + static_cast<std::int64_t>(image) * s.in_h * s.in_w * s.in_c, h * s.stride_h, k * s.stride_w};
    }
    __device__ Quad<T> a(const Taps<vectorised>& taps, const Corner<T>& corner) const {
        return gather<vectorised>(corner, taps, s.in_h, s.in_w, s.in_c);
    }
    struct Channels {
        int first, count;
    };
    __device__ Channels b_row(const Block& b, int n) const { return {b.group * s.out_group + n, b.columns - n}; }
    __device__ const T* b_depth(const Block& b, int k) const {
        return k < b.depth_last ? dy + static_cast<std::int64_t>(k) * s.out_c : nullptr;
    }
    __device__ Quad<T> b(Channels channels, const T* pixel) const {
        return pixel ? load_some<vectorised>(pixel + channels.first, channels.count) : Quad<T>{};
    }
    template <int count>
    __device__ void store(const Block& b, int m, int n, const float (&sums)[count]) const {
        if (m >= b.rows || n >= b.columns) return;
        const std::int64_t at = (static_cast<std::int64_t>(b.product) * b.rows + m) * b.columns + n;
        store_some(partial + at, sums, b.columns - n, vectorised);
    }
};

}  // namespace bitloom::cuda
