#pragma once
// The schemes' kernels of the `reference` device: plain loops over f32 and f64. Contracts: quant/kernels.h.

#include "ops/kernel_function.h"
#include "quant/kernels.h"

namespace bitloom::quant::reference {

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

}  // namespace bitloom::quant::reference
