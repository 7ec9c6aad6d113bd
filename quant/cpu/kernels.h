#pragma once
// The schemes' kernels of the `cpu` device: vectorised loops over OpenMP threads. All compute in f32;
// activations of quantize, batch_norm_quantize and their gradients may be kept as bf16. Contracts: quant/kernels.h.

#include "ops/kernel_function.h"
#include "quant/kernels.h"

namespace bitloom::quant::cpu {

// mask.cpp
ops::KernelFunction<&QuantKernels::apply_mask> apply_mask;

// element.cpp
ops::KernelFunction<&QuantKernels::uniform> uniform;
ops::KernelFunction<&QuantKernels::quantize> quantize;
ops::KernelFunction<&QuantKernels::quantize_backward> quantize_backward;

// scale.cpp
ops::KernelFunction<&QuantKernels::quantize_scaled> quantize_scaled;

// batch_norm.cpp
ops::KernelFunction<&QuantKernels::batch_norm_quantize> batch_norm_quantize;
ops::KernelFunction<&QuantKernels::batch_norm_quantize_backward> batch_norm_quantize_backward;

}  // namespace bitloom::quant::cpu
