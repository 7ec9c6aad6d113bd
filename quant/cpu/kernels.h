#pragma once
// The schemes' kernels of the `cpu` device: vectorised loops over OpenMP threads. All compute in f32;
// activations of quantize, batch_norm_quantize and their gradients may be kept as bf16. Contracts: quant/kernels.h.

#include "quant/kernels.h"

namespace bitloom::quant::cpu {

// mask.cpp
void apply_mask(const Tensor& x, const Tensor& mask, Tensor& y);

// element.cpp
void uniform(PhiloxStream, Tensor& y);
void quantize(const ElementRule&, const Tensor& x, const Tensor* mask, const Tensor* draws, Tensor& y);
void quantize_backward(const ElementRule&, const Tensor& x, const Tensor* mask, const Tensor* draws, const Tensor& dy,
                       Tensor& dx);

// scale.cpp
void quantize_scaled(const ScaleRule&, const Tensor& x, const Tensor* groups, const Tensor* given, const Tensor* draws,
                     const Tensor* second, Tensor& y, Tensor& scale, Tensor* gradient);

// batch_norm.cpp
void batch_norm_quantize(const ElementRule&, bool training, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                         const Tensor* residual, double epsilon, Tensor& mean, Tensor& variance, Tensor& y, Tensor& map);
void batch_norm_quantize_backward(const ElementRule&, bool training, const Tensor& dy, const Tensor& x,
                                  const Tensor* residual, const Tensor& gamma, const Tensor& mean, const Tensor& variance,
                                  const Tensor& map, double epsilon, Tensor* dx, Tensor* dresidual, Tensor& dgamma,
                                  Tensor& dbeta);

}  // namespace bitloom::quant::cpu
