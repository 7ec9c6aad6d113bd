#pragma once
// cuDNN of the calling thread.

#include <cudnn.h>

#include "cuda/common.h"

namespace bitloom::cuda {

void check(cudnnStatus_t status, std::string_view call);

/// cuDNN on the calling thread's stream. Workspaces come from `scratch`.
cudnnHandle_t cudnn(Device device);

}  // namespace bitloom::cuda
