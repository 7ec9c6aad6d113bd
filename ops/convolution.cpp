#include "ops/convolution.h"

#include <algorithm>
#include <array>

#include "ops/checks.h"
#include "ops/record.h"

namespace bitloom::ops {

namespace {

void check_options(std::string_view op, const Conv2dOptions& o) {
    require(o.stride_h >= 1 && o.stride_w >= 1, op, ": stride ", o.stride_h, " x ", o.stride_w, " is not positive");
    require(o.dilation_h >= 1 && o.dilation_w >= 1, op, ": dilation ", o.dilation_h, " x ", o.dilation_w,
            " is not positive");
    require(o.groups >= 1, op, ": ", o.groups, " groups");
    const Padding& p = o.padding;
    require(p.top >= 0 && p.bottom >= 0 && p.left >= 0 && p.right >= 0, op, ": negative padding (", p.top, ", ",
            p.bottom, ", ", p.left, ", ", p.right, ")");
}

void check_ranks(std::string_view op, const Shape& x, const Shape& weight) {
    require(x.rank() == 4, op, ": input must be [N, H, W, C], got ", x);
    require(weight.rank() == 4, op, ": weight must be [out, kh, kw, in / groups], got ", weight);
    require(weight.numel() > 0, op, ": weight ", weight, " is empty");
}

/// Output extent of one axis of a convolution.
std::int64_t output_extent(std::string_view axis, std::int64_t n, std::int64_t before, std::int64_t after,
                           std::int64_t kernel, std::int64_t stride, std::int64_t dilation) {
    const std::int64_t reach = (kernel - 1) * dilation + 1;
    require(reach <= n + before + after, "conv2d: kernel ", kernel, " with dilation ", dilation,
            " exceeds the input's ", axis, " ", n, " with padding ", before, " + ", after);
    return (n + before + after - reach) / stride + 1;
}

/// The forward convolution that conv2d_transpose transposes: its input is the transpose's output.
Conv2dGeometry transposed_geometry(const Shape& x, const Shape& weight, const Conv2dOptions& o, std::int64_t extra_h,
                                   std::int64_t extra_w) {
    constexpr std::string_view op = "conv2d_transpose";
    check_options(op, o);
    check_ranks(op, x, weight);
    require(x[3] == weight[0], op, ": input has ", x[3], " channels, weight expects ", weight[0]);
    require(weight[0] % o.groups == 0, op, ": ", weight[0], " input channels do not divide into ", o.groups, " groups");
    require(x[1] >= 1 && x[2] >= 1, op, ": input ", x, " has an empty map");
    require(extra_h >= 0 && extra_h < o.stride_h && extra_w >= 0 && extra_w < o.stride_w, op, ": output padding ",
            extra_h, " x ", extra_w, " must be below the stride ", o.stride_h, " x ", o.stride_w);
    const Padding& p = o.padding;
    const std::int64_t out_h =
        (x[1] - 1) * o.stride_h + (weight[1] - 1) * o.dilation_h + 1 - p.top - p.bottom + extra_h;
    const std::int64_t out_w =
        (x[2] - 1) * o.stride_w + (weight[2] - 1) * o.dilation_w + 1 - p.left - p.right + extra_w;
    require(out_h >= 1 && out_w >= 1, op, ": padding leaves an output of ", out_h, " x ", out_w);
    return {.batch = x[0],
            .in_h = out_h,
            .in_w = out_w,
            .in_c = weight[3] * o.groups,
            .out_h = x[1],
            .out_w = x[2],
            .out_c = x[3],
            .kernel_h = weight[1],
            .kernel_w = weight[2],
            .stride_h = o.stride_h,
            .stride_w = o.stride_w,
            .pad_top = p.top,
            .pad_bottom = p.bottom,
            .pad_left = p.left,
            .pad_right = p.right,
            .dilation_h = o.dilation_h,
            .dilation_w = o.dilation_w,
            .groups = o.groups};
}

void check_operands(std::string_view op, const Var& x, const Var& weight, const Var& bias, std::int64_t out_channels) {
    require_parameter(op, "weight", weight.value(), x.value());
    if (bias.defined()) require_parameter(op, "bias", bias.value(), Shape{out_channels}, x.value());
}

}  // namespace

Padding same_padding(std::int64_t in_h, std::int64_t in_w, std::int64_t kernel_h, std::int64_t kernel_w,
                     std::int64_t stride_h, std::int64_t stride_w, std::int64_t dilation_h, std::int64_t dilation_w) {
    require(stride_h >= 1 && stride_w >= 1, "same_padding: stride ", stride_h, " x ", stride_w, " is not positive");
    const auto total = [](std::int64_t n, std::int64_t k, std::int64_t stride, std::int64_t dilation) {
        const std::int64_t out = (n + stride - 1) / stride;
        return std::max<std::int64_t>((out - 1) * stride + (k - 1) * dilation + 1 - n, 0);
    };
    const std::int64_t h = total(in_h, kernel_h, stride_h, dilation_h), w = total(in_w, kernel_w, stride_w, dilation_w);
    return {.top = h / 2, .bottom = h - h / 2, .left = w / 2, .right = w - w / 2};
}

Conv2dGeometry conv2d_geometry(const Shape& x, const Shape& weight, const Conv2dOptions& o) {
    check_options("conv2d", o);
    check_ranks("conv2d", x, weight);
    require(x[3] == weight[3] * o.groups, "conv2d: input has ", x[3], " channels, weight expects ",
            weight[3] * o.groups);
    require(weight[0] % o.groups == 0, "conv2d: ", weight[0], " output channels do not divide into ", o.groups,
            " groups");
    const Padding& p = o.padding;
    return {.batch = x[0],
            .in_h = x[1],
            .in_w = x[2],
            .in_c = x[3],
            .out_h = output_extent("height", x[1], p.top, p.bottom, weight[1], o.stride_h, o.dilation_h),
            .out_w = output_extent("width", x[2], p.left, p.right, weight[2], o.stride_w, o.dilation_w),
            .out_c = weight[0],
            .kernel_h = weight[1],
            .kernel_w = weight[2],
            .stride_h = o.stride_h,
            .stride_w = o.stride_w,
            .pad_top = p.top,
            .pad_bottom = p.bottom,
            .pad_left = p.left,
            .pad_right = p.right,
            .dilation_h = o.dilation_h,
            .dilation_w = o.dilation_w,
            .groups = o.groups};
}

Var conv2d(const Var& x, const Var& weight, const Var& bias, const Conv2dOptions& options) {
    const Conv2dGeometry g = conv2d_geometry(x.shape(), weight.shape(), options);
    check_operands("conv2d", x, weight, bias, g.out_c);
    const Device device = x.device();
    Tensor y = Tensor::empty({g.batch, g.out_h, g.out_w, g.out_c}, x.dtype(), device);
    kernel(device, "conv2d_forward", &OpKernels::conv2d_forward)(g, x.value(), weight.value(),
                                                                 bias.defined() ? &bias.value() : nullptr, y);

    const std::array<Var, 3> inputs{x, weight, bias};
    const bool has_bias = bias.defined();
    return record(Op::conv2d, std::span<const Var>(inputs).first(has_bias ? 3 : 2), std::move(y),
                  [g, x = x.value(), w = weight.value(), has_bias](BackwardContext& c) {
                      const Tensor& dy = c.grad();
                      const bool bias_too = has_bias && c.needs(2);
                      if (c.needs(0)) {
                          Tensor dx = Tensor::empty_like(x);
                          kernel(x.device(), "conv2d_backward_data", &OpKernels::conv2d_backward_data)(g, dy, w, dx);
                          c.give(0, std::move(dx));
                      }
                      Tensor db;
                      if (bias_too) db = Tensor::empty({g.out_c}, w.dtype(), x.device());
                      if (c.needs(1)) {
                          Tensor dw = Tensor::empty_like(w);
                          kernel(x.device(), "conv2d_backward_weights", &OpKernels::conv2d_backward_weights)(
                              g, x, dy, dw, bias_too ? &db : nullptr);
                          c.give(1, std::move(dw));
                      } else if (bias_too) {
                          kernel(x.device(), "bias_backward", &OpKernels::bias_backward)(dy, db);
                      }
                      if (bias_too) c.give(2, std::move(db));
                  });
}

Var conv2d_transpose(const Var& x, const Var& weight, const Var& bias, const Conv2dOptions& options,
                     std::int64_t output_padding_h, std::int64_t output_padding_w) {
    const Conv2dGeometry g =
        transposed_geometry(x.shape(), weight.shape(), options, output_padding_h, output_padding_w);
    check_operands("conv2d_transpose", x, weight, bias, g.in_c);
    const Device device = x.device();
    Tensor y = Tensor::empty({g.batch, g.in_h, g.in_w, g.in_c}, x.dtype(), device);
    kernel(device, "conv2d_backward_data", &OpKernels::conv2d_backward_data)(g, x.value(), weight.value(), y);
    const bool has_bias = bias.defined();
    if (has_bias) {
        const Tensor without_bias = std::exchange(y, Tensor::empty_like(y));
        kernel(device, "bias_forward", &OpKernels::bias_forward)(without_bias, bias.value(), y);
    }

    const std::array<Var, 3> inputs{x, weight, bias};
    return record(Op::conv2d_transpose, std::span<const Var>(inputs).first(has_bias ? 3 : 2), std::move(y),
                  [g, x = x.value(), w = weight.value(), has_bias](BackwardContext& c) {
                      const Tensor& dy = c.grad();
                      if (c.needs(0)) {
                          Tensor dx = Tensor::empty_like(x);
                          kernel(x.device(), "conv2d_forward", &OpKernels::conv2d_forward)(g, dy, w, nullptr, dx);
                          c.give(0, std::move(dx));
                      }
                      if (c.needs(1)) {
                          Tensor dw = Tensor::empty_like(w);
                          kernel(x.device(), "conv2d_backward_weights", &OpKernels::conv2d_backward_weights)(
                              g, dy, x, dw, nullptr);
                          c.give(1, std::move(dw));
                      }
                      if (has_bias && c.needs(2)) {
                          Tensor db = Tensor::empty({g.in_c}, w.dtype(), x.device());
                          kernel(x.device(), "bias_backward", &OpKernels::bias_backward)(dy, db);
                          c.give(2, std::move(db));
                      }
                  });
}

}  // namespace bitloom::ops
