#include "ops/pointwise.h"

#include <algorithm>
#include <limits>

#include "ops/checks.h"
#include "ops/record.h"

namespace bitloom::ops {

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

Tensor scaled(const Tensor& x, double slope, double offset = 0) {
    Tensor y = Tensor::empty_like(x);
    kernel(x.device(), "scale_forward", &OpKernels::scale_forward)(slope, offset, x, y);
    return y;
}

Shape broadcast_shape(std::string_view who, const Shape& a, const Shape& b) {
    const int rank = std::max(a.rank(), b.rank());
    Shape y;
    for (int axis = 0; axis < rank; ++axis) {
        const int in_a = axis - (rank - a.rank()), in_b = axis - (rank - b.rank());
        const std::int64_t m = in_a < 0 ? 1 : a[in_a], n = in_b < 0 ? 1 : b[in_b];
        require(m == n || m == 1 || n == 1, who, ": shapes ", a, " and ", b, " do not broadcast");
        y.append(m == 1 ? n : m);
    }
    return y;
}

Tensor binary_value(BinaryOp op, const Tensor& a, const Tensor& b) {
    Tensor y =
        Tensor::empty(broadcast_shape(binary_names[static_cast<int>(op)], a.shape(), b.shape()), a.dtype(), a.device());
    kernel(a.device(), "binary_forward", &OpKernels::binary_forward)(op, a, b, y);
    return y;
}

/// factor * gradient, summed over the axes along which an operand of the given shape was broadcast.
Tensor unbroadcast(const Tensor& gradient, const Shape& shape, double factor = 1) {
    if (gradient.numel() == shape.numel()) {
        const Tensor same = gradient.reshape(shape);  // at most leading ones apart
        return factor == 1 ? same : scaled(same, factor);
    }
    const int shift = gradient.rank() - shape.rank();
    std::uint32_t axes = 0;
    for (int axis = 0; axis < gradient.rank(); ++axis)
        if (axis < shift || (shape[axis - shift] == 1 && gradient.dim(axis) != 1)) axes |= 1u << axis;
    Tensor sum = Tensor::empty(shape, gradient.dtype(), gradient.device());
    kernel(gradient.device(), "reduce_sum", &OpKernels::reduce_sum)(axes, factor, gradient, sum);
    return sum;
}

Tensor surrogate_gradient(const SurrogateRule& rule, const Tensor& x, const Tensor& dy) {
    Tensor dx = Tensor::empty_like(dy);
    kernel(dy.device(), "surrogate_backward", &OpKernels::surrogate_backward)(rule, x, dy, dx);
    return dx;
}

/// The gradient of maximum and minimum: dy where a - b lies on a's side (ties included), else 0, and the rest to b.
Var record_extremum(BinaryOp op, const Var& a, const Var& b, Tensor y) {
    const bool maximum = op == BinaryOp::maximum;
    const SurrogateRule to_a =
        maximum ? SurrogateRule{Surrogate::clipped, 0, infinity} : SurrogateRule{Surrogate::clipped, -infinity, 0};
    const SurrogateRule to_b = maximum ? SurrogateRule{Surrogate::clipped_open, -infinity, 0}
                                       : SurrogateRule{Surrogate::clipped_open, 0, infinity};
    return record(Op::binary, {a, b}, std::move(y), [to_a, to_b, a = a.value(), b = b.value()](BackwardContext& c) {
        const Tensor difference = binary_value(BinaryOp::subtract, a, b);
        if (c.needs(0)) c.give(0, unbroadcast(surrogate_gradient(to_a, difference, c.grad()), a.shape()));
        if (c.needs(1)) c.give(1, unbroadcast(surrogate_gradient(to_b, difference, c.grad()), b.shape()));
    });
}

}  // namespace

Var unary(UnaryOp op, const Var& x, double a, double b) {
    require_float(unary_names[static_cast<int>(op)], x.value());
    Tensor y = Tensor::empty_like(x.value());
    kernel(x.device(), "unary_forward", &OpKernels::unary_forward)(op, a, b, x.value(), y);
    // The gradients of relu and relu6 are the same functions of y as of x: only y is kept, as the next op does anyway.
    const bool from_output = op == UnaryOp::relu || op == UnaryOp::relu6;
    const Tensor saved = y;
    return record(Op::unary, {x}, std::move(y),
                  [op, a, b, x = from_output ? saved : x.value(), y = saved](BackwardContext& c) {
                      Tensor dx = Tensor::empty_like(y);
                      kernel(y.device(), "unary_backward", &OpKernels::unary_backward)(op, a, b, x, y, c.grad(), dx);
                      c.give(0, std::move(dx));
                  });
}

Var binary(BinaryOp op, const Var& a, const Var& b) {
    const std::string_view name = binary_names[static_cast<int>(op)];
    require_float(name, a.value());
    require_like(name, "second operand", b.value(), a.value());
    Tensor y = binary_value(op, a.value(), b.value());
    switch (op) {
        case BinaryOp::add:
        case BinaryOp::subtract: {
            const double sign = op == BinaryOp::add ? 1 : -1;
            return record(Op::binary, {a, b}, std::move(y),
                          [sign, a_shape = a.shape(), b_shape = b.shape()](BackwardContext& c) {
                              if (c.needs(0)) c.give(0, unbroadcast(c.grad(), a_shape));
                              if (c.needs(1)) c.give(1, unbroadcast(c.grad(), b_shape, sign));
                          });
        }
        case BinaryOp::multiply: {
            // Each factor is needed for the other's gradient only; its shape for its own.
            const Tensor save_a = b.requires_grad() ? a.value() : Tensor(),
                         save_b = a.requires_grad() ? b.value() : Tensor();
            return record(Op::binary, {a, b}, std::move(y),
                          [save_a, save_b, a_shape = a.shape(), b_shape = b.shape()](BackwardContext& c) {
                              if (c.needs(0))
                                  c.give(0, unbroadcast(binary_value(BinaryOp::multiply, c.grad(), save_b), a_shape));
                              if (c.needs(1))
                                  c.give(1, unbroadcast(binary_value(BinaryOp::multiply, c.grad(), save_a), b_shape));
                          });
        }
        case BinaryOp::divide: {
            const Tensor quotient = b.requires_grad() ? y : Tensor();
            return record(Op::binary, {a, b}, std::move(y),
                          [quotient, a_shape = a.shape(), b = b.value()](BackwardContext& c) {
                              const Tensor da = binary_value(BinaryOp::divide, c.grad(), b);
                              if (c.needs(0)) c.give(0, unbroadcast(da, a_shape));
                              // d(a / b) / db = -(a / b) / b
                              if (c.needs(1))
                                  c.give(1, unbroadcast(binary_value(BinaryOp::multiply, da, quotient), b.shape(), -1));
                          });
        }
        case BinaryOp::maximum:
        case BinaryOp::minimum:
            return record_extremum(op, a, b, std::move(y));
        case BinaryOp::count:
            break;
    }
    fail("binary: no such function, ", static_cast<int>(op));
}

Var scale(const Var& x, double slope, double offset) {
    require_float("scale", x.value());
    return record(Op::scale, {x}, scaled(x.value(), slope, offset),
                  [slope](BackwardContext& c) { c.give(0, slope == 1 ? c.grad() : scaled(c.grad(), slope)); });
}

Var step(StepFunction function, const Var& x, const SurrogateRule& rule) {
    require_float("step", x.value());
    Tensor y = Tensor::empty_like(x.value());
    kernel(x.device(), "step_forward", &OpKernels::step_forward)(function, x.value(), y);
    return straight_through(x, std::move(y), rule);
}

Var straight_through(const Var& x, Tensor value, const SurrogateRule& rule) {
    require_operand("straight_through", "value", value, x.shape(), x.value());
    if (rule.rule == Surrogate::identity)
        return record(Op::surrogate, {x}, std::move(value), [](BackwardContext& c) { c.give(0, c.grad()); });
    return record(Op::surrogate, {x}, std::move(value),
                  [rule, x = x.value()](BackwardContext& c) { c.give(0, surrogate_gradient(rule, x, c.grad())); });
}

}  // namespace bitloom::ops
