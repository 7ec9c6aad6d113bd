#pragma once
// The mask on one weight: a transform that stands behind whatever quantizes the weight, so that a pruned weight is an
// exact zero also where the quantizer has no zero (binary) or moves it (a zero point).

#include <memory>

#include "engine/parameter.h"
#include "quant/pruning/mask.h"

namespace bitloom::quant::pruning {

/// What happens to the gradient of pruned weights.
enum class GradientRule {
    pass,   ///< they receive it as if they were there, and may return at the next refresh (TF-MOT)
    masked  ///< they receive none
};

class WeightMask final : public WeightTransform {
   public:
    /// A mask of ones for a weight like `weight`.
    WeightMask(const Tensor& weight, const MaskRule& rule, GradientRule gradient);
    std::string_view name() const override { return "pruning"; }
    bool replayable() const override { return true; }
    /// "mask" (the weight's shape, 0 and 1) and "threshold" [1]: the magnitude from which on weights were kept.
    TransformState state() override { return {{}, {{"mask", &mask_}, {"threshold", &threshold_}}}; }
    Var apply(Context& context, Parameter& parameter, const Var& weight) override;
    std::optional<WeightFactors> as_mask() const override {
        return WeightFactors{mask_, gradient_ == GradientRule::masked};
    }

    const MaskRule& rule() const { return rule_; }
    const Tensor& mask() const { return mask_; }
    double threshold() const { return threshold_.item(); }
    /// A new mask from the present values of `weight` (the latent ones).
    void refresh(const Tensor& weight, float sparsity);
    /// weight <- weight * mask
    void mask_in_place(Tensor& weight);

   private:
    MaskRule rule_;
    GradientRule gradient_;
    Tensor mask_, threshold_;
    // The latent weight and mask that mask_in_place left masked: apply need not multiply these again.
    std::uint64_t masked_id_ = 0, masked_version_ = 0, mask_id_ = 0, mask_version_ = 0;
};

/// The mask of a parameter; null where it has none.
std::shared_ptr<WeightMask> mask_of(const Parameter& parameter);

}  // namespace bitloom::quant::pruning
