#include "quant/reference/kernels.h"

namespace bitloom::quant {

const QuantKernels& reference_quant_kernels() {
    static const QuantKernels table{
        .apply_mask = reference::apply_mask,
    };
    return table;
}

}  // namespace bitloom::quant
