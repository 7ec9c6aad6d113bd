#pragma once
// Batch normalisation over all axes but the last (Ioffe and Szegedy, 2015), with fused epilogues.

#include "engine/tape.h"
#include "ops/kernels.h"

namespace bitloom::ops {

/// y = epilogue(gamma (x - mean) / sqrt(variance + epsilon) + beta [+ residual]) with the batch's biased moments.
/// x [..., C], gamma and beta [C]; `residual` (may be undefined) has x's shape. `mean` and `variance` receive the
/// batch's moments [C], outside the tape: the caller folds them into its moving averages.
Var batch_norm_training(const Var& x, const Var& gamma, const Var& beta, const Var& residual, double epsilon,
                        NormEpilogue epilogue, Tensor& mean, Tensor& variance);

/// The same with given moments, which are constants of the tape.
Var batch_norm_inference(const Var& x, const Var& gamma, const Var& beta, const Var& residual, const Tensor& mean,
                         const Tensor& variance, double epsilon, NormEpilogue epilogue);

}  // namespace bitloom::ops
