#pragma once
// Weight codebooks: weights that share a few quantized values (svhn-qkeras.md, section 5.3).

#include "quant/qkeras/quantizer.h"
#include "engine/tensor.h"

namespace bitloom::quant::qkeras {

/// The k values that minimise the sum of squared distances of `values` to the nearest (exact k-means in one dimension, by
/// dynamic programming over the sorted values), ascending. Fewer where there are fewer distinct values.
std::vector<double> optimal_centres(std::vector<double> values, std::int64_t k);

/// Separately for each index of `axis` (an axis just behind the last counts as one of length 1): 2^bits centres of all values,
/// as a column through the quantizer, sorted; each weight takes the nearest quantized centre. Throws Error for an axis that
/// does not exist and for more than 2^12 centres.
Tensor codebook_weights(const Tensor& weights, std::int64_t bits, int axis, const Quantizer& quantizer);

}  // namespace bitloom::quant::qkeras
