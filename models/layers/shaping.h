#pragma once
// Layers that join or rearrange: flatten, add, multiply, concat, padding, the parameter-free shortcut of CIFAR ResNets.

#include "models/layers/layer.h"
#include "ops/convolution.h"

namespace bitloom::layers {

/// [N, ...] -> [N, rest], in (h, w, c) order.
class Flatten final : public Layer {
   public:
    Flatten() : Layer(LayerType::flatten) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

/// Sum of two or more inputs of one shape.
class Add final : public Layer {
   public:
    Add() : Layer(LayerType::add) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

/// Product of two inputs with NumPy's broadcasting (the gate of squeeze-and-excitation: [N, 1, 1, C]).
class Multiply final : public Layer {
   public:
    Multiply() : Layer(LayerType::multiply) {}

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;
};

/// Joins along an axis, by default the channels.
class Concat final : public Layer {
   public:
    explicit Concat(int axis = -1) : Layer(LayerType::concat), axis_(axis) {}
    int axis() const { return axis_; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    int axis_;
};

/// Zeros around each map.
class ZeroPad2d final : public Layer {
   public:
    explicit ZeroPad2d(const ops::Padding& pads) : Layer(LayerType::zero_pad2d), pads_(pads) {}
    const ops::Padding& pads() const { return pads_; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    ops::Padding pads_;
};

/// Option A of He et al. (2016), section 4.2: every stride-th row and column from 0, and `planes` / 4 zero channels in
/// front and behind, so that `planes` channels leave.
class OptionAShortcut final : public Layer {
   public:
    /// Throws Error where in + 2 (planes / 4) is not `planes`.
    OptionAShortcut(std::int64_t in, std::int64_t planes, std::int64_t stride = 2);
    std::int64_t planes() const { return planes_; }
    std::int64_t stride() const { return stride_; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    std::int64_t planes_, stride_;
};

}  // namespace bitloom::layers
