#pragma once
// Quantizers at work: a quantizer bound to the layout of the tensors it sees, on the tape.

#include <memory>
#include <string>

#include "engine/random.h"
#include "engine/tape.h"
#include "quant/qkeras/quantizer.h"

namespace bitloom::quant::qkeras {

/// Where the axes of the source's layout lie in a tensor: axis i of the source is axis `of[i]` here. Empty: the same
/// layout.
struct AxisMap {
    std::vector<int> of{};
};
/// Kernels HWIO as OHWI; [in, out] as [out, in]; transposed kernels [h, w, out, in] as [in, h, w, out].
AxisMap convolution_axes();
AxisMap dense_axes();
AxisMap transposed_convolution_axes();
/// Depthwise kernels [h, w, in, multiplier] as [in, multiplier, h, w]: the shape that [in * multiplier, h, w, 1] has to be seen in.
AxisMap depthwise_axes();

/// What one pass needs besides the values.
struct Pass {
    bool training = false;
    PhiloxStream stream{};  ///< of the draws, where none are given
    Tensor draws{}, second_draws{};  ///< uniform in [0, 1), of x's shape; undefined: drawn
    Tensor mask{};  ///< multiplies the quantized values, of x's shape; undefined: none
    bool mask_gradient = true;  ///< the mask multiplies the gradient too
    /// Memory of the values from pass to pass, used again where nobody else holds it: weights keep their identity, under which
    /// reordered copies of them are found. Null: the values are new each time.
    Tensor* storage = nullptr;
};

/// Values, and what is known of their codes.
struct Quantized {
    Var values;
    /// As the source reports it: one element (alpha), or x's rank with 1 on every axis that shares scales.
    Tensor scale{};
    /// values = codes * step; step as `scale` is shaped. Undefined where codes are no multiples of one step (powers of two,
    /// mu-law, noise, masks leave it alone).
    Tensor step{};
};

/// Binds a quantizer to a layout and the global switches. Copies are cheap to make, passes allocate nothing but tensors.
class TensorQuantizer {
   public:
    /// Throws UsageError where the quantizer's arguments are out of bounds.
    explicit TensorQuantizer(const Quantizer& quantizer, const Settings& settings = {}, const AxisMap& axes = {});

    const Quantizer& quantizer() const { return quantizer_; }
    const Settings& settings() const { return settings_; }
    /// The noise factor f, which schedules may change between steps.
    void set_noise(double factor);
    /// True where equal values give equal results in inference.
    bool deterministic() const { return quantizer_.kind != QuantizerKind::bernoulli; }
    /// True where a pass neither asks the host nor copies from it (Transform::replayable).
    bool replayable() const { return quantizer_.elements_per_scale.empty() && quantizer_.post_training_scale.empty(); }
    /// The rule of a quantizer with a fixed scale, null where it finds its scale.
    const ElementRule* fixed_rule(bool training) const { return uses_scale_[training] ? nullptr : &element_[training]; }

    /// Quantizes x on its tape. Throws Error where scale axes or draws do not fit x's shape.
    Var operator()(const Var& x, const Pass& pass = {}) const;
    /// The same, with scale and step.
    Quantized quantize(const Var& x, const Pass& pass = {}) const;

   private:
    Quantized run(const Var& x, const Pass& pass, bool report) const;
    Quantized fixed(const Var& x, const Pass& pass, bool report) const;
    Quantized scaled(const Var& x, const Pass& pass, bool report) const;

    Quantizer quantizer_;
    Settings settings_;
    AxisMap axes_;
    bool uses_scale_[2] = {false, false};
    ElementRule element_[2];  ///< inference, training
    ScaleRule scale_[2];
};

/// Integer codes (i32, the shape of the values): values / step. Throws Error where there is no step.
Tensor codes(const Tensor& values, const Tensor& step);

}  // namespace bitloom::quant::qkeras
