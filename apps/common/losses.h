#pragma once
// Loss functions of the trainer, from the operations.

#include "engine/train/trainer.h"

namespace bitloom {

/// Mean cross-entropy of the logits against the batch's labels.
LossFunction cross_entropy_loss();

}  // namespace bitloom
