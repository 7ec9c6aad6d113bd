#pragma once
// cuBLAS and cuBLASLt of the calling thread. (cuDNN, where the build has it: cuda/cudnn/handle.h.)

#include <cublasLt.h>
#include <cublas_v2.h>

#include "cuda/common.h"

namespace bitloom::cuda {

void check(cublasStatus_t status, std::string_view call);

/// Workspace that a cuBLAS or cuBLASLt call may use; it belongs to the thread's stream, so calls share it in order.
struct Workspace {
    void* memory = nullptr;
    std::size_t bytes = 0;
};

/// cuBLAS on the calling thread's stream, with a workspace of its own (so that graphs capture it) and the mathematics
/// of ops::tf32_allowed(): plain fp32, or TF32 in tensor cores. Sums of bf16 products run in fp32.
cublasHandle_t cublas(Device device);
cublasLtHandle_t cublas_lt(Device device);
Workspace cublas_workspace(Device device);

}  // namespace bitloom::cuda
