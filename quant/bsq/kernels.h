#pragma once
// The kernel table of bit planes (bsq.md, 5): one a device, in the manner of ops/kernels.h. Callers check shapes and
// allocate outputs; every output is written whole. Planes are [n, 2, ...]: bit by bit, the most significant first, the
// positive plane before the negative one, so that a group of the regulariser is one run of memory and a stripped
// precision a run of the leading axis. No kernel makes a tensor of bits besides the planes themselves.

#include <span>
#include <string_view>

#include "engine/kernel_list.h"
#include "engine/tensor.h"
#include "quant/bsq/element.h"

namespace bitloom::bsq {

/// The groups of one tensor in the regulariser coefficient sum_b sqrt(1e-8 + S_b), S_b = sum of p_b^2 + n_b^2.
struct GroupNorms {
    const Tensor* sums = nullptr;  ///< S, f64 [n]
    double coefficient = 0;        ///< numel n / (all parameters), or 1 without reweighing
};

struct BsqKernels {
    /// t = sum_b 2^(n-1-b) / (2^n - 1) (p_b - n_b), factors in float32, MSB first; weights = scale Q(t). `sums`
    /// (optional, f64 [n]): S_b of the same pass.
    void (*planes_to_weights)(const QuantizationRule&, const Tensor& planes, const Tensor& scale, Tensor& weights,
                              Tensor* sums);
    /// Straight through rounding, clamp and zero flag: dp_b = 2^(n-1-b) / (2^n - 1) scale dweights, dn_b = -dp_b,
    /// dscale = sum of dweights Q(t). Where `norms` is given, its gradient times the one element of `dnorm` is added in
    /// the same pass.
    void (*planes_backward)(const QuantizationRule&, const Tensor& planes, const Tensor& scale, const Tensor& dweights,
                            const GroupNorms* norms, const Tensor* dnorm, Tensor& dplanes, Tensor& dscale);
    /// S_b alone, where no weights are wanted.
    void (*plane_norms)(const Tensor& planes, Tensor& sums);
    /// value = factor * sum over rows of coefficient sum_b sqrt(1e-8 + S_b); one element.
    void (*group_lasso)(std::span<const GroupNorms> rows, double factor, Tensor& value);

    /// weights = scale Q(x), and its straight-through backward: dx = scale dweights, dscale = sum of dweights Q(x).
    void (*fixed_to_weights)(const QuantizationRule&, const Tensor& x, const Tensor& scale, Tensor& weights);
    void (*fixed_backward)(const QuantizationRule&, const Tensor& x, const Tensor& scale, const Tensor& dweights,
                           Tensor& dx, Tensor& dscale);

    /// The activation, then S round(y (2^b - 1) / S) / (2^b - 1) with S = max |y| over the whole tensor: multiplied,
    /// divided, rounded half to even, divided, multiplied.
    void (*activation_forward)(const ActivationRule&, const Tensor& x, const Tensor* alpha, Tensor& y);
    /// Identity through the quantizer. dalpha (pact) is optional.
    void (*activation_backward)(const ActivationRule&, const Tensor& x, const Tensor* alpha, const Tensor& dy,
                                Tensor& dx, Tensor* dalpha);
};

/// Every kernel of the table, for comparisons and lists of what a backend lacks.
inline constexpr auto bsq_kernel_list =
    std::tuple{NamedKernel{"planes_to_weights", &BsqKernels::planes_to_weights},
               NamedKernel{"planes_backward", &BsqKernels::planes_backward},
               NamedKernel{"plane_norms", &BsqKernels::plane_norms},
               NamedKernel{"group_lasso", &BsqKernels::group_lasso},
               NamedKernel{"fixed_to_weights", &BsqKernels::fixed_to_weights},
               NamedKernel{"fixed_backward", &BsqKernels::fixed_backward},
               NamedKernel{"activation_forward", &BsqKernels::activation_forward},
               NamedKernel{"activation_backward", &BsqKernels::activation_backward}};
static_assert(sizeof(BsqKernels) == std::tuple_size_v<decltype(bsq_kernel_list)> * sizeof(void*),
              "list a new kernel here too");

/// Calls f(name, member pointer) for every kernel of the table.
template <class F>
void for_each_kernel(F&& f) {
    for_each_entry(bsq_kernel_list, f);
}

/// The table of a device. Throws Error for a backend that is not installed.
const BsqKernels& bsq_kernels(Device device);
void register_bsq_kernels(DeviceKind kind, const BsqKernels& table);

/// `kernel(x.device(), "name", &BsqKernels::name)`: the pointer, or an Error saying which kernel the device lacks.
template <class K>
K kernel(Device device, std::string_view name, K BsqKernels::*member) {
    K found = bsq_kernels(device).*member;
    require(found != nullptr, "bsq ", name, ": device ", device, " has no such kernel");
    return found;
}

const BsqKernels& reference_bsq_kernels();  // plain loops, f32 and f64
const BsqKernels& cpu_bsq_kernels();        // f32, vectors, OpenMP

}  // namespace bitloom::bsq
