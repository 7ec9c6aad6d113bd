#pragma once
// The bit-level group Lasso with memory-aware reweighing (bsq.md, 5.4; the paper's equations 4 and 5).

#include <memory>
#include <vector>

#include "engine/train/trainer.h"
#include "quant/bsq/bit_weight.h"

namespace bitloom::bsq {

/// R / TP = sum over tensors of numel n / TP sum_b sqrt(1e-8 + sum p_b^2 + sum n_b^2); without reweighing the factor numel n /
/// TP is 1. Its sums come with the weights and its gradient with that of the planes: neither makes a pass of its own.
class GroupLasso : public std::enable_shared_from_this<GroupLasso> {
   public:
    /// `total`: TP, the parameters of all bit layers that are counted.
    GroupLasso(std::vector<std::shared_ptr<BitWeight>> weights, std::int64_t total, bool reweigh = true);
    /// strength * R / TP, on the tape; call it after the forward pass that the planes take part in.
    Var operator()(Context& context, double strength);
    /// The same as a term of the trainer's loss. The object lives as long as the term.
    LossTerm term(double strength);
    /// R / TP of the last pass; 0 before any.
    double value() const { return value_.defined() ? value_.item() : 0; }

   private:
    double coefficient(const BitWeight& weight) const;
    std::vector<std::shared_ptr<BitWeight>> weights_;
    std::int64_t total_;
    bool reweigh_;
    std::vector<GroupNorms> rows_;  // reused from step to step
    std::vector<Var> leaves_;
    Tensor value_;
};

}  // namespace bitloom::bsq
