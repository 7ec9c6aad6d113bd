#pragma once
// Whether this build has cuDNN. What uses it lies in cuda/cudnn/, its stand-ins in cuda/no_cudnn/.

#include <string>

namespace bitloom::cuda {

bool has_cudnn();
/// "9.12.0", or "none".
std::string cudnn_version();

}  // namespace bitloom::cuda
