#include "ops/dense.h"

#include <array>

#include "ops/checks.h"
#include "ops/kernels.h"
#include "ops/record.h"

namespace bitloom::ops {

Var dense(const Var& x, const Var& weight, const Var& bias) {
    require(x.shape().rank() == 2, "dense: input must be [batch, in], got ", x.shape());
    require(weight.shape().rank() == 2, "dense: weight must be [out, in], got ", weight.shape());
    require(x.dim(1) == weight.dim(1), "dense: input has ", x.dim(1), " features, weight expects ", weight.dim(1));
    require_parameter("dense", "weight", weight.value(), x.value());
    const bool has_bias = bias.defined();
    if (has_bias) require_parameter("dense", "bias", bias.value(), Shape{weight.dim(0)}, x.value());

    Tensor y = Tensor::empty({x.dim(0), weight.dim(0)}, x.dtype(), x.device());
    kernel(x.device(), "dense_forward", &OpKernels::dense_forward)(x.value(), weight.value(),
                                                                   has_bias ? &bias.value() : nullptr, y);

    const std::array<Var, 3> inputs{x, weight, bias};
    return record(Op::dense, std::span<const Var>(inputs).first(has_bias ? 3 : 2), std::move(y),
                  [x = x.value(), w = weight.value(), has_bias](BackwardContext& c) {
                      const Tensor& dy = c.grad();
                      const bool bias_too = has_bias && c.needs(2);
                      if (c.needs(0)) {
                          Tensor dx = Tensor::empty_like(x);
                          kernel(x.device(), "dense_backward_data", &OpKernels::dense_backward_data)(dy, w, dx);
                          c.give(0, std::move(dx));
                      }
                      Tensor db;
                      if (bias_too) db = Tensor::empty({w.dim(0)}, w.dtype(), x.device());
                      if (c.needs(1)) {
                          Tensor dw = Tensor::empty_like(w);
                          kernel(x.device(), "dense_backward_weights", &OpKernels::dense_backward_weights)(
                              x, dy, dw, bias_too ? &db : nullptr);
                          c.give(1, std::move(dw));
                      } else if (bias_too) {
                          kernel(x.device(), "bias_backward", &OpKernels::bias_backward)(dy, db);
                      }
                      if (bias_too) c.give(2, std::move(db));
                  });
}

Var bias_add(const Var& x, const Var& bias) {
    require(x.shape().rank() >= 1, "bias_add: input is a scalar, it has no channels");
    require_parameter("bias_add", "bias", bias.value(), Shape{x.dim(-1)}, x.value());
    Tensor y = Tensor::empty_like(x.value());
    kernel(x.device(), "bias_forward", &OpKernels::bias_forward)(x.value(), bias.value(), y);
    return record(Op::bias_add, {x, bias}, std::move(y), [](BackwardContext& c) {
        const Tensor& dy = c.grad();
        if (c.needs(1)) {
            Tensor db = Tensor::empty({dy.dim(-1)}, parameter_dtype(dy.dtype()), dy.device());
            kernel(dy.device(), "bias_backward", &OpKernels::bias_backward)(dy, db);
            c.give(1, std::move(db));
        }
        c.give(0, dy);
    });
}

}  // namespace bitloom::ops
