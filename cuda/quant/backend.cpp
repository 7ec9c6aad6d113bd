#include "cuda/quant/backend.h"

#include "cuda/quant/tables.h"

namespace bitloom::cuda {

void register_scheme_tables() {
    quant::register_quant_kernels(DeviceKind::cuda, quant_kernel_table());
    bsq::register_bsq_kernels(DeviceKind::cuda, bsq_kernel_table());
}

}  // namespace bitloom::cuda
