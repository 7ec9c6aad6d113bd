#include "quant/bsq/group_lasso.h"

#include "ops/pointwise.h"

namespace bitloom::bsq {

GroupLasso::GroupLasso(std::vector<std::shared_ptr<BitWeight>> weights, std::int64_t total, bool reweigh)
    : weights_(std::move(weights)), total_(total), reweigh_(reweigh) {
    require(!weights_.empty() && total_ > 0, "group lasso: the network has no bit planes to penalise");
    for (const auto& weight : weights_) weight->measure_norms(true);
    rows_.reserve(weights_.size());
    leaves_.reserve(weights_.size());
}

double GroupLasso::coefficient(const BitWeight& weight) const {
    if (!reweigh_) return 1;
    return static_cast<double>(weight.count()) * weight.bits() / static_cast<double>(total_);
}

Var GroupLasso::operator()(Context& context, double strength) {
    rows_.clear();
    leaves_.clear();
    for (const auto& weight : weights_) {
        rows_.push_back({&weight->norms(), coefficient(*weight)});
        leaves_.push_back(context.tape.leaf(weight->planes()));
    }
    const Device device = weights_.front()->planes().value.device();
    // Used again where nobody holds it: a captured step writes where the first steps did.
    if (!value_.defined() || !value_.unique() || value_.device() != device)
        value_ = Tensor::empty({1}, weights_.front()->planes().value.dtype(), device);
    kernel(device, "group_lasso", &BsqKernels::group_lasso)(rows_, 1.0, value_);
    // The planes' own node, which runs later in the backward pass, adds this gradient in its pass over them.
    const Var penalty = context.tape.record("group_lasso", leaves_, value_, [this](BackwardContext& c) {
        for (const auto& weight : weights_) weight->give_norm_gradient(c.grad(), coefficient(*weight));
    });
    return ops::scale(penalty, strength);
}

LossTerm GroupLasso::term(double strength) {
    return [self = shared_from_this(), strength](Context& context) { return (*self)(context, strength); };
}

}  // namespace bitloom::bsq
