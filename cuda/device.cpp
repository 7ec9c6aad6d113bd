#include "cuda/device.h"

#include <cuda_runtime.h>

#include "engine/error.h"

namespace bitloom::cuda {

namespace {

/// Kernels are compiled for this compute capability and, as PTX, for all newer ones (CMake:
/// BITLOOM_CUDA_ARCHITECTURES).
constexpr int oldest_major = 8, oldest_minor = 0;

std::string version_text(int version) { return cat(version / 1000, '.', version % 1000 / 10); }

}  // namespace

Survey survey() {
    Survey machine;
    cudaDriverGetVersion(&machine.driver_version);
    cudaRuntimeGetVersion(&machine.runtime_version);
    const cudaError_t status = cudaGetDeviceCount(&machine.gpus);
    if (status != cudaSuccess) {
        machine.gpus = 0;
        machine.error = cudaGetErrorString(status);
        if (status == cudaErrorNoDevice) machine.error.clear();
        cudaGetLastError();  // reported here, not by the next launch
    }
    return machine;
}

std::string problem_with(const Survey& machine, int index) {
    const std::string device = cat("device cuda:", index, ": ");
    if (machine.driver_version == 0) return device + "this machine has no NVIDIA driver";
    // A driver serves every runtime of its own major version and of older ones.
    if (machine.driver_version / 1000 < machine.runtime_version / 1000)
        return cat(device, "the NVIDIA driver is too old: it serves CUDA ", version_text(machine.driver_version),
                   ", this build needs ", machine.runtime_version / 1000, ".0 or newer");
    if (!machine.error.empty()) return device + machine.error;
    if (machine.gpus == 0) return device + "the NVIDIA driver finds no GPU";
    if (index >= machine.gpus)
        return cat(device, "this machine has ", machine.gpus,
                   machine.gpus == 1 ? " GPU, cuda:0" : cat(" GPUs, cuda:0 to cuda:", machine.gpus - 1));
    return {};
}

std::string problem_with(const std::string& name, int major, int minor, int index) {
    if (major > oldest_major || (major == oldest_major && minor >= oldest_minor)) return {};
    return cat("device cuda:", index, ": ", name, " has compute capability ", major, '.', minor, ", this build needs ",
               oldest_major, '.', oldest_minor, " or newer");
}

}  // namespace bitloom::cuda
