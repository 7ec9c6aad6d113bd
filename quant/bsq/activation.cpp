#include "quant/bsq/activation.h"

#include "models/layers/activation.h"

namespace bitloom::bsq {

BsqActivation::BsqActivation(const ActivationRule& rule, double alpha) : rule_(rule) {
    require(rule.bits >= 0 && rule.bits <= max_bits, "activation: ", rule.bits, " bits are not in 0..", max_bits);
    if (rule.kind == ActivationKind::pact) alpha_.value = Tensor::full({1}, alpha);
}

std::string_view BsqActivation::name() const { return rule_.kind == ActivationKind::pact ? "pact" : "bsq_activation"; }

TransformState BsqActivation::state() {
    if (rule_.kind != ActivationKind::pact) return {};
    return {{{"alpha", &alpha_}}, {}};
}

Var BsqActivation::apply(Context& context, Module& site, const Var& x) {
    Tensor y = Tensor::empty_like(x.value());
    const bool pact = rule_.kind == ActivationKind::pact;
    const auto forward = kernel(x.device(), "activation_forward", &BsqKernels::activation_forward);
    if (!pact) {
        forward(rule_, x.value(), nullptr, y);
        return context.tape.record("bsq_activation", {x}, std::move(y),
                                   [rule = rule_, x = x.value()](BackwardContext& c) {
                                       Tensor dx = Tensor::empty_like(x);
                                       kernel(x.device(), "activation_backward", &BsqKernels::activation_backward)(
                                           rule, x, nullptr, c.grad(), dx, nullptr);
                                       c.give(0, std::move(dx));
                                   });
    }
    if (alpha_.path.empty()) alpha_.path = site.path() + ".pact.alpha";
    const Var alpha = alpha_.effective(context);
    forward(rule_, x.value(), &alpha.value(), y);
    return context.tape.record("pact", {x, alpha}, std::move(y),
                               [rule = rule_, x = x.value(), alpha = alpha.value()](BackwardContext& c) {
                                   Tensor dx = Tensor::empty_like(x), dalpha = Tensor::empty_like(alpha);
                                   kernel(x.device(), "activation_backward", &BsqKernels::activation_backward)(
                                       rule, x, &alpha, c.grad(), dx, &dalpha);
                                   c.give(0, std::move(dx));
                                   c.give(1, std::move(dalpha));
                               });
}

ActivationKind activation_kind(const std::string& name) {
    if (name == "relu") return ActivationKind::relu;
    if (name == "relu6") return ActivationKind::relu6;
    if (name == "pact") return ActivationKind::pact;
    throw UsageError(cat("unknown activation '", name, "' (relu, relu6, pact)"));
}

ActivationKind default_activation(int bits) { return bits > 3 ? ActivationKind::relu6 : ActivationKind::pact; }

std::vector<std::pair<std::string, Parameter*>> attach_activations(Module& network, const ActivationOptions& options) {
    std::vector<std::pair<std::string, Parameter*>> bounds;
    bool stem = true, found = false;
    for (Module* module : network.modules()) {
        if (!dynamic_cast<layers::ReLU*>(module) && !dynamic_cast<layers::ReLU6*>(module)) continue;
        const ActivationRule& rule = stem ? options.stem : options.blocks;
        stem = false;
        found = true;
        const bool plain = rule.kind == ActivationKind::relu && rule.bits == 0;
        if (plain && dynamic_cast<layers::ReLU*>(module)) continue;
        const auto activation = std::make_shared<BsqActivation>(rule);
        module->activation_transform = activation;
        if (rule.kind != ActivationKind::pact) continue;
        activation->alpha().path = module->path() + ".pact.alpha";
        bounds.emplace_back(module->path() + ".alpha", &activation->alpha());
    }
    const bool asked = options.blocks.bits > 0 || options.blocks.kind != ActivationKind::relu;
    require(found || !asked, "activations: the network has no ReLU that could be replaced");
    return bounds;
}

}  // namespace bitloom::bsq
