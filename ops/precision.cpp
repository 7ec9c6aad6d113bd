#include "ops/precision.h"

#include <algorithm>
#include <atomic>

#include "engine/error.h"
#include "ops/cpu/onednn.h"

namespace bitloom::ops {

namespace {

std::atomic<bool> tf32{false};

void check_name(std::string_view precision) {
    const std::vector<std::string>& names = precision_names();
    if (std::find(names.begin(), names.end(), precision) == names.end())
        throw UsageError(cat("unknown precision '", precision, "' (fp32, tf32, bf16)"));
}

}  // namespace

const std::vector<std::string>& precision_names() {
    static const std::vector<std::string> names{"fp32", "tf32", "bf16"};
    return names;
}

DType activation_dtype(std::string_view precision) {
    check_name(precision);
    return precision == "bf16" ? DType::bf16 : DType::f32;
}

void use_precision(std::string_view precision, Device device) {
    check_name(precision);
    if (precision == "tf32" && device.kind != DeviceKind::cuda)
        throw UsageError(cat("precision tf32: needs --device cuda, not ", device, "; use fp32"));
    if (precision == "bf16" && device.kind == DeviceKind::cpu)
        require(cpu::onednn::multiplies_bf16(),
                "precision bf16: this CPU has neither AVX-512-BF16 nor AMX (oneDNN uses ",
                cpu::onednn::instruction_set(), "); use fp32");
    tf32.store(precision == "tf32", std::memory_order_relaxed);
}

bool tf32_allowed() { return tf32.load(std::memory_order_relaxed); }

}  // namespace bitloom::ops
