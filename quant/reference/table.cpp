#include "quant/reference/kernels.h"

namespace bitloom::quant {

const QuantKernels& reference_quant_kernels() {
    static const QuantKernels table{
        .apply_mask = reference::apply_mask,
        .uniform = reference::uniform,
        .quantize = reference::quantize,
        .quantize_backward = reference::quantize_backward,
        .quantize_scaled = reference::quantize_scaled,
        .batch_norm_quantize = reference::batch_norm_quantize,
        .batch_norm_quantize_backward = reference::batch_norm_quantize_backward,
    };
    return table;
}

}  // namespace bitloom::quant
