#include "quant/cost/flops.h"

#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace bitloom::cost {

namespace {

bool contains_any(const std::string& name, std::initializer_list<std::string_view> parts) {
    return std::any_of(parts.begin(), parts.end(),
                       [&](std::string_view part) { return name.find(part) != std::string::npos; });
}

bool counts(const CostLayer& layer, FlopRule rule) {
    if (!layer.has_kernel()) return false;
    if (rule == FlopRule::by_kind) return true;
    if (contains_any(layer.name, {"act"})) return false;
    if (contains_any(layer.name, {"dense", "fc"})) return true;
    return contains_any(layer.name, {"conv"}) && !contains_any(layer.name, {"pad", "bn", "relu", "concat"});
}

}  // namespace

std::vector<LayerFlops> count_flops(const CostNetwork& network, FlopRule rule) {
    std::vector<LayerFlops> layers;
    for (const CostLayer& layer : network.layers) {
        if (!counts(layer, rule)) continue;
        const std::int64_t bias = layer.bias ? layer.kernel[-1] : 0;
        layers.push_back({layer.name, 2 * operation_count(layer) + bias, layer.kernel.numel() + bias});
    }
    return layers;
}

std::int64_t total_flops(const std::vector<LayerFlops>& layers) {
    std::int64_t sum = 0;
    for (const LayerFlops& layer : layers) sum += layer.flops;
    return sum;
}

}  // namespace bitloom::cost
