#include "ops/normalization.h"

#include <array>

#include "ops/checks.h"
#include "ops/record.h"

namespace bitloom::ops {

namespace {

void check_operands(std::string_view op, const Var& x, const Var& gamma, const Var& beta, const Var& residual,
                    double epsilon) {
    require(x.shape().rank() >= 2, op, ": input must be [..., C] with at least one axis before C, got ", x.shape());
    const Shape channels{x.dim(-1)};
    require_parameter(op, "gamma", gamma.value(), channels, x.value());
    require_parameter(op, "beta", beta.value(), channels, x.value());
    if (residual.defined()) require_operand(op, "residual", residual.value(), x.shape(), x.value());
    require(epsilon >= 0, op, ": epsilon ", epsilon, " is negative");
}

using BackwardKernel = decltype(OpKernels::batch_norm_backward);

/// Records either form: they differ in the backward kernel alone.
Var record_batch_norm(Op op, const Var& x, const Var& gamma, const Var& beta, const Var& residual, const Tensor& mean,
                      const Tensor& variance, double epsilon, NormEpilogue epilogue, Tensor y,
                      std::string_view kernel_name, BackwardKernel OpKernels::*member) {
    const std::array<Var, 4> inputs{x, gamma, beta, residual};
    const bool has_residual = residual.defined();
    const Tensor saved_y = epilogue == NormEpilogue::none ? Tensor() : y;
    return record(op, std::span<const Var>(inputs).first(has_residual ? 4 : 3), std::move(y),
                  [x = x.value(), gamma = gamma.value(), mean, variance, y = saved_y, epsilon, epilogue, has_residual,
                   kernel_name, member](BackwardContext& c) {
                      const Tensor& dy = c.grad();
                      const bool residual_too = has_residual && c.needs(3);
                      const bool masked = epilogue != NormEpilogue::none;
                      if (c.needs(0) || c.needs(1) || c.needs(2) || (residual_too && masked)) {
                          Tensor dx, dresidual;
                          Tensor dgamma = Tensor::empty_like(gamma), dbeta = Tensor::empty_like(gamma);
                          if (c.needs(0)) dx = Tensor::empty_like(x);
                          if (residual_too && masked) dresidual = Tensor::empty_like(x);
                          kernel(x.device(), kernel_name, member)(
                              dy, x, masked ? &y : nullptr, gamma, mean, variance, epsilon, epilogue,
                              dx.defined() ? &dx : nullptr, dresidual.defined() ? &dresidual : nullptr, dgamma, dbeta);
                          if (dx.defined()) c.give(0, std::move(dx));
                          c.give(1, std::move(dgamma));
                          c.give(2, std::move(dbeta));
                          if (dresidual.defined()) c.give(3, std::move(dresidual));
                      }
                      if (residual_too && !masked) c.give(3, dy);
                  });
}

}  // namespace

Var batch_norm_training(const Var& x, const Var& gamma, const Var& beta, const Var& residual, double epsilon,
                        NormEpilogue epilogue, Tensor& mean, Tensor& variance) {
    check_operands("batch_norm_training", x, gamma, beta, residual, epsilon);
    require(x.value().numel() > 0, "batch_norm_training: input ", x.shape(), " is empty, it has no moments");
    Tensor y = Tensor::empty_like(x.value());
    mean = Tensor::empty_like(gamma.value());  // fresh: the caller may keep the moments of the pass before
    variance = Tensor::empty_like(gamma.value());
    kernel(x.device(), "batch_norm_forward", &OpKernels::batch_norm_forward)(
        x.value(), gamma.value(), beta.value(), residual.defined() ? &residual.value() : nullptr, epsilon, epilogue, y,
        mean, variance);
    return record_batch_norm(Op::batch_norm_training, x, gamma, beta, residual, mean, variance, epsilon, epilogue,
                             std::move(y), "batch_norm_backward", &OpKernels::batch_norm_backward);
}

Var batch_norm_inference(const Var& x, const Var& gamma, const Var& beta, const Var& residual, const Tensor& mean,
                         const Tensor& variance, double epsilon, NormEpilogue epilogue) {
    check_operands("batch_norm_inference", x, gamma, beta, residual, epsilon);
    require_parameter("batch_norm_inference", "mean", mean, gamma.shape(), x.value());
    require_parameter("batch_norm_inference", "variance", variance, gamma.shape(), x.value());
    Tensor y = Tensor::empty_like(x.value());
    kernel(x.device(), "batch_norm_inference", &OpKernels::batch_norm_inference)(
        x.value(), gamma.value(), beta.value(), residual.defined() ? &residual.value() : nullptr, mean, variance,
        epsilon, epilogue, y);
    return record_batch_norm(Op::batch_norm_inference, x, gamma, beta, residual, mean, variance, epsilon, epilogue,
                             std::move(y), "batch_norm_inference_backward", &OpKernels::batch_norm_inference_backward);
}

}  // namespace bitloom::ops
