#pragma once
// Pruning as a scheme of the registry.

#include "quant/pruning/pruner.h"
#include "quant/scheme.h"

namespace bitloom::quant::pruning {

class PruningScheme final : public Scheme {
   public:
    explicit PruningScheme(PruningOptions options) : options_(std::move(options)) {}
    std::string name() const override { return "pruning"; }
    int order() const override { return 1; }
    std::string configuration() const override { return to_json(options_); }
    void attach(Module& network) override;
    std::vector<std::shared_ptr<Callback>> callbacks() override { return {pruner_}; }
    /// {"granularity", "schedule", "layers": [{"layer", "weights", "zeros", "latent_zeros", "pruned", "threshold",
    /// "sparsity"}], "weights", "zeros", "sparsity"}
    std::string report(Module& network) const override;

    bool settled() const override { return !pruner_ || pruner_->settled(); }
    void set_log(const std::function<void(const std::string&)>& log) override { log_ = log; }

   private:
    PruningOptions options_;
    std::function<void(const std::string&)> log_;
    std::shared_ptr<Pruner> pruner_;
};

/// "pruning": the options of parse_pruning_options (quant/pruning/pruner.h).
SchemeEntry scheme_entry();

}  // namespace bitloom::quant::pruning
