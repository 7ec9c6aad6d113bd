#pragma once
// The ways to compute a network: in f32; in f32 with TF32 products on GPUs; with bf16 activations beside f32
// parameters.

#include <string>
#include <string_view>
#include <vector>

#include "engine/device.h"
#include "engine/dtype.h"

namespace bitloom::ops {

/// fp32, tf32, bf16.
const std::vector<std::string>& precision_names();

/// The dtype of images, and with it of all activations, by the name of a precision. Parameters, statistics, their
/// gradients, the last layer and the loss are f32 in all. Throws UsageError for another name.
DType activation_dtype(std::string_view precision);

/// Makes the named precision that of this process from here on. Throws UsageError for another name and for tf32 where
/// the device is no GPU, Error for bf16 where it is a CPU that cannot multiply bf16: it would be slower than f32.
void use_precision(std::string_view precision, Device device);

/// Whether matrix products and convolutions of f32 tensors may round their factors to TF32 (10 bits of fraction) on a
/// GPU. False unless use_precision("tf32", ...) was called.
bool tf32_allowed();

}  // namespace bitloom::ops
