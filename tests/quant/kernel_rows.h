#pragma once
// The schemes' kernels on one device beside the CPU and the reference: what every backend's parity tests share
// (tests/quant, tests/quant/qkeras, tests/cuda_emulation, tests/gpu).

#include <string>
#include <vector>

#include "engine/device.h"
#include "quant/bsq/kernels.h"
#include "quant/kernels.h"
#include "quant/qkeras/quantize.h"

namespace bitloom::quant::test {

/// How a device's exponentials, logarithms and hyperbolic tangents agree with the host's.
enum class Library {
    same,  ///< to the bit
    other  ///< but for the last place: a few codes may fall to the other side of an edge
};

/// One quantizer at work on one shape.
struct QuantizerRow {
    std::string text;
    Shape shape;
    qkeras::Settings settings{};
    bool training = true;
    bool masked = false;
    bool uses_library = false;  ///< takes exponentials, logarithms or hyperbolic tangents of values
};
const std::vector<QuantizerRow>& quantizer_rows();
/// Values, gradients and scales of a row are the CPU's (of the CPU itself: the reference's).
void expect_row(const QuantizerRow& row, Device device, Library library);

/// Streams of uniform numbers are those of the reference. Null: no counter in device memory.
void expect_uniform_stream(Device device, const Tensor* device_counter);

/// Batch normalisation with a step-wise ReLU in its passes: the bits of the single passes, and the values of the reference
/// but for those at the edge of a step.
void expect_fused_norm(Device device);

/// Activations that are kept as bf16: values and gradients are those of f32, rounded once.
void expect_bf16(Device device);

/// Bit planes, fixed precision, activations and the regulariser: weights and activations are the reference's to the bit,
/// sums are close to it.
void expect_bit_planes(Device device);
void expect_fixed_precision_and_activations(Device device);
void expect_group_lasso(Device device);

/// Calls every kernel of both tables, which work on host memory, with operands in guarded memory: outputs are written
/// whole, nothing beside them, and no input is changed.
void expect_guards_untouched(const QuantKernels& table, const bsq::BsqKernels& bits);

}  // namespace bitloom::quant::test
