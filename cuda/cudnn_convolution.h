#pragma once
// Convolution by cuDNN. Builds without it take nothing (cuda/no_cudnn).

#include "ops/kernels.h"

namespace bitloom::cuda::cudnn_convolution {

enum class Pass { forward, data, weights };

/// Whether cuDNN can run that pass with these activations: it wants the same padding on both sides and whole tensors.
bool takes(Pass pass, const ops::Conv2dGeometry& g, DType dtype);

/// y = conv(x). Bias and what follows are passes of their own.
void forward(const ops::Conv2dGeometry& g, const Tensor& x, const Tensor& weight, Tensor& y);
void backward_data(const ops::Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx);
/// f32 only: beside bf16 activations cuDNN rounds the filters' gradient to bf16.
void backward_weights(const ops::Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight);

}  // namespace bitloom::cuda::cudnn_convolution
