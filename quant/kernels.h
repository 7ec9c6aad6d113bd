#pragma once
// The kernel table of the schemes: one a device, in the manner of ops/kernels.h. `quant/reference` (plain loops, f32 and
// f64) and `quant/cpu` (f32) fill it; a CUDA backend that lacks a kernel leaves it null, and its use is then an Error that
// names it. Callers check shapes and allocate outputs; kernels compute. Every output is written whole. All sources
// compile without contraction to fused multiply-add: where a quantizer rounds is part of its definition.

#include <string_view>

#include "engine/tensor.h"

namespace bitloom::quant {

struct QuantKernels {
    /// y = x * mask, element by element; mask of x's shape and dtype. y may be x.
    void (*apply_mask)(const Tensor& x, const Tensor& mask, Tensor& y);
};

/// Calls f(name, member pointer) for every kernel of the table, for comparisons and lists of what a backend lacks.
template <class F>
void for_each_kernel(F&& f) {
    f("apply_mask", &QuantKernels::apply_mask);
}
inline constexpr int quant_kernel_count = 1;
static_assert(sizeof(QuantKernels) == quant_kernel_count * sizeof(void*), "list a new kernel in for_each_kernel too");

/// The table of a device. Throws Error for a backend that is not installed.
const QuantKernels& quant_kernels(Device device);
void register_quant_kernels(DeviceKind kind, const QuantKernels& table);

/// `kernel(x.device(), "name", &QuantKernels::name)`: the pointer, or an Error saying which kernel the device lacks.
template <class K>
K kernel(Device device, std::string_view name, K QuantKernels::*member) {
    K found = quant_kernels(device).*member;
    require(found != nullptr, name, ": device ", device, " has no such kernel");
    return found;
}

const QuantKernels& reference_quant_kernels();  // quant/reference
const QuantKernels& cpu_quant_kernels();        // quant/cpu

}  // namespace bitloom::quant
