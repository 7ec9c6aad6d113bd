#include "quant/bsq/kernels.h"

#include <array>

namespace bitloom::bsq {

namespace {
std::array<const BsqKernels*, device_kind_count>& tables() {
    static std::array<const BsqKernels*, device_kind_count> t{&cpu_bsq_kernels(), &reference_bsq_kernels(), nullptr};
    return t;
}
}  // namespace

const BsqKernels& bsq_kernels(Device device) {
    const BsqKernels* table = tables()[static_cast<std::size_t>(device.kind)];
    require(table, "device ", device, ": this build has no kernels of bit planes for it");
    return *table;
}

void register_bsq_kernels(DeviceKind kind, const BsqKernels& table) {
    tables()[static_cast<std::size_t>(kind)] = &table;
}

}  // namespace bitloom::bsq
