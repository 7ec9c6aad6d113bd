#include "quant/cpu/kernels.h"

namespace bitloom::quant {

const QuantKernels& cpu_quant_kernels() {
    static const QuantKernels table{
        .apply_mask = cpu::apply_mask,
        .uniform = cpu::uniform,
        .quantize = cpu::quantize,
        .quantize_backward = cpu::quantize_backward,
        .quantize_scaled = cpu::quantize_scaled,
        .batch_norm_quantize = cpu::batch_norm_quantize,
        .batch_norm_quantize_backward = cpu::batch_norm_quantize_backward,
    };
    return table;
}

}  // namespace bitloom::quant
