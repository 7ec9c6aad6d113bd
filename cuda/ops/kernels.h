#pragma once
// The operations' kernels of the `cuda` device. Activations are f32 or bf16, parameters and statistics f32; sums run in
// f32. Contracts: ops/kernels.h. Reductions sum in an order that depends on the shape alone: two runs give the same bits.

#include "ops/kernels.h"

namespace bitloom::cuda {

using namespace ops;

// convolution.cu
void conv2d_forward(const Conv2dGeometry&, const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y);
void conv2d_inference(const Conv2dGeometry&, const Tensor& x, const Tensor& weight, const Tensor* bias,
                      const Tensor* residual, NormEpilogue, Tensor& y);
void conv2d_backward_data(const Conv2dGeometry&, const Tensor& dy, const Tensor& weight, Tensor& dx);
void conv2d_backward_weights(const Conv2dGeometry&, const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor* dbias);

// dense.cu
void dense_forward(const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y);
void dense_inference(const Tensor& x, const Tensor& weight, const Tensor* bias, NormEpilogue, Tensor& y);
void dense_backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx);
void dense_backward_weights(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor* dbias);
void bias_forward(const Tensor& x, const Tensor& bias, Tensor& y);
void bias_backward(const Tensor& dy, Tensor& dbias);

// normalization.cu
void batch_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                        double epsilon, NormEpilogue, Tensor& y, Tensor& mean, Tensor& variance);
void batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma, const Tensor& mean,
                         const Tensor& variance, double epsilon, NormEpilogue, Tensor* dx, Tensor* dresidual,
                         Tensor& dgamma, Tensor& dbeta);
void batch_norm_inference(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                          const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue, Tensor& y);
void batch_norm_inference_backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma,
                                   const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue, Tensor* dx,
                                   Tensor* dresidual, Tensor& dgamma, Tensor& dbeta);

// pooling.cu
void max_pool2d_forward(const Pool2dGeometry&, const Tensor& x, Tensor& y, Tensor* argmax);
void max_pool2d_backward(const Pool2dGeometry&, const Tensor& dy, const Tensor& argmax, Tensor& dx);
void avg_pool2d_forward(const Pool2dGeometry&, bool include_pad, const Tensor& x, Tensor& y);
void avg_pool2d_backward(const Pool2dGeometry&, bool include_pad, const Tensor& dy, Tensor& dx);

// pointwise.cu
void unary_forward(UnaryOp, double a, double b, const Tensor& x, Tensor& y);
void unary_backward(UnaryOp, double a, double b, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor& dx);
void binary_forward(BinaryOp, const Tensor& a, const Tensor& b, Tensor& y);
void scale_forward(double slope, double offset, const Tensor& x, Tensor& y);
void step_forward(StepFunction, const Tensor& x, Tensor& y);
void surrogate_backward(const SurrogateRule&, const Tensor& x, const Tensor& dy, Tensor& dx);

// softmax.cu
void softmax_forward(bool log, const Tensor& x, Tensor& y);
void softmax_backward(bool log, const Tensor& y, const Tensor& dy, Tensor& dx);
void cross_entropy_forward(const Tensor& logits, const Tensor& labels, Tensor& losses, Tensor* probabilities);
void cross_entropy_backward(const Tensor& probabilities, const Tensor& labels, double scale, const Tensor& dloss,
                            Tensor& dlogits);

// dropout.cu
void dropout(double rate, PhiloxStream, const Tensor& x, Tensor& y);
void row_scale(const Tensor& factors, const Tensor& x, Tensor& y);

// shaping.cu
void strided_copy(const StridedCopy&, const Tensor& source, Tensor& target);

// reduction.cu
void reduce_sum(std::uint32_t axes, double factor, const Tensor& x, Tensor& y);
void reduce_max(std::uint32_t axes, const Tensor& x, Tensor& y, Tensor* argmax);
void reduce_max_backward(std::uint32_t axes, const Tensor& dy, const Tensor& argmax, Tensor& dx);

}  // namespace bitloom::cuda
