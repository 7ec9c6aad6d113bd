#pragma once
// BSQ as a scheme of the registry: any program with --scheme trains any network in bit planes.

#include "quant/bsq/activation.h"
#include "quant/bsq/schedule.h"
#include "quant/scheme.h"

namespace bitloom::bsq {

struct SchemeOptions {
    int bits = 8;                      ///< of every weight and bias at first
    double alpha = 0.01;               ///< strength of the group Lasso; 0: none
    bool reweigh = true;
    std::int64_t interval = 50;        ///< epochs between adjustments
    double threshold = 0;              ///< percent
    bool keep_momentum = false;
    int activation_bits = 0;           ///< 0: not quantized
    std::string activation = "relu";   ///< of the blocks: relu, relu6, pact
    bool quantize_shortcut = false, grow = true, forward_clamp = true;
};
/// Reads a JSON object with these names. Throws UsageError naming the key for another one or a value out of bounds.
SchemeOptions scheme_options_from_json(const std::string& json);
std::string to_json(const SchemeOptions& options);

class BsqScheme final : public quant::Scheme {
   public:
    explicit BsqScheme(SchemeOptions options) : options_(std::move(options)) {}
    std::string name() const override { return "bsq"; }
    std::string configuration() const override { return to_json(options_); }
    void attach(Module& network) override;
    void fit_to(const Checkpoint& checkpoint) override;
    std::vector<std::shared_ptr<Callback>> callbacks() override;
    std::vector<LossTerm> loss_terms() override;
    /// {"precision": {layer: [bits, bias bits]}, "parameters", "bits", "bits_per_parameter", "compression", and the same with
    /// all-zero tensors at 0 bits}
    std::string report(Module& network) const override;
    void set_log(const std::function<void(const std::string&)>& log) override { log_ = log; }

   private:
    SchemeOptions options_;
    std::function<void(const std::string&)> log_;
    std::unique_ptr<BitNetwork> bits_;
};

quant::SchemeEntry scheme_entry();

}  // namespace bitloom::bsq
