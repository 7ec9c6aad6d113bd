#pragma once
// Operations that move elements: concat, slice, pad, reshape, transpose.

#include <span>
#include <vector>

#include "engine/tape.h"

namespace bitloom::ops {

/// x in another floating-point type; x itself where it has that type. The gradient is cast back to x's type (that of
/// rounding is taken as the identity).
Var cast(const Var& x, DType dtype);

/// Joins along `axis`; all other extents agree.
Var concat(std::span<const Var> inputs, int axis);
/// Elements start, start + step, ... below stop of each axis (rank entries each; step >= 1).
Var slice(const Var& x, std::span<const std::int64_t> start, std::span<const std::int64_t> stop,
          std::span<const std::int64_t> step);
/// Constant padding, (before, after) an axis.
Var pad(const Var& x, std::span<const std::pair<std::int64_t, std::int64_t>> amounts, double value = 0);
/// One extent may be -1. Shares storage.
Var reshape(const Var& x, std::span<const std::int64_t> extents);
/// [N, ...] -> [N, rest], row-major (h, w, c).
Var flatten(const Var& x);
/// Output axis i is input axis permutation[i].
Var transpose(const Var& x, std::span<const int> permutation);
/// The same of a tensor, off the tape.
Tensor transposed(const Tensor& x, std::initializer_list<int> permutation);

}  // namespace bitloom::ops
