#pragma once
// Operations and weights of a network, as the published comparison counts them (svhn-qkeras.md, section 5.11).

#include <cstdint>
#include <string>
#include <vector>

#include "quant/cost/network.h"

namespace bitloom::cost {

/// Which layers count. `by_name` is the published rule: names with "dense" or "fc", and names with "conv" but without
/// "pad", "bn", "relu" or "concat"; never names with "act". `by_kind`: every convolution and dense layer.
enum class FlopRule { by_kind, by_name };

struct LayerFlops {
    std::string name;
    std::int64_t flops = 0;    ///< 2 a multiplication; a bias counts once a channel, not once a pixel
    std::int64_t weights = 0;  ///< bias included
};

/// The layers that count, in order. Normalisation and pooling do not.
std::vector<LayerFlops> count_flops(const CostNetwork& network, FlopRule rule = FlopRule::by_kind);
std::int64_t total_flops(const std::vector<LayerFlops>& layers);

}  // namespace bitloom::cost
