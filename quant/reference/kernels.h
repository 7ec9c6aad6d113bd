#pragma once
// The schemes' kernels of the `reference` device: plain loops over f32 and f64. Contracts: quant/kernels.h.

#include "quant/kernels.h"

namespace bitloom::quant::reference {

// mask.cpp
void apply_mask(const Tensor& x, const Tensor& mask, Tensor& y);

}  // namespace bitloom::quant::reference
