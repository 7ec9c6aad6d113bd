#pragma once
// A tensor written in bits (bsq.md, 5.1, 5.2, 5.5): conversions, re-quantization and stripping, on host memory in float32 as
// the published program computes them. They run between epochs; what runs in every step is in kernels.h.

#include <cstdint>
#include <vector>

#include "engine/tensor.h"

namespace bitloom::bsq {

/// value = scale / (2^n - 1) sum_b 2^(n-1-b) (p_b - n_b), where planes are 0 or 1; while training they move in [0, 2].
struct BitTensor {
    Tensor planes;       ///< f32 [n, 2, ...shape]: bit, the most significant first; positive, negative
    float scale = 0;
    bool zero = false;   ///< the value is 0 whatever the planes say (it came with precision 0)

    int bits() const { return static_cast<int>(planes.dim(0)); }
    Shape shape() const;  ///< of the value
    std::int64_t count() const { return shape().numel(); }
};

/// `values` at `bits` bits: scale = max |w|, codes round(|w| (2^n - 1) / scale), half to even (5.2). 0 bits: one bit, all zero.
/// Throws Error for more than max_bits.
BitTensor to_bits(const Tensor& values, int bits);
/// The same of values in [-1, 1] (clamped to it) under a given scale, as fine-tuning leaves them (finetune_to_bit).
BitTensor normalized_to_bits(const Tensor& values, float scale, int bits);
/// From signed codes, |code| < 2^bits. Throws Error for others.
BitTensor from_codes(const std::vector<std::int64_t>& codes, const Shape& shape, float scale, int bits);

/// t = sum_b 2^(n-1-b) / (2^n - 1) (p_b - n_b): the normalised value, neither rounded nor clamped.
Tensor normalized(const BitTensor& tensor);
/// scale * t, neither rounded nor clamped (to_float).
Tensor to_values(const BitTensor& tensor);
/// round(t (2^n - 1)), half to even: exact where the planes are.
std::vector<std::int64_t> codes(const BitTensor& tensor);

/// Writes the planes as exact bits of round(t (2^n - 1)) (5.5 a). Where a code exceeds 2^n - 1, precision grows by one bit
/// while it is below `max_bits` and `grow` allows it (the value stands); otherwise codes are clipped.
BitTensor requantize(const BitTensor& tensor, int max_bits, bool grow = true);
/// The same from t, scale and n.
BitTensor requantize(const Tensor& normalized, float scale, int bits, int max_bits, bool grow = true);
/// Drops most and least significant planes of which at most `threshold` percent differ from zero (5.5 b): exactly zero ones
/// at threshold 0, which leaves the value as it is. One plane always stays. Above 0 a dropped most significant plane is
/// added to all below it (at most 1), and of several such only the last counts, as in the published program; least
/// significant ones are cut off.
BitTensor strip(const BitTensor& tensor, double threshold);
/// Only the first `bits` planes, with the scale as it is (5.9).
BitTensor first_planes(const BitTensor& tensor, int bits);

/// For each plane the percentage of values with p_b != n_b (5.8).
std::vector<double> nonzero_percentages(const BitTensor& tensor);
/// True where every p_b equals its n_b.
bool all_zero(const BitTensor& tensor);

/// The quantizer Q(w) = S round(|w| (2^b - 1) / S) / (2^b - 1) sign(w), S = max |w| (5.3), of the published program's unused
/// weight class; the same function as the dynamic activation quantizer. 0 bits: 0.
Tensor quantize_dynamically(const Tensor& values, int bits);

}  // namespace bitloom::bsq
