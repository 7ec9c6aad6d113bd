#pragma once
// The schemes' kernels of the `cpu` device: f32, vectorised loops over OpenMP threads. Contracts: quant/kernels.h.

#include "quant/kernels.h"

namespace bitloom::quant::cpu {

// mask.cpp
void apply_mask(const Tensor& x, const Tensor& mask, Tensor& y);

}  // namespace bitloom::quant::cpu
