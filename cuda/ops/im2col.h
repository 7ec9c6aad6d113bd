#pragma once
// Convolution as products with a matrix of windows (im2col), by cuBLAS: every geometry, and dense layers, whose windows are
// the input itself.

#include "ops/kernels.h"

namespace bitloom::cuda::im2col {

/// y = epilogue(conv(x) [+ bias] [+ residual]); y may be the residual.
void forward(const ops::Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor* residual,
             ops::NormEpilogue epilogue, Tensor& y);
void backward_data(const ops::Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx);
void backward_weights(const ops::Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight);

}  // namespace bitloom::cuda::im2col
