#pragma once
// The families of golden cases, one file each. A family adds its patterns; see Families in golden.h.

#include "apps/golden/golden.h"

namespace bitloom::golden {

// qkeras.h5 (svhn-qkeras.md, section 12)
void add_qkeras_quantizers(Families& families);   ///< quantizers/*, stochastic/*
void add_qkeras_third_party(Families& families);  ///< third_party/*, but for QTools and the forgiving factor
void add_qkeras_svhn(Families& families);         ///< svhn/*
void add_qkeras_pruning(Families& families);      ///< pruning/*
void add_qkeras_training(Families& families);     ///< optim/adam/*, callbacks/*, metrics/kfold_roc
void add_qkeras_search(Families& families);       ///< tuner/*, autoq/*
void add_qkeras_qtools(Families& families);       ///< qtools/*, third_party of costs

// bsq.h5 (bsq.md, section 12)
void add_bsq_tensors(Families& families);   ///< convert, requant, prune, activation
void add_bsq_layers(Families& families);    ///< forward_backward, finetune_forward, regularizer, real_layers
void add_bsq_network(Families& families);   ///< network
void add_bsq_training(Families& families);  ///< train_step

}  // namespace bitloom::golden
