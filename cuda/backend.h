#pragma once
// The CUDA backend's front: real in cuda/*.cu, stubs in cuda/no_cuda/.

#include <string>

#include "engine/device.h"

namespace bitloom::cuda {

/// True where the CUDA backend was compiled in.
bool compiled();
/// GPUs that can be used now; 0 where there is no driver.
int device_count();
/// Registers memory and kernels of GPU `index`, once; called by programs when --device asks for it.
/// Throws Error in one line: built without CUDA, no driver, index out of range.
void install(int index);
/// Registers the tables of kernels alone, without a GPU, so that one can see what they hold. Does nothing in a build
/// without CUDA.
void register_tables();
/// Waits until the calling thread's work on a GPU is done. Throws Error where some of it failed.
void synchronize(Device device);
/// "built without CUDA", or the GPUs by name.
std::string description();

}  // namespace bitloom::cuda
