#include "ops/precision.h"

#include "engine/error.h"
#include "ops/cpu/onednn.h"

namespace bitloom::ops {

DType activation_dtype(std::string_view precision) {
    if (precision == "fp32") return DType::f32;
    if (precision == "bf16") return DType::bf16;
    throw UsageError(cat("unknown precision '", precision, "' (fp32, bf16)"));
}

void require_precision(DType activations, Device device) {
    if (activations != DType::bf16 || device.kind != DeviceKind::cpu) return;
    require(cpu::onednn::multiplies_bf16(), "precision bf16: this CPU has neither AVX-512-BF16 nor AMX (oneDNN uses ",
            cpu::onednn::instruction_set(), "); use fp32");
}

}  // namespace bitloom::ops
