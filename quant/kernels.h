#pragma once
// The kernel table of the schemes: one a device, in the manner of ops/kernels.h. `quant/reference` (plain loops, f32
// and f64) and `quant/cpu` (f32) fill it; a CUDA backend that lacks a kernel leaves it null, and its use is then an
// Error that names it. Callers check shapes and allocate outputs; kernels compute. Every output is written whole. All
// sources compile without contraction to fused multiply-add: where a quantizer rounds is part of its definition.

#include <string_view>

#include "engine/kernel_list.h"
#include "engine/random.h"
#include "engine/tensor.h"
#include "quant/element.h"
#include "quant/scaled_codes.h"

namespace bitloom::quant {

struct QuantKernels {
    /// y = x * mask, element by element; mask of x's shape and dtype. y may be x.
    void (*apply_mask)(const Tensor& x, const Tensor& mask, Tensor& y);

    /// Uniform in [0, 1), 24 bits: element i is that of the stream (engine/random.h).
    void (*uniform)(PhiloxStream, Tensor& y);

    /// y = quantize_element(rule, x), times the mask (optional, x's shape) in the same pass. `draws` (x's shape,
    /// uniform in [0, 1)) only where the rule rounds by chance.
    void (*quantize)(const ElementRule&, const Tensor& x, const Tensor* mask, const Tensor* draws, Tensor& y);
    /// dx = dy quantize_element_gradient(rule, x), times the mask.
    void (*quantize_backward)(const ElementRule&, const Tensor& x, const Tensor* mask, const Tensor* draws,
                              const Tensor& dy, Tensor& dx);

    /// Quantizers that find their scale. x, y, draws, second (optional: stochastic rules) and gradient (optional,
    /// linear codes: 1 where the clip passes a gradient, else 0) are [cells, inner]: a run of `inner` elements has one
    /// scale. `groups` (i32 [cells], optional) joins cells for least squares; `given` (optional, [cells]) holds scales
    /// of ScaleSource::given. `scale` [cells] receives the scales.
    void (*quantize_scaled)(const ScaleRule&, const Tensor& x, const Tensor* groups, const Tensor* given,
                            const Tensor* draws, const Tensor* second, Tensor& y, Tensor& scale, Tensor* gradient);

    /// Batch normalisation over all axes but the last with a step-wise ReLU (ElementKind::relu without slope or cap) as
    /// its epilogue: y = quantize_element(rule, gamma (x - mean) / sqrt(variance + epsilon) + beta [+ residual]). In
    /// training the moments are the batch's biased ones, which mean and variance receive; else they are given. `map`
    /// [3, C] receives the affine map in front of the quantizer, (x - map[0]) map[1] + map[2].
    void (*batch_norm_quantize)(const ElementRule&, bool training, const Tensor& x, const Tensor& gamma,
                                const Tensor& beta, const Tensor* residual, double epsilon, Tensor& mean,
                                Tensor& variance, Tensor& y, Tensor& map);
    /// Its gradients, through the rule's surrogate. What the quantizer saw is computed anew from x, the residual and
    /// the map, so that y need not be kept: the passes over memory are those of batch norm and ReLU (y is not read;
    /// with a residual, the residual is read in its place). dx and dresidual are optional.
    void (*batch_norm_quantize_backward)(const ElementRule&, bool training, const Tensor& dy, const Tensor& x,
                                         const Tensor* residual, const Tensor& gamma, const Tensor& mean,
                                         const Tensor& variance, const Tensor& map, double epsilon, Tensor* dx,
                                         Tensor* dresidual, Tensor& dgamma, Tensor& dbeta);
};

/// Every kernel of the table, for comparisons and lists of what a backend lacks.
inline constexpr auto quant_kernel_list =
    std::tuple{NamedKernel{"apply_mask", &QuantKernels::apply_mask},
               NamedKernel{"uniform", &QuantKernels::uniform},
               NamedKernel{"quantize", &QuantKernels::quantize},
               NamedKernel{"quantize_backward", &QuantKernels::quantize_backward},
               NamedKernel{"quantize_scaled", &QuantKernels::quantize_scaled},
               NamedKernel{"batch_norm_quantize", &QuantKernels::batch_norm_quantize},
               NamedKernel{"batch_norm_quantize_backward", &QuantKernels::batch_norm_quantize_backward}};
static_assert(sizeof(QuantKernels) == std::tuple_size_v<decltype(quant_kernel_list)> * sizeof(void*),
              "list a new kernel here too");

/// Calls f(name, member pointer) for every kernel of the table.
template <class F>
void for_each_kernel(F&& f) {
    for_each_entry(quant_kernel_list, f);
}

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
