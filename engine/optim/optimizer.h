#pragma once
// Optimizers: one multi-tensor pass over all parameters, in the PyTorch and, where they differ, the Keras form.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "engine/optim/kernels.h"
#include "engine/parameter.h"

namespace bitloom {

/// Settings of one optimizer group; Parameter::group chooses.
struct ParameterGroup {
    double learning_rate = 1e-3;
    double weight_decay = 0;  ///< L2 added to the gradient, as PyTorch's SGD and Adam do
};

using NamedParameters = std::vector<std::pair<std::string, Parameter*>>;

class Optimizer {
   public:
    virtual ~Optimizer() = default;
    Optimizer(const Optimizer&) = delete;
    Optimizer& operator=(const Optimizer&) = delete;
    virtual std::string name() const = 0;
    /// Applies the gradients of all trainable parameters that have one, then their projections; counts the step.
    /// Throws Error for a gradient of another shape or dtype, an unknown group, and parameters on several devices.
    void step();
    /// The three parts of step(), for a step that is captured into a graph and replayed (engine/train): prepare()
    /// counts the step and collects what the kernel needs, upload() brings that to a device that is not the host's,
    /// apply() runs kernel and projections. A captured step holds apply() alone; each replay follows prepare() and
    /// upload().
    void prepare();
    void upload();
    void apply();
    /// One i32 on the parameters' device, or an undefined tensor: while it is not 0, steps on a GPU update nothing.
    void set_halted(Tensor halted) { halted_ = std::move(halted); }
    /// Drops the gradients of all parameters.
    void clear_gradients();
    std::int64_t steps() const { return steps_; }

    /// One group at first; append others and set Parameter::group.
    std::vector<ParameterGroup>& groups() { return groups_; }
    const std::vector<ParameterGroup>& groups() const { return groups_; }
    /// Sets the learning rate of every group.
    void set_learning_rate(double rate);
    double learning_rate() const { return groups_.front().learning_rate; }
    const NamedParameters& parameters() const { return parameters_; }

    /// State tensors by name, "<parameter path>/<slot>" (momentum_buffer, exp_avg, ...), and "<parameter path>/step",
    /// an f64 of shape [1]: the parameter's own steps. Created at the first step of the parameter. For checkpoints.
    std::vector<std::pair<std::string, Tensor>> state() const;
    /// Restores copies of them and the step count; parameters not named lose their state. Throws Error for unknown
    /// names, missing slots or other shapes.
    void load_state(const std::vector<std::pair<std::string, Tensor>>& state, std::int64_t steps);
    /// Drops the state of all parameters and the step count (a renewed optimizer), or the state of one parameter whose
    /// shape changed.
    void reset();
    void reset(const Parameter& parameter);

   protected:
    /// A parameter named twice (shared layers) is updated once. Throws Error for settings out of bounds.
    Optimizer(NamedParameters parameters, ParameterGroup group);
    /// Names of the state slots, each a tensor of the parameter's shape, zero at first.
    virtual const std::vector<std::string>& slots() const = 0;
    /// One fused update.
    virtual void update(const OptimKernels& kernels, const OptimRows& rows) = 0;
    /// Whose step count the rows carry: the parameter's own, as PyTorch, or the optimizer's, as Keras.
    virtual Convention convention() const = 0;

   private:
    struct State {
        std::vector<Tensor> slots;  // empty until the parameter's first step
        std::int64_t steps = 0;
    };
    OptimRow make_row(std::size_t index, std::size_t slot_count);

    NamedParameters parameters_;
    std::vector<ParameterGroup> groups_;
    std::vector<State> state_;    // parallel to parameters_
    std::vector<OptimRow> rows_;  // reused from step to step
    Device device_;               // of all rows
    Tensor device_rows_;          // u8: the rows in the memory of a GPU
    Tensor halted_;
    std::int64_t steps_ = 0;
};

struct SgdOptions {
    double learning_rate = 0.1, momentum = 0, weight_decay = 0;
    bool nesterov = false;
    /// pytorch: v = mu v + g, p -= lr v; keras: v = mu v - lr g, p += v (they differ when lr changes).
    /// Nesterov: p -= lr (g + mu v), and p += mu v - lr g.
    Convention convention = Convention::pytorch;
};
struct AdamOptions {
    double learning_rate = 1e-3, beta1 = 0.9, beta2 = 0.999;
    double epsilon = 0;  ///< 0: the convention's default, 1e-8 (pytorch) or 1e-7 (keras)
    double weight_decay = 0;
    bool amsgrad = false;
    Convention convention = Convention::pytorch;
};
struct RmspropOptions {
    double learning_rate = 1e-3, rho = 0.9, momentum = 0, weight_decay = 0;
    double epsilon = 0;  ///< 0: 1e-8 (pytorch) or 1e-7 (keras); outside the root in both
    Convention convention = Convention::keras;
};
std::unique_ptr<Optimizer> make_sgd(NamedParameters parameters, const SgdOptions& options);
std::unique_ptr<Optimizer> make_adam(NamedParameters parameters, const AdamOptions& options);
std::unique_ptr<Optimizer> make_rmsprop(NamedParameters parameters, const RmspropOptions& options);

/// By name: sgd, nesterov, keras-sgd, keras-nesterov, adam, amsgrad, keras-adam, keras-amsgrad, rmsprop, keras-rmsprop.
/// `momentum` is that of the sgd and nesterov forms; the others take their library's defaults (rho 0.99 for rmsprop,
/// 0.9 for keras-rmsprop). Throws UsageError for an unknown name.
std::unique_ptr<Optimizer> make_optimizer(const std::string& name, NamedParameters parameters, double learning_rate,
                                          double weight_decay = 0, double momentum = 0.9);
const std::vector<std::string>& optimizer_names();

}  // namespace bitloom
