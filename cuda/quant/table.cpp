#include "cuda/quant/kernels.h"
#include "cuda/quant/tables.h"

namespace bitloom::cuda {

const quant::QuantKernels& quant_kernel_table() {
    static constexpr quant::QuantKernels table{
        .apply_mask = apply_mask,
        .uniform = uniform,
        .quantize = quantize,
        .quantize_backward = quantize_backward,
        .quantize_scaled = quantize_scaled,
        .batch_norm_quantize = batch_norm_quantize,
        .batch_norm_quantize_backward = batch_norm_quantize_backward,
    };
    return table;
}

}  // namespace bitloom::cuda
