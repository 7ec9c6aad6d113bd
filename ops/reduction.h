#pragma once
// Sums, means and maxima over axes.

#include <span>

#include "engine/tape.h"

namespace bitloom::ops {

/// Over the given axes (all, where empty; the result then has shape [1]). keep: leave extents of 1.
Var reduce_sum(const Var& x, std::span<const int> axes = {}, bool keep = false);
Var reduce_mean(const Var& x, std::span<const int> axes = {}, bool keep = false);
/// The gradient goes to the first maximum in row-major order.
Var reduce_max(const Var& x, std::span<const int> axes = {}, bool keep = false);

}  // namespace bitloom::ops
