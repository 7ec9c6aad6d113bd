#pragma once
// Convolution by implicit matrix products of our own, NHWC: written for the filters of 16 to 64 channels of small networks,
// right for every geometry. f32 by fused multiply-adds, or by tensor cores where TF32 is allowed; bf16 by tensor cores.

#include "ops/kernels.h"

namespace bitloom::cuda::implicit_gemm {

/// y = epilogue(conv(x) [+ bias] [+ residual]); y may be the residual.
void forward(const ops::Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor* residual,
             ops::NormEpilogue epilogue, Tensor& y);
void backward_data(const ops::Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx);
void backward_weights(const ops::Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight);

}  // namespace bitloom::cuda::implicit_gemm
