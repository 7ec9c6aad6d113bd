#include "cuda/ops/im2col.h"

#include "cuda/matrix.h"
#include "cuda/ops/conv_shape.cuh"
#include "cuda/ops/elements.cuh"

namespace bitloom::cuda::im2col {

namespace {

using ops::Conv2dGeometry;
using ops::NormEpilogue;

/// windows[pixel][tap][channel] of one group, for the output pixels [first, first + pixels); zero where padding is.
template <class T>
__global__ void gather_windows_kernel(ConvShape s, int group, int first, std::int64_t n, const T* x, T* windows) {
    const int depth = s.taps() * s.in_group;
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        int channel = static_cast<int>(i % depth), pixel = first + static_cast<int>(i / depth);
        int tap = s.by_in_group.divide(channel);
        const int kh = s.by_kernel_w.divide(tap), image = s.by_out_area.divide(pixel), oh = s.by_out_w.divide(pixel);
        const int h = oh * s.stride_h - s.pad_top + kh * s.dilation_h, w = pixel * s.stride_w - s.pad_left + tap * s.dilation_w;
        const bool inside = h >= 0 && h < s.in_h && w >= 0 && w < s.in_w;
        windows[i] = inside ? x[((static_cast<std::int64_t>(image) * s.in_h + h) * s.in_w + w) * s.in_c + group * s.in_group + channel]
                            : narrow<T>(0.0f);
    }
}

/// dx of one group for the images of the windows: each input cell sums what the windows that hold it got, in the order of
/// taps. `first_image` counts images, `windows` starts with that image's.
template <class T>
__global__ void sum_windows_kernel(ConvShape s, int group, int first_image, std::int64_t n, const float* windows, T* dx) {
    const int depth = s.taps() * s.in_group;
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        const int channel = static_cast<int>(i % s.in_group);
        const std::int64_t cell = i / s.in_group;
        const int w = static_cast<int>(cell % s.in_w), h = static_cast<int>(cell / s.in_w % s.in_h);
        const std::int64_t image = cell / s.in_w / s.in_h;
        float sum = 0;
        for (int kh = 0; kh < s.kernel_h; ++kh) {
            const int from_h = h + s.pad_top - kh * s.dilation_h;
            if (from_h < 0 || from_h % s.stride_h != 0 || from_h / s.stride_h >= s.out_h) continue;
            for (int kw = 0; kw < s.kernel_w; ++kw) {
                const int from_w = w + s.pad_left - kw * s.dilation_w;
                if (from_w < 0 || from_w % s.stride_w != 0 || from_w / s.stride_w >= s.out_w) continue;
                const std::int64_t pixel = (image * s.out_h + from_h / s.stride_h) * s.out_w + from_w / s.stride_w;
                sum += windows[pixel * depth + (kh * s.kernel_w + kw) * s.in_group + channel];
            }
        }
        dx[(first_image * static_cast<std::int64_t>(s.in_h) * s.in_w + cell) * s.in_c + group * s.in_group + channel] = narrow<T>(sum);
    }
}

/// y = epilogue(product [+ bias] [+ residual])
template <class T>
__global__ void epilogue_kernel(std::int64_t n, const float* product, const float* bias,
                                const T* residual, bool relu, std::int64_t channels, T* y) {
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        float value = product[i];
        if (bias) value += bias[i % channels];
        if (residual) value += widen(residual[i]);
        y[i] = narrow<T>(relu && value < 0 ? 0.0f : value);
    }
}

/// Where the windows are the input itself.
bool windows_are_input(const Conv2dGeometry& g) {
    return g.kernel_h == 1 && g.kernel_w == 1 && g.stride_h == 1 && g.stride_w == 1 && g.groups == 1 && g.out_h == g.in_h &&
           g.out_w == g.in_w && g.pad_top == 0 && g.pad_left == 0;
}

/// Bytes that the windows of one run of images may take.
constexpr std::int64_t most_bytes = std::int64_t{256} << 20;

/// The runs of images that a convolution is cut into, so that its windows stay below `most_bytes`.
struct Runs {
    std::int64_t images;  ///< of one run but the last
    std::int64_t depth, pixels_of_image;
};
Runs runs_of(const Conv2dGeometry& g, std::int64_t element_bytes) {
    const std::int64_t depth = g.kernel_h * g.kernel_w * (g.in_c / g.groups), pixels = g.out_h * g.out_w;
    return {std::clamp<std::int64_t>(most_bytes / std::max<std::int64_t>(1, depth * pixels * element_bytes), 1,
                                     std::max<std::int64_t>(1, g.batch)),
            depth, pixels};
}

/// Filters in the type of the activations: bf16 products take bf16 on both sides.
Tensor filters_as(const Tensor& weight, DType dtype) { return weight.to(dtype); }

template <class T>
const T* at(const Tensor& tensor, std::int64_t element) {
    return static_cast<const T*>(tensor.raw()) + element;
}

/// The windows of group `group` for a run of images; x itself where it is its own windows.
template <class T>
const T* windows_of(const Conv2dGeometry& g, const ConvShape& shape, std::int64_t group, std::int64_t image,
                    std::int64_t images, const Runs& runs, const Tensor& x, Tensor& memory) {
    if (windows_are_input(g)) return at<T>(x, image * runs.pixels_of_image * g.in_c);
    const std::int64_t n = images * runs.pixels_of_image * runs.depth;
    T* windows = static_cast<T*>(memory.raw_write());
    launch(x.device(), gather_windows_kernel<T>, blocks_for(x.device(), n, threads_per_block), threads_per_block, 0, shape,
           static_cast<int>(group), static_cast<int>(image * runs.pixels_of_image), n, x.read<T>(), windows);
    return windows;
}

}  // namespace

void forward(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor* residual,
             NormEpilogue epilogue, Tensor& y) {
    if (y.numel() == 0) return;
    const Device device = x.device();
    dispatch_activation(x.dtype(), "conv2d_forward", [&](auto zero) {
        using T = decltype(zero);
        const ConvShape shape(g);
        const Runs runs = runs_of(g, sizeof(T));
        const bool relu = epilogue == NormEpilogue::relu, is_input = windows_are_input(g);
        const std::int64_t out_group = g.out_c / g.groups;
        const Tensor filters = filters_as(weight, x.dtype());
        MatrixProduct product{.n = out_group, .k = runs.depth, .b_transposed = true, .a_lead = runs.depth,
                              .b_lead = runs.depth, .c_lead = g.out_c, .operand_type = x.dtype()};
        if constexpr (std::is_same_v<T, float>) {
            if (is_input && !residual && g.out_c == out_group) {
                product.m = g.batch * runs.pixels_of_image;
                return multiply_with_epilogue(device, product, x.read<float>(), filters.read<float>(), read_if<float>(bias),
                                              relu, y.write<float>());
            }
        }
        const bool follows = bias || residual || relu;
        // What follows is applied to sums in f32, so that bf16 is rounded to once and y may be the residual.
        Tensor sums = follows ? Tensor::empty(y.shape(), DType::f32, device) : Tensor();
        product.result_type = follows ? DType::f32 : y.dtype();
        Tensor memory;
        if (!is_input)
            memory = scratch(device, runs.images * runs.pixels_of_image * runs.depth * static_cast<std::int64_t>(sizeof(T)));
        char* target = static_cast<char*>(follows ? sums.raw_write() : y.raw_write());
        const std::int64_t size = static_cast<std::int64_t>(size_of(product.result_type));
        for (std::int64_t image = 0; image < g.batch; image += runs.images) {
            const std::int64_t images = std::min(runs.images, g.batch - image);
            product.m = images * runs.pixels_of_image;
            for (std::int64_t group = 0; group < g.groups; ++group) {
                const T* windows = windows_of<T>(g, shape, group, image, images, runs, x, memory);
                multiply(device, product, windows, at<T>(filters, group * out_group * runs.depth),
                         target + (image * runs.pixels_of_image * g.out_c + group * out_group) * size);
            }
        }
        if (follows)
            launch(device, epilogue_kernel<T>, blocks_for(device, y.numel(), threads_per_block), threads_per_block, 0,
                   y.numel(), sums.read<float>(), read_if<float>(bias), read_if<T>(residual), relu,
                   g.out_c, y.write<T>());
    });
}

void backward_data(const Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx) {
    if (dx.numel() == 0) return;
    const Device device = dy.device();
    dispatch_activation(dy.dtype(), "conv2d_backward_data", [&](auto zero) {
        using T = decltype(zero);
        const ConvShape shape(g);
        const bool is_input = windows_are_input(g);
        const Runs runs = runs_of(g, sizeof(float));
        const std::int64_t out_group = g.out_c / g.groups;
        const Tensor filters = filters_as(weight, dy.dtype());
        MatrixProduct product{.n = runs.depth, .k = out_group, .a_lead = g.out_c, .b_lead = runs.depth, .c_lead = runs.depth,
                              .operand_type = dy.dtype(), .result_type = is_input ? dx.dtype() : DType::f32};
        if (is_input) {
            product.m = g.batch * runs.pixels_of_image;
            return multiply(device, product, dy.raw(), filters.raw(), dx.raw_write());
        }
        Tensor memory = Tensor::empty({std::max<std::int64_t>(1, runs.images * runs.pixels_of_image * runs.depth)}, DType::f32, device);
        float* windows = memory.write<float>();
        for (std::int64_t image = 0; image < g.batch; image += runs.images) {
            const std::int64_t images = std::min(runs.images, g.batch - image);
            product.m = images * runs.pixels_of_image;
            for (std::int64_t group = 0; group < g.groups; ++group) {
                multiply(device, product, at<T>(dy, image * runs.pixels_of_image * g.out_c + group * out_group),
                         at<T>(filters, group * out_group * runs.depth), windows);
                const std::int64_t n = images * g.in_h * g.in_w * (g.in_c / g.groups);
                launch(device, sum_windows_kernel<T>, blocks_for(device, n, threads_per_block), threads_per_block, 0, shape,
                       static_cast<int>(group), static_cast<int>(image), n, static_cast<const float*>(windows), dx.write<T>());
            }
        }
    });
}

void backward_weights(const Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight) {
    if (dweight.numel() == 0) return;
    if (dy.numel() == 0) return dweight.fill(0);
    const Device device = x.device();
    dispatch_activation(x.dtype(), "conv2d_backward_weights", [&](auto zero) {
        using T = decltype(zero);
        const ConvShape shape(g);
        const Runs runs = runs_of(g, sizeof(T));
        const std::int64_t out_group = g.out_c / g.groups;
        Tensor memory;
        if (!windows_are_input(g))
            memory = scratch(device, runs.images * runs.pixels_of_image * runs.depth * static_cast<std::int64_t>(sizeof(T)));
        MatrixProduct product{.m = out_group, .n = runs.depth, .a_transposed = true, .a_lead = g.out_c, .b_lead = runs.depth,
                              .c_lead = runs.depth, .operand_type = x.dtype()};
        float* target = dweight.write<float>();
        for (std::int64_t image = 0; image < g.batch; image += runs.images) {
            const std::int64_t images = std::min(runs.images, g.batch - image);
            product.k = images * runs.pixels_of_image;
            product.accumulate = image > 0;
            for (std::int64_t group = 0; group < g.groups; ++group) {
                const T* windows = windows_of<T>(g, shape, group, image, images, runs, x, memory);
                multiply(device, product, at<T>(dy, image * runs.pixels_of_image * g.out_c + group * out_group), windows,
                         target + group * out_group * runs.depth);
            }
        }
    });
}

}  // namespace bitloom::cuda::im2col
