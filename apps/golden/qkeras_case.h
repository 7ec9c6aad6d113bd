#pragma once
// What the golden cases of QKeras share: quantizers from attributes, and their evaluation on every host device.

#include <array>
#include <string>

#include "apps/golden/golden.h"
#include "quant/qkeras/quantize.h"

namespace bitloom::golden {

/// Devices on which a quantizer must agree with the file: the fast kernels and their yardstick, both in single precision.
inline constexpr std::array<Device, 2> quantizer_devices{cpu_device, reference_device};

/// A quantizer by name with the case's attributes as arguments, but for remarks. Throws for an attribute that it does
/// not have.
quant::qkeras::Quantizer quantizer_from(const Case& c, const std::string& name);

/// The global switches that a case names: `sigmoid` or `sigmoid_type`, `compat`.
quant::qkeras::Settings settings_from(const Case& c);

/// y, d sum(y) / dx, scale.
struct Evaluated {
    Tensor y, gradient;
    quant::qkeras::Quantized quantized;
};
Evaluated evaluate_quantizer(const quant::qkeras::TensorQuantizer& quantizer, const Tensor& x, Device device,
                             quant::qkeras::Pass pass = {});

}  // namespace bitloom::golden
