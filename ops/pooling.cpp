#include "ops/pooling.h"

#include "ops/record.h"

namespace bitloom::ops {

namespace {

constexpr std::int64_t max_window_cells = 256;  // positions in a window are stored as u8

Var record_avg_pool2d(const Var& x, const Pool2dGeometry& g, bool include_pad, const Shape& output_shape) {
    Tensor y = Tensor::empty(output_shape, x.dtype(), x.device());
    kernel(x.device(), "avg_pool2d_forward", &OpKernels::avg_pool2d_forward)(g, include_pad, x.value(), y);
    return record(Op::avg_pool2d, {x}, std::move(y), [g, include_pad](BackwardContext& c) {
        const Tensor& dy = c.grad();
        Tensor dx = Tensor::empty({g.batch, g.in_h, g.in_w, g.channels}, dy.dtype(), dy.device());
        kernel(dy.device(), "avg_pool2d_backward", &OpKernels::avg_pool2d_backward)(
            g, include_pad, dy.reshape({g.batch, g.out_h, g.out_w, g.channels}), dx);
        c.give(0, std::move(dx));
    });
}

void check_map(std::string_view op, const Shape& x) {
    require(x.rank() == 4, op, ": input must be [N, H, W, C], got ", x);
    require(x[1] >= 1 && x[2] >= 1, op, ": input ", x, " has an empty map");
}

}  // namespace

Pool2dGeometry pool2d_geometry(const Shape& x, const Pool2dOptions& o) {
    check_map("pool2d", x);
    require(o.window_h >= 1 && o.window_w >= 1, "pool2d: window ", o.window_h, " x ", o.window_w, " is empty");
    require(o.stride_h >= 1 && o.stride_w >= 1, "pool2d: stride ", o.stride_h, " x ", o.stride_w, " is not positive");
    const Padding& p = o.padding;
    // Less padding than window: then every window holds a real cell, so that no maximum is -infinity and no mean 0 / 0.
    require(p.top >= 0 && p.bottom >= 0 && p.left >= 0 && p.right >= 0 && p.top < o.window_h && p.bottom < o.window_h &&
                p.left < o.window_w && p.right < o.window_w,
            "pool2d: padding (", p.top, ", ", p.bottom, ", ", p.left, ", ", p.right, ") must be below the window ",
            o.window_h, " x ", o.window_w, " and not negative");
    const std::int64_t padded_h = x[1] + p.top + p.bottom, padded_w = x[2] + p.left + p.right;
    require(o.window_h <= padded_h && o.window_w <= padded_w, "pool2d: window ", o.window_h, " x ", o.window_w,
            " exceeds the padded input ", padded_h, " x ", padded_w);
    return {.batch = x[0],
            .in_h = x[1],
            .in_w = x[2],
            .channels = x[3],
            .out_h = (padded_h - o.window_h) / o.stride_h + 1,
            .out_w = (padded_w - o.window_w) / o.stride_w + 1,
            .window_h = o.window_h,
            .window_w = o.window_w,
            .stride_h = o.stride_h,
            .stride_w = o.stride_w,
            .pad_top = p.top,
            .pad_bottom = p.bottom,
            .pad_left = p.left,
            .pad_right = p.right};
}

Var max_pool2d(const Var& x, const Pool2dOptions& options) {
    const Pool2dGeometry g = pool2d_geometry(x.shape(), options);
    require(g.window_h * g.window_w <= max_window_cells, "max_pool2d: window ", g.window_h, " x ", g.window_w,
            " has more than ", max_window_cells, " cells");
    const Shape output_shape{g.batch, g.out_h, g.out_w, g.channels};
    Tensor y = Tensor::empty(output_shape, x.dtype(), x.device());
    Tensor argmax;
    if (x.tape().wants_node({x})) argmax = Tensor::empty(output_shape, DType::u8, x.device());
    kernel(x.device(), "max_pool2d_forward", &OpKernels::max_pool2d_forward)(g, x.value(), y,
                                                                             argmax.defined() ? &argmax : nullptr);
    return record(Op::max_pool2d, {x}, std::move(y), [g, argmax](BackwardContext& c) {
        const Tensor& dy = c.grad();
        Tensor dx = Tensor::empty({g.batch, g.in_h, g.in_w, g.channels}, dy.dtype(), dy.device());
        kernel(dy.device(), "max_pool2d_backward", &OpKernels::max_pool2d_backward)(g, dy, argmax, dx);
        c.give(0, std::move(dx));
    });
}

Var avg_pool2d(const Var& x, const Pool2dOptions& options, bool include_pad) {
    const Pool2dGeometry g = pool2d_geometry(x.shape(), options);
    return record_avg_pool2d(x, g, include_pad, {g.batch, g.out_h, g.out_w, g.channels});
}

Var global_avg_pool2d(const Var& x) {
    check_map("global_avg_pool2d", x.shape());
    const Pool2dGeometry g = pool2d_geometry(x.shape(), {x.dim(1), x.dim(2), 1, 1, {}});
    return record_avg_pool2d(x, g, false, {g.batch, g.channels});
}

Var global_max_pool2d(const Var& x) {
    check_map("global_max_pool2d", x.shape());
    constexpr std::uint32_t map_axes = (1u << 1) | (1u << 2);
    const Shape output_shape{x.dim(0), x.dim(3)};
    Tensor y = Tensor::empty(output_shape, x.dtype(), x.device());
    Tensor argmax;
    if (x.tape().wants_node({x})) argmax = Tensor::empty(output_shape, DType::i32, x.device());
    kernel(x.device(), "reduce_max", &OpKernels::reduce_max)(map_axes, x.value(), y,
                                                             argmax.defined() ? &argmax : nullptr);
    return record(Op::reduce_max, {x}, std::move(y), [input_shape = x.shape(), argmax](BackwardContext& c) {
        const Tensor& dy = c.grad();
        Tensor dx = Tensor::empty(input_shape, dy.dtype(), dy.device());
        kernel(dy.device(), "reduce_max_backward", &OpKernels::reduce_max_backward)(map_axes, dy, argmax, dx);
        c.give(0, std::move(dx));
    });
}

}  // namespace bitloom::ops
