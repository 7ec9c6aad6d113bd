#include "engine/optim/kernels.h"

#include <array>

#include "engine/error.h"

namespace bitloom {

namespace {

std::array<const OptimKernels*, device_kind_count>& tables() {
    static std::array<const OptimKernels*, device_kind_count> t{&cpu_optim_kernels, &reference_optim_kernels, nullptr};
    return t;
}

}  // namespace

const OptimKernels& optim_kernels(Device device) {
    const OptimKernels* table = tables()[static_cast<int>(device.kind)];
    require(table, "optimizer: this build has no kernels for device ", device);
    return *table;
}

void register_optim_kernels(DeviceKind kind, const OptimKernels& table) { tables()[static_cast<int>(kind)] = &table; }

}  // namespace bitloom
