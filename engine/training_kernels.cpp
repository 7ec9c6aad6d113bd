#include "engine/training_kernels.h"

#include <array>

namespace bitloom {

namespace {

std::array<const TrainingKernels*, device_kind_count>& tables() {
    static std::array<const TrainingKernels*, device_kind_count> t{};
    return t;
}

}  // namespace

const TrainingKernels* training_kernels(Device device) { return tables()[static_cast<std::size_t>(device.kind)]; }

std::unique_ptr<DeviceLane> open_lane(Device device) {
    const TrainingKernels* kernels = training_kernels(device);
    return kernels && kernels->open_lane ? kernels->open_lane(device) : nullptr;
}

void register_training_kernels(DeviceKind kind, const TrainingKernels& table) {
    tables()[static_cast<std::size_t>(kind)] = &table;
}

}  // namespace bitloom
