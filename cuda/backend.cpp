#include "cuda/backend.h"

#include <mutex>
#include <set>

#include "cuda/common.h"
#include "cuda/device.h"
#include "cuda/lane.h"
#include "cuda/tables.h"

namespace bitloom::cuda {

namespace {

Properties ask_properties(int index, std::string& name) {
    cudaDeviceProp given;
    check(cudaGetDeviceProperties(&given, index), cat("asking for the properties of cuda:", index));
    name = given.name;
    Properties properties;
    properties.multiprocessors = given.multiProcessorCount;
    properties.major = given.major;
    properties.minor = given.minor;
    properties.shared_per_block = given.sharedMemPerBlockOptin;
    properties.shared_per_multiprocessor = given.sharedMemPerMultiprocessor;
    properties.l2_bytes = static_cast<std::size_t>(given.l2CacheSize);
    properties.memory_bytes = given.totalGlobalMem;
    return properties;
}

}  // namespace

bool compiled() { return true; }

int device_count() { return survey().gpus; }

void register_tables() {
    register_engine_kernels(DeviceKind::cuda, engine_kernel_table());
    register_training_kernels(DeviceKind::cuda, training_kernel_table());
    ops::register_op_kernels(DeviceKind::cuda, op_kernel_table());
    register_optim_kernels(DeviceKind::cuda, optim_kernel_table());
}

void install(int index) {
    static std::mutex mutex;
    static std::set<int> installed;
    std::lock_guard lock(mutex);
    if (installed.contains(index)) return;
    if (const std::string problem = problem_with(survey(), index); !problem.empty()) throw Error(problem);
    std::string name;
    const Properties properties = ask_properties(index, name);
    if (const std::string problem = problem_with(name, properties.major, properties.minor, index); !problem.empty())
        throw Error(problem);
    const Device device{DeviceKind::cuda, index};
    add_gpu(device, properties);
    register_tables();
    installed.insert(index);
}

std::string description() {
    std::string text;
    for (int i = 0; i < device_count(); ++i) {
        cudaDeviceProp properties;
        if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) continue;
        text += (text.empty() ? "" : ", ") + ("cuda:" + std::to_string(i) + " " + properties.name);
    }
    return text.empty() ? "compiled with CUDA, no GPU found" : text;
}

}  // namespace bitloom::cuda
