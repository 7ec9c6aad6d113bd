#pragma once
// A chain of modules.

#include "models/layers/layer.h"

namespace bitloom::layers {

/// Runs its children in the order of their registration. A BatchNorm with a ReLU right behind it goes through norm_act.
class Sequential final : public Module {
   public:
    std::string_view type() const override { return "Sequential"; }
    /// Constructs a module at the end of the chain.
    template <class M, class... Args>
    M& append(std::string name, Args&&... args) {
        return add<M>(std::move(name), std::forward<Args>(args)...);
    }
    Module& append(std::string name, std::unique_ptr<Module> module) {
        return adopt(std::move(name), std::move(module));
    }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

}  // namespace bitloom::layers
