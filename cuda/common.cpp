#include "cuda/common.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <string>

namespace bitloom::cuda {

namespace {

/// The kernel's name as it stands in the source, without its parameters' types.
std::string name_of_kernel(const void* kernel) {
    const char* mangled = nullptr;
    if (cudaFuncGetName(&mangled, kernel) != cudaSuccess || !mangled) return "a kernel";
    int status = 0;
    const std::unique_ptr<char, decltype(&std::free)> plain(abi::__cxa_demangle(mangled, nullptr, nullptr, &status),
                                                            &std::free);
    std::string name = status == 0 && plain ? plain.get() : mangled;
    if (const std::size_t parameters = name.rfind('('); parameters != std::string::npos) name.resize(parameters);
    return name;
}

bool waits_for_every_launch() {
    static const bool waits = [] {
        const char* value = std::getenv("BITLOOM_CUDA_SYNC");
        return value && std::string_view(value) == "1";
    }();
    return waits;
}

/// What a block may have without asking.
constexpr std::size_t ordinary_shared_bytes = 48 * 1024;

}  // namespace

void check(cudaError_t status, std::string_view call) {
    if (status == cudaSuccess) return;
    cudaGetLastError();  // the runtime hands every error out once more: this one has been reported
    fail("cuda: ", call, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")");
}

void launch_kernel(Device device, const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                   void** arguments) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    const cudaStream_t queue = stream(device);
    if (shared_bytes > ordinary_shared_bytes) {
        const cudaError_t status =
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes));
        if (status != cudaSuccess)
            check(status, cat(name_of_kernel(kernel), " with ", shared_bytes, " bytes of shared memory"));
    }
    cudaError_t status = cudaLaunchKernel(kernel, grid, block, arguments, shared_bytes, queue);
    if (status == cudaSuccess && waits_for_every_launch() && !capturing(device)) status = cudaStreamSynchronize(queue);
    if (status != cudaSuccess) check(status, name_of_kernel(kernel));
}

}  // namespace bitloom::cuda
