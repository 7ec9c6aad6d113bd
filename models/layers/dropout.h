#pragma once
// Dropout and stochastic depth. Streams are named "dropout/<path>" and "drop_path/<path>" under the context's seed and
// step, so a resumed run draws what an uninterrupted one would have drawn.

#include "models/layers/layer.h"

namespace bitloom::layers {

/// Inverted dropout, element-wise, in training only.
class Dropout final : public Layer {
   public:
    /// Throws Error unless 0 <= rate < 1.
    explicit Dropout(double rate);
    double rate() const { return rate_; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    double rate_;
};

/// Drops whole samples of a residual branch, in training only (Huang et al., 2016).
class DropPath final : public Layer {
   public:
    /// Throws Error unless 0 <= rate < 1.
    explicit DropPath(double rate);
    double rate() const { return rate_; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    double rate_;
};

}  // namespace bitloom::layers
