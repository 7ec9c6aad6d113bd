#pragma once
// The hooks by which a compression scheme attaches to a network from outside (ARCHITECTURE.md, "The nouns").

#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "engine/context.h"
#include "engine/tensor.h"

namespace bitloom {

class Parameter;

/// State that a transform saves in checkpoints and moves between devices with its module.
struct TransformState {
    std::vector<std::pair<std::string, Parameter*>> parameters;  ///< own leaves: they train and are in the optimizer
    std::vector<std::pair<std::string, Tensor*>> buffers;
};

/// Base of the three hooks: a name for messages and checkpoints, and the state it owns.
class Transform {
   public:
    virtual ~Transform() = default;
    /// Unique among the transforms of one owner: state is saved as `<owner>.<name>.<state>`.
    virtual std::string_view name() const = 0;
    virtual TransformState state() { return {}; }
    /// True where a step that was captured on a GPU may be replayed without calling this again: the work is done by kernels,
    /// none of it depends on what the host knows of the step, and random numbers come from Context::device_step.
    virtual bool replayable() const { return false; }
};

/// A mask on a weight: factors of the weight's shape, 0 or 1.
struct WeightFactors {
    Tensor values;
    bool on_gradient = false;  ///< the gradient is multiplied too; else it passes as if nothing were masked
};

/// Maps a parameter's leaf (or the previous transform's output) to its effective value, on the tape, with its own
/// surrogate gradient: a mask, a quantizer, bit planes, a ternary assignment.
class WeightTransform : public Transform {
   public:
    /// `weight` is the leaf, or the output of the transform before. Shapes of input and output agree.
    virtual Var apply(Context& context, Parameter& parameter, const Var& weight) = 0;
    /// Where the transform does nothing but mask what it is given: its mask. The transform in front of it may then mask in
    /// its own pass over the weight (apply_masked), and neither needs to know the other.
    virtual std::optional<WeightFactors> as_mask() const { return std::nullopt; }
    /// apply with the mask of the transform behind it in the same pass: value and gradient are, bit for bit, those of the two
    /// one after the other. An undefined Var where there is no such pass; the two are then applied one by one.
    virtual Var apply_masked(Context& context, Parameter& parameter, const Var& weight, const WeightFactors& mask) {
        (void)context, (void)parameter, (void)weight, (void)mask;
        return {};
    }
    /// True where the output depends on nothing but the input, the own state and constants, so that inference may reuse it
    /// while their versions stand. False for stochastic rounding and batch statistics.
    virtual bool cacheable() const { return true; }
    /// True where own leaves take the master's place (bit planes): the master is then no leaf and not trained.
    virtual bool replaces_master() const { return false; }
};

/// Takes the place of a named activation module, or sits on a named layer's output (logits).
class ActivationTransform : public Transform {
   public:
    virtual Var apply(Context& context, Module& site, const Var& x) = 0;
};

/// Replaces the forward of one layer where neither of the above suffices (conv + BN folding).
class LayerTransform : public Transform {
   public:
    virtual Var forward(Context& context, Module& layer, std::span<const Var> inputs) = 0;
};

}  // namespace bitloom
