#pragma once
// 3x3 convolutions of stride 1 by Winograd's minimal filtering F(2x2, 3x3) (Lavin and Gray, "Fast algorithms for
// convolutional neural networks", 2016): an output tile of 2 x 2 takes 16 multiplications a channel pair where the
// plain sum takes 36, in the forward pass and in both gradients. The transforms multiply by nothing but 1, -1 and 1/2:
// small integers stay exact, and rounding errors are about twice those of the plain sum.

#include "ops/kernels.h"

namespace bitloom::ops::cpu {

/// True where the kernels below compute a pass faster than the plain sums: 3x3, stride, dilation and groups 1, padding
/// of at most 2, both numbers of channels multiples of 16, and enough tiles to pay for the transform of the filters.
/// With bf16 activations the transforms round to bf16 what they give to the products.
bool takes_winograd(const Conv2dGeometry& g, DType activations);

/// y = relu?(convolution [+ bias] [+ residual]). T, the storage of activations, is float or bf16; the rest is f32.
/// Arrays as in ops/kernels.h; `bias` and `residual` may be null; y may be the residual. Every value is one sum in a
/// fixed order.
template <class T>
void winograd_forward(const Conv2dGeometry& g, const T* x, const Tensor& weight, const float* bias, const T* residual,
                      NormEpilogue epilogue, T* y);
template <class T>
void winograd_backward_data(const Conv2dGeometry& g, const T* dy, const Tensor& weight, T* dx);
/// Sums over parts of the batch, in their order (parts_for).
template <class T>
void winograd_backward_weights(const Conv2dGeometry& g, const T* x, const T* dy, float* dweight);

}  // namespace bitloom::ops::cpu
