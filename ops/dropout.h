#pragma once
// Dropout and drop-path. Masks come from a Philox stream, so the backward pass draws them again instead of saving them.

#include "engine/random.h"
#include "engine/tape.h"

namespace bitloom::ops {

/// Inverted dropout, element-wise: x / (1 - rate) where the element's uniform is >= rate, else 0. rate in [0, 1).
Var dropout(const Var& x, double rate, PhiloxStream stream);
/// Per-sample drop-path (stochastic depth): x[n] / (1 - rate) * floor(1 - rate + uniforms[n]).
Var drop_path(const Var& x, double rate, const std::vector<float>& uniforms);
/// The same with uniforms from a stream: element n of the stream for sample n.
Var drop_path(const Var& x, double rate, PhiloxStream stream);

}  // namespace bitloom::ops
