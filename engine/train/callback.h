#pragma once
// Callback: what happens around the steps of a training run, at fixed events (ARCHITECTURE.md, decision 13).

#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <string_view>

#include "engine/io/checkpoint.h"

namespace bitloom {

class Trainer;

/// What one epoch gave. Accuracies are fractions of 1; losses are natural-log cross-entropies (or what the loss
/// returns).
struct EpochRecord {
    std::int64_t epoch = 0;  ///< from 0
    double loss = std::numeric_limits<double>::quiet_NaN();
    double accuracy = std::numeric_limits<double>::quiet_NaN();
    double validation_loss = std::numeric_limits<double>::quiet_NaN();  ///< NaN without validation data
    double validation_accuracy = std::numeric_limits<double>::quiet_NaN();
    double learning_rate = 0;             ///< in force during the epoch
    double regularization = 0;            ///< sum of the extra loss terms in the epoch's last batch
    std::map<std::string, double> extra;  ///< what callbacks add (compression rate, sparsity, ...)

    /// By name: loss, accuracy, val_loss, val_accuracy, lr, regularization, or a name in `extra`. Throws Error for
    /// others.
    double metric(std::string_view name) const;
};

/// True where larger is better: names with "acc", as Keras' automatic mode decides.
bool larger_is_better(std::string_view metric);

/// Events in order: on_load; an epoch: before_epoch; a step: before_forward, forward, backward, after_backward,
/// optimizer and projections, after_step; at its end before_evaluate_or_save, validation, after_epoch; at last
/// after_training. With several callbacks each event runs through them in the order they were added. A resumed run
/// calls on_load, and before_epoch only for epochs it begins: whatever before_epoch set must be in save().
class Callback {
public:
    virtual ~Callback() = default;
    /// Unique in its trainer: saved state is named "<name>.<field>".
    virtual std::string name() const = 0;

    virtual void on_load(Trainer&) {}  ///< start of fit: the model is as the first step will find it (fresh or resumed)
    virtual void before_epoch(Trainer&) {}
    virtual void before_forward(Trainer&) {}
    virtual void after_backward(Trainer&) {}
    virtual void after_step(Trainer&) {}
    virtual void before_evaluate_or_save(Trainer&) {
    }                                         ///< at the end of the epoch; checkpoints within one hold the raw state
    virtual void after_epoch(Trainer&) {}     ///< Trainer::record() is complete
    virtual void after_training(Trainer&) {}  ///< not called where the run was interrupted

    /// True where a step that was captured on a GPU may be replayed between this callback's events: after_backward does
    /// nothing, the others change learning rates, what tensors hold, or which tensors parameters have (which is noticed).
    virtual bool replayable() const { return false; }

    /// Writes what a resumed run needs.
    virtual void save(Checkpoint&) const {}
    /// Reads it back. Called before the parameters are restored, so that a scheme can first give leaves the shapes that
    /// the checkpoint has. Throws Error where something is missing.
    virtual void load(const Checkpoint&) {}
};

/// The fields of a checkpoint's state, by name. Throw Error naming the field where it is missing.
std::int64_t integer_field(const Checkpoint& checkpoint, const std::string& name);
const std::vector<double>& doubles_field(const Checkpoint& checkpoint, const std::string& name);
/// One double. Throws Error where the field is missing or holds several.
double double_field(const Checkpoint& checkpoint, const std::string& name);
const std::string& string_field(const Checkpoint& checkpoint, const std::string& name);

}  // namespace bitloom
