#pragma once
// Optimizers: one multi-tensor pass over all parameters, in the PyTorch and, where they differ, the Keras form.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/parameter.h"

namespace bitloom {

/// Settings of one optimizer group; Parameter::group chooses.
struct ParameterGroup {
    double learning_rate = 1e-3;
    double weight_decay = 0;  ///< L2 added to the gradient, as PyTorch's SGD and Adam do
};

class Optimizer {
   public:
    virtual ~Optimizer() = default;
    virtual std::string name() const = 0;
    /// Applies the gradients of all trainable parameters that have one, then their projections; counts the step.
    void step();
    std::int64_t steps() const { return steps_; }

    std::vector<ParameterGroup>& groups() { return groups_; }
    /// Sets the learning rate of every group.
    void set_learning_rate(double rate);
    double learning_rate() const { return groups_.front().learning_rate; }
    const std::vector<std::pair<std::string, Parameter*>>& parameters() const { return parameters_; }

    /// State tensors by name, "<parameter path>/<slot>" (momentum_buffer, exp_avg, ...), for checkpoints. Created at the
    /// first step; `load_state` restores them and the step count. Throws Error for unknown names or other shapes.
    std::vector<std::pair<std::string, Tensor>> state() const;
    void load_state(const std::vector<std::pair<std::string, Tensor>>& state, std::int64_t steps);
    /// Drops the state of all parameters (a renewed optimizer), or of one whose shape changed.
    void reset();
    void reset(const Parameter& parameter);

   protected:
    Optimizer(std::vector<std::pair<std::string, Parameter*>> parameters, std::vector<ParameterGroup> groups)
        : parameters_(std::move(parameters)), groups_(std::move(groups)) {}
    /// Names of the state slots, each a tensor of the parameter's shape, zero at first.
    virtual std::vector<std::string> slots() const = 0;
    /// One fused update; `rows` are the parameters with gradients, with their slots in order.
    struct Row {
        Parameter* parameter;
        std::vector<Tensor>* state;
        bool first;  ///< the row's state was created in this step
    };
    virtual void update(std::vector<Row>& rows) = 0;

    std::int64_t steps_ = 0;

   private:
    std::vector<std::pair<std::string, Parameter*>> parameters_;
    std::vector<ParameterGroup> groups_;
    std::vector<std::vector<Tensor>> state_;  // parallel to parameters_; empty until the parameter's first step
};

using NamedParameters = std::vector<std::pair<std::string, Parameter*>>;

enum class Convention { pytorch, keras };

struct SgdOptions {
    double learning_rate = 0.1, momentum = 0, weight_decay = 0;
    bool nesterov = false;
    /// pytorch: v = mu v + g, p -= lr v; keras: v = mu v - lr g, p += v (they differ when lr changes).
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
std::unique_ptr<Optimizer> make_optimizer(const std::string& name, NamedParameters parameters, double learning_rate,
                                          double weight_decay = 0, double momentum = 0.9);
const std::vector<std::string>& optimizer_names();

}  // namespace bitloom
