#pragma once
// Starting a network from a trained one whose layers have other widths (svhn-qkeras.md, 5.8: the search changes filters and
// units, and most shapes with them).

#include "engine/io/checkpoint.h"
#include "engine/module.h"

namespace bitloom::search {

/// Values for `network`, a chain of convolutions, dense layers and batch norms, from a checkpoint of the same chain with
/// other widths. A layer that got narrower keeps the channels that weigh most: |gamma| of the batch norm behind, times the sum
/// of the next layer's |weights| that read the channel. A wider one keeps all, and its further channels have the network's
/// own values. What the checkpoint lacks, or holds with another kernel size, keeps the network's own value too. Where all
/// widths agree the values are the checkpoint's.
Checkpoint transferred_widths(Module& network, const Checkpoint& source);

}  // namespace bitloom::search
