#pragma once
// Runs a network in inference over a loader.

#include <atomic>
#include <cstdint>
#include <functional>

#include "engine/data/loader.h"
#include "engine/module.h"
#include "engine/train/metrics.h"

namespace bitloom {

struct EvaluateOptions {
    /// Sees each batch's logits [B, classes], in the loader's order.
    std::function<void(const Tensor& logits, const Batch& batch)> sink{};
    /// Called after each batch with the number of samples done.
    std::function<void(std::int64_t samples)> progress{};
};

/// Metrics of `model` over all batches of `loader` (epoch 0). Batch norm, dropout and the like are in inference; the
/// sums do not depend on how the samples are cut into batches, up to the rounding of the kernels.
ClassificationMetrics evaluate(Module& model, Loader& loader, const EvaluateOptions& options = {});

}  // namespace bitloom
