#pragma once
// The kernel tables that register_scheme_tables registers.

#include "quant/bsq/kernels.h"
#include "quant/kernels.h"

namespace bitloom::cuda {

const quant::QuantKernels& quant_kernel_table();  // cuda/quant/table.cpp
const bsq::BsqKernels& bsq_kernel_table();        // cuda/quant/bit_planes.cu

}  // namespace bitloom::cuda
