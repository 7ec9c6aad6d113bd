#include "quant/pruning/scheme.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "quant/pruning/pruner.h"

namespace bitloom::quant::pruning {

namespace {

class PruningScheme final : public Scheme {
   public:
    explicit PruningScheme(PruningOptions options) : options_(std::move(options)) {}
    std::string name() const override { return "pruning"; }
    std::string configuration() const override { return to_json(options_); }
    void attach(Module& network) override {
        pruner_ = Pruner::attach(
            network, options_, [](const std::string& words) { std::fprintf(stderr, "pruning: %s\n", words.c_str()); });
    }
    std::vector<std::shared_ptr<Callback>> callbacks() override { return {pruner_}; }
    std::string report(Module& network) const override {
        nlohmann::ordered_json json{{"granularity", describe(options_.all.rule)},
                                    {"schedule", describe(options_.all.schedule)},
                                    {"layers", nlohmann::ordered_json::array()}};
        std::int64_t zeros = 0, weights = 0;
        for (const LayerSparsity& layer : sparsity_of(network)) {
            json["layers"].push_back(
                {{"layer", layer.layer},
                 {"weights", layer.weights},
                 {"zeros", layer.zeros},
                 {"latent_zeros", layer.latent_zeros},
                 {"pruned", layer.pruned},
                 {"threshold", layer.threshold},
                 {"sparsity", static_cast<double>(layer.zeros) / static_cast<double>(layer.weights)}});
            zeros += layer.zeros;
            weights += layer.weights;
        }
        json["weights"] = weights;
        json["zeros"] = zeros;
        json["sparsity"] = static_cast<double>(zeros) / static_cast<double>(weights);
        return json.dump();
    }

   private:
    PruningOptions options_;
    std::shared_ptr<Pruner> pruner_;
};

}  // namespace

SchemeEntry scheme_entry() {
    return {
        "pruning",
        "magnitude pruning on a schedule: schedule, initial_sparsity, final_sparsity, begin_step, end_step, frequency, "
        "power, granularity (element, block, channel, N:M), block, block_pooling, gradient (pass, masked), layers, "
        "exclude, overrides, scale_to_run",
        [](const std::string& json) { return std::make_unique<PruningScheme>(parse_pruning_options(json)); }};
}

}  // namespace bitloom::quant::pruning
