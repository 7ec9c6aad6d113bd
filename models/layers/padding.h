#pragma once
// How a layer pads: fixed numbers of cells, or TensorFlow's SAME, which depends on the size of the input.

#include "models/layers/layer.h"
#include "ops/convolution.h"

namespace bitloom::layers {

class PaddingRule {
   public:
    PaddingRule() = default;  ///< VALID: none
    static PaddingRule valid() { return {}; }
    static PaddingRule symmetric(std::int64_t cells) { return explicit_pads(ops::Padding::symmetric(cells)); }
    static PaddingRule explicit_pads(const ops::Padding& pads) { return PaddingRule(pads, false); }
    /// Output extents ceil(n / stride); an odd total puts the larger half behind (ops::same_padding).
    static PaddingRule same() { return PaddingRule({}, true); }

    bool is_same() const { return same_; }
    /// Cells for an input of this size.
    ops::Padding resolve(Extent2d input, Extent2d window, Extent2d stride, Extent2d dilation = 1) const {
        if (!same_) return pads_;
        return ops::same_padding(input.h, input.w, window.h, window.w, stride.h, stride.w, dilation.h, dilation.w);
    }
    bool operator==(const PaddingRule&) const = default;

   private:
    PaddingRule(const ops::Padding& pads, bool same) : pads_(pads), same_(same) {}
    ops::Padding pads_;
    bool same_ = false;
};

}  // namespace bitloom::layers
