// The operations' kernels on CUDA. Those not named here are missing: an op that needs one says so.

#include "cuda/tables.h"

namespace bitloom::cuda {

const ops::OpKernels& op_kernel_table() {
    static constexpr ops::OpKernels table{};
    return table;
}

}  // namespace bitloom::cuda
