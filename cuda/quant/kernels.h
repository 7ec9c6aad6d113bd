#pragma once
// The schemes' kernels of the `cuda` device. All compute in f32; activations of quantize, batch_norm_quantize and their
// gradients may be kept as bf16. Contracts: quant/kernels.h, quant/bsq/kernels.h. The rules are those that
// the CPU compiles (quant/element.h, quant/scaled_codes.h, quant/bsq/element.h) and are compiled without contraction, so
// codes are the CPU's bit for bit; where a rule takes an exponential, a logarithm or a hyperbolic tangent, two libraries may
// differ in its last place. Sums run in an order that depends on the shape alone.

#include "quant/kernels.h"

namespace bitloom::cuda {

using namespace quant;

// element.cu
void apply_mask(const Tensor& x, const Tensor& mask, Tensor& y);
void uniform(PhiloxStream, Tensor& y);
void quantize(const ElementRule&, const Tensor& x, const Tensor* mask, const Tensor* draws, Tensor& y);
void quantize_backward(const ElementRule&, const Tensor& x, const Tensor* mask, const Tensor* draws, const Tensor& dy,
                       Tensor& dx);

// scale.cu
void quantize_scaled(const ScaleRule&, const Tensor& x, const Tensor* groups, const Tensor* given, const Tensor* draws,
                     const Tensor* second, Tensor& y, Tensor& scale, Tensor* gradient);

// batch_norm.cu
void batch_norm_quantize(const ElementRule&, bool training, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                         const Tensor* residual, double epsilon, Tensor& mean, Tensor& variance, Tensor& y, Tensor& map);
void batch_norm_quantize_backward(const ElementRule&, bool training, const Tensor& dy, const Tensor& x,
                                  const Tensor* residual, const Tensor& gamma, const Tensor& mean, const Tensor& variance,
                                  const Tensor& map, double epsilon, Tensor* dx, Tensor* dresidual, Tensor& dgamma,
                                  Tensor& dbeta);

}  // namespace bitloom::cuda
