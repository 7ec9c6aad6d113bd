#pragma once
// A parameter in one of three representations (bsq.md, 5.3): floating point, bit planes that train in its place, or normalised
// values of fixed precision (fine-tuning).

#include <optional>
#include <string>

#include "engine/parameter.h"
#include "quant/bsq/bit_tensor.h"
#include "quant/bsq/kernels.h"

namespace bitloom::bsq {

enum class Representation {
    floating,  ///< the parameter itself
    bits,      ///< planes [n, 2, ...] and scale are the leaves; the parameter rests
    fixed      ///< the parameter holds w / scale in [-1, 1], quantized to n bits in the forward pass; scale is a leaf
};

/// The transform of one parameter. It attaches itself to the parameter in the last two representations, and keeps planes in
/// [0, 2] and normalised values in [-1, 1] after every step.
class BitWeight final : public WeightTransform, public std::enable_shared_from_this<BitWeight> {
   public:
    explicit BitWeight(Parameter& parameter, bool forward_clamp = true)
        : parameter_(parameter), forward_clamp_(forward_clamp) {}

    std::string_view name() const override { return "bsq"; }
    TransformState state() override;
    bool replayable() const override { return true; }
    bool replaces_master() const override { return representation_ == Representation::bits; }
    Var apply(Context& context, Parameter& parameter, const Var& weight) override;

    Representation representation() const { return representation_; }
    /// n; 0 for an all-zero tensor of the other representations.
    int bits() const { return bits_; }
    /// Whether a precision was ever set or came with planes.
    bool has_precision() const { return has_precision_; }
    std::int64_t count() const { return parameter_.value.numel(); }
    const Shape& shape() const { return parameter_.value.shape(); }
    Parameter& parameter() { return parameter_; }
    Parameter& planes() { return planes_; }
    Parameter& scale() { return scale_; }

    // Conversions (5.2, 5.3). Each throws Error where the parameter is in another representation than it starts from.
    void to_bits(int bits);
    void to_float();
    void to_fixed();
    void fixed_to_bits();

    /// The precision that to_bits shall use (floating), or the planes cut to the first `bits` (bits); for fixed ones the
    /// quantizer's. Throws Error for more planes than there are.
    void set_bits(int bits);
    /// Takes over planes of any precision (representation: bits); the shape must be the parameter's.
    void set(const BitTensor& tensor);
    /// Takes over normalised values of `bits` bits (representation: fixed).
    void set_fixed(const Tensor& normalized, float scale, int bits);
    /// A copy on the host (representation: bits).
    BitTensor bit_tensor() const;
    /// Planes of this precision, whatever they hold: a checkpoint is restored into them.
    void reshape_for(Representation representation, int bits, bool zero);
    bool zero() const { return zero_; }
    /// True where the value is zero everywhere.
    bool all_zero() const;

    /// Fixed precision only: the value is left out of the forward pass and does not train (bsq.md, 9.2-3).
    void leave_out(bool on) { left_out_ = on; }

    // What the regulariser (group_lasso.h) needs.
    /// Has the forward pass of training sum p^2 + n^2 a bit beside the weights.
    void measure_norms(bool on) { measured_ = on; }
    /// Those sums, f64 [n]: of the last forward pass, or computed now where there was none since the last call.
    const Tensor& norms();
    /// The regulariser's gradient towards its sum of norms, for the next backward of the planes.
    void give_norm_gradient(Tensor gradient, double coefficient);

   private:
    void require_representation(Representation wanted, const char* what) const;
    void attach(Representation representation);
    Tensor host_values() const;
    Tensor output_like(const Tensor& weight);
    void make_norms();
    Var apply_bits(Context& context, const Var& weight);
    Var apply_fixed(Context& context, const Var& weight);

    Parameter& parameter_;
    Representation representation_ = Representation::floating;
    bool forward_clamp_;
    bool zero_ = false, left_out_ = false;
    int bits_ = 0;
    bool has_precision_ = false;
    Parameter planes_, scale_;
    Tensor output_;  // the effective weight of the pass before, written again where nobody holds it
    bool measured_ = false, norms_current_ = false;
    Tensor norms_;
    Tensor norm_gradient_;  // between the regulariser's backward and the planes'
    double norm_coefficient_ = 0;
};

/// A projection: the parameter clamped in place after every step.
std::function<void(Parameter&)> clamped_to(double low, double high);

}  // namespace bitloom::bsq
