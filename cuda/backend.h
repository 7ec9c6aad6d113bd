#pragma once
// The CUDA backend's front: real in cuda/*.cu, stubs in cuda/no_cuda/.

#include <string>

namespace bitloom::cuda {

/// True where the CUDA backend was compiled in.
bool compiled();
/// GPUs that can be used now; 0 where there is no driver.
int device_count();
/// Registers memory and kernels of GPU `index`, once; called by programs when --device asks for it.
/// Throws Error in one line: built without CUDA, no driver, index out of range.
void install(int index);
/// "built without CUDA", or the GPUs by name.
std::string description();

}  // namespace bitloom::cuda
