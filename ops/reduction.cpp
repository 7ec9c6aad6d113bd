#include "ops/reduction.h"

#include "ops/checks.h"
#include "ops/record.h"
#include "ops/strided.h"

namespace bitloom::ops {

namespace {

struct Reduction {
    std::uint32_t axes = 0;  ///< bit i: axis i is reduced
    std::int64_t count = 1;  ///< elements that fall on one output
    Shape kept;              ///< with extents of 1 where reduced
    Shape output;            ///< what the caller sees
};

Reduction plan(std::string_view who, const Shape& shape, std::span<const int> axes, bool keep) {
    Reduction r;
    for (const int given : axes) {
        const int axis = shape.normalize(given);
        require(!(r.axes >> axis & 1u), who, ": axis ", axis, " is given twice");
        r.axes |= 1u << axis;
    }
    if (axes.empty()) r.axes = (1u << shape.rank()) - 1;
    for (int axis = 0; axis < shape.rank(); ++axis) {
        const bool reduced = (r.axes >> axis & 1u) != 0;
        if (reduced) r.count *= shape[axis];
        r.kept.append(reduced ? 1 : shape[axis]);
        if (!reduced || keep) r.output.append(reduced ? 1 : shape[axis]);
    }
    if (r.output.rank() == 0) r.output.append(1);
    return r;
}

/// A tensor of shape `kept` repeated along its extents of 1 to fill `shape`.
Tensor broadcast(std::string_view who, const Tensor& small, const Shape& kept, const Shape& shape) {
    Strides source = row_major_strides(kept);
    for (int axis = 0; axis < shape.rank(); ++axis)
        if (kept[axis] == 1) source[axis] = 0;
    Tensor large = Tensor::empty(shape, small.dtype(), small.device());
    kernel(small.device(), "strided_copy", &OpKernels::strided_copy)(
        make_strided_copy(who, shape, source, row_major_strides(shape)), small, large);
    return large;
}

Var sum_of(std::string_view who, const Var& x, const Reduction& r, double factor) {
    require_float(who, x.value());
    Tensor y = Tensor::empty(r.output, x.dtype(), x.device());
    kernel(x.device(), "reduce_sum", &OpKernels::reduce_sum)(r.axes, factor, x.value(), y);
    return record(Op::reduce_sum, {x}, std::move(y),
                  [who, factor, kept = r.kept, shape = x.shape()](BackwardContext& c) {
                      Tensor dy = c.grad();
                      if (factor != 1) {  // before the broadcast: fewer elements
                          dy = Tensor::empty_like(c.grad());
                          kernel(dy.device(), "scale_forward", &OpKernels::scale_forward)(factor, 0, c.grad(), dy);
                      }
                      c.give(0, kept == shape ? dy.reshape(shape) : broadcast(who, dy, kept, shape));
                  });
}

}  // namespace

Var reduce_sum(const Var& x, std::span<const int> axes, bool keep) {
    return sum_of("reduce_sum", x, plan("reduce_sum", x.shape(), axes, keep), 1);
}

Var reduce_mean(const Var& x, std::span<const int> axes, bool keep) {
    const Reduction r = plan("reduce_mean", x.shape(), axes, keep);
    require(r.count > 0, "reduce_mean: no elements to average in an input of shape ", x.shape());
    return sum_of("reduce_mean", x, r, 1.0 / static_cast<double>(r.count));
}

Var reduce_max(const Var& x, std::span<const int> axes, bool keep) {
    require_float("reduce_max", x.value());
    const Reduction r = plan("reduce_max", x.shape(), axes, keep);
    require(r.count > 0, "reduce_max: no elements to compare in an input of shape ", x.shape());
    Tensor y = Tensor::empty(r.output, x.dtype(), x.device());
    Tensor argmax;
    const bool save = x.tape().wants_node({x});
    if (save) argmax = Tensor::empty(r.output, DType::i32, x.device());
    kernel(x.device(), "reduce_max", &OpKernels::reduce_max)(r.axes, x.value(), y, save ? &argmax : nullptr);
    return record(Op::reduce_max, {x}, std::move(y), [argmax, axes = r.axes, shape = x.shape()](BackwardContext& c) {
        Tensor dx = Tensor::empty(shape, c.grad().dtype(), c.grad().device());
        kernel(dx.device(), "reduce_max_backward", &OpKernels::reduce_max_backward)(axes, c.grad(), argmax, dx);
        c.give(0, std::move(dx));
    });
}

}  // namespace bitloom::ops
