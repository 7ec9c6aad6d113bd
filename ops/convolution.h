#pragma once
// Convolutions, NHWC. Weights [out][kh][kw][in / groups].

#include "engine/tape.h"
#include "ops/kernels.h"

namespace bitloom::ops {

/// Zero padding in cells.
struct Padding {
    std::int64_t top = 0, bottom = 0, left = 0, right = 0;
    bool operator==(const Padding&) const = default;
    static Padding symmetric(std::int64_t p) { return {p, p, p, p}; }
};
/// TensorFlow's SAME: output ceil(n / stride), total max((out - 1) stride + (k - 1) dilation + 1 - n, 0), the smaller
/// half before and the rest after.
Padding same_padding(std::int64_t in_h, std::int64_t in_w, std::int64_t kernel_h, std::int64_t kernel_w,
                     std::int64_t stride_h, std::int64_t stride_w, std::int64_t dilation_h = 1,
                     std::int64_t dilation_w = 1);

struct Conv2dOptions {
    std::int64_t stride_h = 1, stride_w = 1;
    Padding padding = {};
    std::int64_t dilation_h = 1, dilation_w = 1;
    std::int64_t groups = 1;
    bool operator==(const Conv2dOptions&) const = default;
};

/// Output extents floor((n + pads - (k - 1) dilation - 1) / stride) + 1. Throws Error with the numbers that disagree.
Conv2dGeometry conv2d_geometry(const Shape& x, const Shape& weight, const Conv2dOptions& options);

/// y[n, oh, ow, o] = sum x[n, oh s - p + kh d, ...] w[o, kh, kw, i] (+ bias[o]); cross-correlation, as in every
/// framework. x [N, H, W, C], weight [O, KH, KW, C / groups]; depthwise: groups = C. bias [O] may be an undefined Var.
Var conv2d(const Var& x, const Var& weight, const Var& bias, const Conv2dOptions& options);

/// The transpose of conv2d: x [N, H, W, I], weight [I][kh][kw][O / groups], output extent
/// (n - 1) stride + (k - 1) dilation + 1 - pads + output_padding (Keras VALID: no pads; PyTorch ConvTranspose2d). The
/// weight is the one of the forward convolution it transposes. Throws Error for an output padding not below the stride.
Var conv2d_transpose(const Var& x, const Var& weight, const Var& bias, const Conv2dOptions& options,
                     std::int64_t output_padding_h = 0, std::int64_t output_padding_w = 0);

}  // namespace bitloom::ops
