#include "quant/kernels.h"

#include <array>

namespace bitloom::quant {

namespace {
std::array<const QuantKernels*, device_kind_count>& tables() {
    static std::array<const QuantKernels*, device_kind_count> t{&cpu_quant_kernels(), &reference_quant_kernels(), nullptr};
    return t;
}
}  // namespace

const QuantKernels& quant_kernels(Device device) {
    const QuantKernels* table = tables()[static_cast<int>(device.kind)];
    require(table, "device ", device, ": this build has no kernels of compression schemes for it");
    return *table;
}

void register_quant_kernels(DeviceKind kind, const QuantKernels& table) { tables()[static_cast<int>(kind)] = &table; }

}  // namespace bitloom::quant
