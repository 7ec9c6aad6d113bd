#pragma once
// Activations with the dynamic quantizer behind them (bsq.md, 4 and 5.6), as transforms of a network's ReLUs.

#include <memory>
#include <string>
#include <vector>

#include "engine/module.h"
#include "quant/bsq/kernels.h"

namespace bitloom::bsq {

/// Takes a ReLU's place: ReLU, ReLU6 or PACT (Choi et al., 2018) with a trained bound, then the quantizer to 2^b - 1 steps of
/// the largest magnitude of the whole batch. Predictions therefore depend on what else is in the batch.
class BsqActivation final : public ActivationTransform {
   public:
    explicit BsqActivation(const ActivationRule& rule, double alpha = 10);
    std::string_view name() const override;
    bool replayable() const override { return true; }
    TransformState state() override;
    Var apply(Context& context, Module& site, const Var& x) override;

    const ActivationRule& rule() const { return rule_; }
    /// Of PACT; its value is undefined for other kinds.
    Parameter& alpha() { return alpha_; }

   private:
    ActivationRule rule_;
    Parameter alpha_;
};

/// relu, relu6, pact. Throws UsageError for another name.
ActivationKind activation_kind(const std::string& name);
/// ReLU6 where there are more than 3 bits, PACT otherwise (2.1).
ActivationKind default_activation(int bits);

struct ActivationOptions {
    ActivationRule blocks{};  ///< of all ReLUs but the first
    ActivationRule stem{};    ///< of the first: plain in V1, ReLU6 and 8 bits in V0
};

/// Sets the transforms on a network's ReLU and ReLU6 modules; a plain ReLU without quantizer keeps its fused path. Returns
/// the paths of PACT's bounds with their parameters. Throws Error where the network has no ReLU and a rule asks for one.
std::vector<std::pair<std::string, Parameter*>> attach_activations(Module& network, const ActivationOptions& options);

}  // namespace bitloom::bsq
