#include "apps/common/losses.h"

#include "ops/loss.h"

namespace bitloom {

LossFunction cross_entropy_loss() {
    return [](Context&, const Var& logits, const Batch& batch) { return ops::cross_entropy(logits, batch.labels); };
}

}  // namespace bitloom
