#pragma once
// Batch normalisation folded into the weights of the layer in front of it, for inference.

#include <string>
#include <vector>

#include "engine/module.h"

namespace bitloom {

struct FoldingReport {
    struct Kept {
        std::string path, reason;
    };
    std::vector<std::string> folded;  ///< paths of the batch norms that became the identity
    std::vector<Kept> kept;           ///< the others, each with why
};

/// Folds, with the moving averages as they are, each batch norm behind a Conv2d, DepthwiseConv2d or Dense layer whose
/// output nothing else reads: w' = w s, b' = beta + (b - mean) s with s = gamma / sqrt(variance + epsilon), computed in
/// double. A max pooling between the two stays where every s is positive (then the maximum commutes with the
/// normalisation). The layer gains a bias where it had none; the batch norm becomes the identity; its parameters stay.
/// Layers with transforms or hooks, and layers that one pass calls more than once, are kept. `input` is the shape of an
/// input, batch included. The network is for inference afterwards: training it would train both forms.
FoldingReport fold_batch_norm(Module& network, const Shape& input);

/// Whether fold_batch_norm made this batch norm the identity.
bool is_folded(const Module& module);

}  // namespace bitloom
