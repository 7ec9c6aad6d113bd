#include "ops/kernels.h"

namespace bitloom::ops {

namespace {
std::array<const OpKernels*, device_kind_count>& tables() {
    static std::array<const OpKernels*, device_kind_count> t{&cpu_op_kernels(), &reference_op_kernels(), nullptr};
    return t;
}
}  // namespace

const OpKernels& op_kernels(Device device) {
    const OpKernels* table = tables()[static_cast<int>(device.kind)];
    require(table, "device ", device, ": this build has no such backend");
    return *table;
}

void register_op_kernels(DeviceKind kind, const OpKernels& table) { tables()[static_cast<int>(kind)] = &table; }

}  // namespace bitloom::ops
