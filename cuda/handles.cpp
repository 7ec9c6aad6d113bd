#include "cuda/handles.h"

#include "cuda/lane.h"
#include "engine/allocator.h"
#include "ops/precision.h"

namespace bitloom::cuda {

namespace {

/// What NVIDIA advises for Hopper; Ampere needs an eighth of it.
constexpr std::size_t workspace_bytes = 32 << 20;

/// Memory that lives as long as the lane.
void* workspace_of(Lane& lane) {
    if (!lane.cublas_memory) {
        require(!lane.capturing, "cuda: cuBLAS is used for the first time inside a captured step");
        lane.cublas_memory = allocator_of(lane.device).allocate(workspace_bytes);
    }
    return lane.cublas_memory;
}

void set_mathematics(Lane& lane) {
    const auto mode = static_cast<cublasMath_t>((lane.cublas_tf32 ? CUBLAS_TF32_TENSOR_OP_MATH : CUBLAS_DEFAULT_MATH) |
                                                CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
    check(cublasSetMathMode(lane.cublas, mode), "cublasSetMathMode");
}

}  // namespace

void check(cublasStatus_t status, std::string_view call) {
    if (status != CUBLAS_STATUS_SUCCESS)
        fail("cuda: ", call, ": ", cublasGetStatusString(status), " (", cublasGetStatusName(status), ")");
}

cublasHandle_t cublas(Device device) {
    Lane& here = lane(device);
    const bool tf32 = ops::tf32_allowed();
    if (!here.cublas) {
        check(cublasCreate(&here.cublas), "cublasCreate");
        check(cublasSetStream(here.cublas, here.stream), "cublasSetStream");
        // After the stream: setting that one takes the library's own workspace again.
        check(cublasSetWorkspace(here.cublas, workspace_of(here), workspace_bytes), "cublasSetWorkspace");
        here.cublas_tf32 = tf32;
        set_mathematics(here);
    } else if (here.cublas_tf32 != tf32) {
        here.cublas_tf32 = tf32;
        set_mathematics(here);
    }
    return here.cublas;
}

cublasLtHandle_t cublas_lt(Device device) {
    Lane& here = lane(device);
    if (!here.cublas_lt) check(cublasLtCreate(&here.cublas_lt), "cublasLtCreate");
    return here.cublas_lt;
}

Workspace cublas_workspace(Device device) { return {workspace_of(lane(device)), workspace_bytes}; }

}  // namespace bitloom::cuda
