#pragma once
// The two ways to compute a network: in f32, or with bf16 activations beside f32 parameters.

#include <string_view>

#include "engine/device.h"
#include "engine/dtype.h"

namespace bitloom::ops {

/// The dtype of images, and with it of all activations, by the name of a precision: fp32 or bf16. Parameters,
/// statistics, their gradients, the last layer and the loss are f32 in both. Throws UsageError for another name.
DType activation_dtype(std::string_view precision);

/// Throws Error where the device is a CPU that cannot multiply bf16: it would be slower than f32.
void require_precision(DType activations, Device device);

}  // namespace bitloom::ops
