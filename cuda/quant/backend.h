#pragma once
// The front of the schemes' CUDA kernels: real in cuda/quant, a stub in cuda/no_cuda/quant.

namespace bitloom::cuda {

/// Registers the kernel tables of compression schemes (quant/kernels.h, quant/bsq/kernels.h), which cuda::install and
/// cuda::register_tables know nothing of. Does nothing in a build without CUDA.
void register_scheme_tables();

}  // namespace bitloom::cuda
