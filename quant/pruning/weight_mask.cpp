#include "quant/pruning/weight_mask.h"

#include "quant/kernels.h"

namespace bitloom::quant::pruning {

namespace {
void multiply(const Tensor& x, const Tensor& mask, Tensor& y) {
    kernel(x.device(), "apply_mask", &QuantKernels::apply_mask)(x, mask, y);
}
}  // namespace

WeightMask::WeightMask(const Tensor& weight, const MaskRule& rule, GradientRule gradient)
    : rule_(rule),
      gradient_(gradient),
      mask_(Tensor::full(weight.shape(), 1, weight.dtype(), weight.device())),
      threshold_(Tensor::zeros({1}, weight.dtype(), weight.device())) {}

void WeightMask::refresh(const Tensor& weight, float sparsity) {
    threshold_.fill(update_mask(rule_, sparsity, weight, mask_));
}

void WeightMask::mask_in_place(Tensor& weight) {
    multiply(weight, mask_, weight);
    masked_id_ = weight.id(), masked_version_ = weight.version();
    mask_id_ = mask_.id(), mask_version_ = mask_.version();
}

Var WeightMask::apply(Context& context, Parameter&, const Var& weight) {
    const Tensor& w = weight.value();
    // Latent weights that were masked in place at the start of the step need no second pass; what a quantizer made of
    // them does.
    const bool masked = w.id() == masked_id_ && w.version() == masked_version_ && mask_.id() == mask_id_ &&
                        mask_.version() == mask_version_;
    if (masked && gradient_ == GradientRule::pass) return weight;
    Tensor y = w;
    if (!masked) {
        y = Tensor::empty_like(w);
        multiply(w, mask_, y);
    }
    if (gradient_ == GradientRule::pass)
        return context.tape.record("mask_pass", {weight}, std::move(y),
                                   [](BackwardContext& c) { c.give(0, c.grad()); });
    return context.tape.record("mask", {weight}, std::move(y), [mask = mask_](BackwardContext& c) {
        Tensor dx = Tensor::empty_like(c.grad());
        multiply(c.grad(), mask, dx);
        c.give(0, std::move(dx));
    });
}

std::shared_ptr<WeightMask> mask_of(const Parameter& parameter) {
    for (const auto& transform : parameter.transforms)
        if (auto mask = std::dynamic_pointer_cast<WeightMask>(transform)) return mask;
    return nullptr;
}

}  // namespace bitloom::quant::pruning
