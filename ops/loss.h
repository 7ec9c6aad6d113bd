#pragma once
// Softmax and cross-entropy.

#include "engine/tape.h"

namespace bitloom::ops {

/// Over the last axis.
Var softmax(const Var& x);
Var log_softmax(const Var& x);
/// Mean over the batch of logsumexp(z) - z[label]; logits [B, classes], labels i32 [B] on the same device. Scalar, shape [1].
/// Throws Error for a label outside [0, classes) (host devices only).
Var cross_entropy(const Var& logits, const Tensor& labels);
/// Per-sample losses [B], outside the tape.
Tensor cross_entropy_per_sample(const Tensor& logits, const Tensor& labels);

}  // namespace bitloom::ops
