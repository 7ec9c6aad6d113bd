#pragma once
// Fully connected layers.

#include "engine/tape.h"

namespace bitloom::ops {

/// y = x w^T (+ bias). x [B, in], weight [out, in], bias [out] (may be an undefined Var); y [B, out].
Var dense(const Var& x, const Var& weight, const Var& bias);

/// x + bias along the last axis: the sum before the bias can be kept while biases are probed.
Var bias_add(const Var& x, const Var& bias);

}  // namespace bitloom::ops
