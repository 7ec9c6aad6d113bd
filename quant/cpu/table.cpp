#include "quant/cpu/kernels.h"

namespace bitloom::quant {

const QuantKernels& cpu_quant_kernels() {
    static const QuantKernels table{
        .apply_mask = cpu::apply_mask,
    };
    return table;
}

}  // namespace bitloom::quant
