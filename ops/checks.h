#pragma once
// Checks that the front ends of the operations share.

#include <string_view>

#include "engine/tensor.h"

namespace bitloom::ops {

/// Throws Error unless x holds floating-point numbers.
inline void require_float(std::string_view op, const Tensor& x) {
    require(is_floating(x.dtype()), op, ": needs floating-point input, got ", name_of(x.dtype()));
}

/// Throws Error unless `t`, which messages call `name`, has the device and the dtype of the op's first input x: kernels
/// read all operands in one memory and as one type.
inline void require_like(std::string_view op, std::string_view name, const Tensor& t, const Tensor& x) {
    require(t.device() == x.device(), op, ": ", name, " is on ", t.device(), ", input on ", x.device());
    require(t.dtype() == x.dtype(), op, ": ", name, " is ", name_of(t.dtype()), ", input ", name_of(x.dtype()));
}

/// Throws Error unless `t`, a parameter or a statistic beside the activations x, has their device and the dtype that
/// goes with theirs: f32 beside bf16, else the same.
inline void require_parameter(std::string_view op, std::string_view name, const Tensor& t, const Tensor& x) {
    require(t.device() == x.device(), op, ": ", name, " is on ", t.device(), ", input on ", x.device());
    require(t.dtype() == parameter_dtype(x.dtype()), op, ": ", name, " is ", name_of(t.dtype()), ", input ",
            name_of(x.dtype()));
}

/// The same, and unless `t` has the given shape.
inline void require_parameter(std::string_view op, std::string_view name, const Tensor& t, const Shape& shape,
                              const Tensor& x) {
    require(t.shape() == shape, op, ": ", name, " has shape ", t.shape(), ", expected ", shape);
    require_parameter(op, name, t, x);
}

/// Throws Error unless `t` has the given shape, and the device and dtype of x.
inline void require_operand(std::string_view op, std::string_view name, const Tensor& t, const Shape& shape,
                            const Tensor& x) {
    require(t.shape() == shape, op, ": ", name, " has shape ", t.shape(), ", expected ", shape);
    require_like(op, name, t, x);
}

}  // namespace bitloom::ops
