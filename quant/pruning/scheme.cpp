#include "quant/pruning/scheme.h"

#include <cstdio>
#include <nlohmann/json.hpp>

namespace bitloom::quant::pruning {

void PruningScheme::attach(Module& network) {
    const auto on_stderr = [](const std::string& words) { std::fprintf(stderr, "pruning: %s\n", words.c_str()); };
    pruner_ = Pruner::attach(network, options_, log_ ? log_ : on_stderr);
}

std::string PruningScheme::report(Module& network) const {
    nlohmann::ordered_json json{{"granularity", describe(options_.all.rule)},
                                {"schedule", describe(pruner_ ? pruner_->schedule() : options_.all.schedule)},
                                {"layers", nlohmann::ordered_json::array()}};
    const auto share = [](std::int64_t part, std::int64_t whole) {
        return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
    };
    std::int64_t zeros = 0, weights = 0;
    for (const LayerSparsity& layer : sparsity_of(network)) {
        json["layers"].push_back({{"layer", layer.layer},
                                  {"weights", layer.weights},
                                  {"zeros", layer.zeros},
                                  {"latent_zeros", layer.latent_zeros},
                                  {"pruned", layer.pruned},
                                  {"threshold", layer.threshold},
                                  {"sparsity", share(layer.zeros, layer.weights)}});
        zeros += layer.zeros;
        weights += layer.weights;
    }
    json["weights"] = weights;
    json["zeros"] = zeros;
    json["sparsity"] = share(zeros, weights);
    return json.dump();
}

SchemeEntry scheme_entry() {
    return {"pruning",
            "magnitude pruning on a schedule: schedule, initial_sparsity, final_sparsity, begin_step, end_step, "
            "frequency, power, granularity (element, block, channel, N:M), block, block_pooling, gradient (pass, "
            "masked), layers, exclude, overrides, scale_to_run",
            [](const std::string& json) { return std::make_unique<PruningScheme>(parse_pruning_options(json)); }};
}

}  // namespace bitloom::quant::pruning
