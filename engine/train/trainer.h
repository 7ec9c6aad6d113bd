#pragma once
// Trainer: the loop over epochs and steps, with evaluation, callbacks, and checkpoints from which a run resumes to the
// bit.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/loader.h"
#include "engine/module.h"
#include "engine/optim/optimizer.h"
#include "engine/train/callback.h"
#include "engine/train/metrics.h"

namespace bitloom {

class CapturedStep;
class DeviceMetrics;

/// The scalar loss (one element) of a batch, on the tape.
using LossFunction = std::function<Var(Context& context, const Var& logits, const Batch& batch)>;
/// A scalar added to the loss (a regulariser), on the tape.
using LossTerm = std::function<Var(Context& context)>;

struct TrainerOptions {
    std::int64_t epochs = 1;
    std::uint64_t seed = 1;                   ///< of Context::seed: dropout, stochastic rounding
    std::string checkpoint{};                 ///< file to resume from; empty: none is written
    std::int64_t checkpoint_every_steps = 0;  ///< besides at the end of each epoch; 0: only there
    const std::atomic<bool>* stop = nullptr;  ///< when it becomes true: write a checkpoint and return (signals.h)
    bool step_graph = true;  ///< on a GPU: capture the step once and replay it, where nothing stands against it
    bool average_by_sample = true;    ///< false: training loss and accuracy are plain means of the batches' values
    std::string model_description{};  ///< JSON, goes into checkpoints as Checkpoint::model
    std::string configuration{};      ///< JSON, goes into checkpoints as Checkpoint::config
};

/// The loss or the weights are not finite: the training has diverged.
class DivergedError : public Error {
public:
    using Error::Error;
};

/// Where a run stands. Saved with each checkpoint.
struct TrainState {
    std::int64_t epoch = 0;    ///< from 0
    std::int64_t batch = 0;    ///< batches of this epoch done
    std::int64_t samples = 0;  ///< of this epoch done
    std::int64_t step = 0;     ///< optimizer steps done
    double loss_sum = 0;       ///< of this epoch, weighted as TrainerOptions::average_by_sample says
    double correct_sum = 0;
    double weight_sum = 0;
    double regularization = 0;  ///< of the last batch
    std::string stop_reason;    ///< not empty: a callback ended the training
};

struct TrainResult {
    bool interrupted = false;  ///< by the stop flag; the program exits with interrupted_exit_status
    std::string stop_reason;   ///< why a callback ended the training early; empty where all epochs ran
    std::vector<EpochRecord> history;
};

/// Model, optimizer and loaders outlive the trainer.
class Trainer {
public:
    Trainer(Module& model, Optimizer& optimizer, LossFunction loss, TrainerOptions options);
    ~Trainer();

    /// Callbacks run in the order added. Throws Error for a name that is taken.
    void add(std::shared_ptr<Callback> callback);
    void add_loss_term(LossTerm term) { terms_.push_back(std::move(term)); }

    /// Continues from a checkpoint of this trainer: model, optimizer, callbacks, history, position. Call it after all
    /// callbacks were added and before fit. Throws Error in one line for a checkpoint of another model, seed or
    /// optimizer, or one that holds only weights.
    void resume(const std::string& path);
    /// Trains from the current position to the last epoch. A step: before_forward, forward, loss, backward,
    /// after_backward, optimizer step and projections, after_step; the gradients of the optimizer's parameters are then
    /// dropped. At the end of an epoch: before_evaluate_or_save, validation, after_epoch, checkpoint. Throws DivergedError
    /// naming epoch and step where the loss is not finite, before any weight has changed (on a GPU when the
    /// metrics are next read, with the weights of before that step), or where weights that are not
    /// finite would be saved; the last checkpoint then stands.
    TrainResult fit(Loader& train, Loader* validation = nullptr);

    // For callbacks.
    Module& model() { return model_; }
    Optimizer& optimizer() { return optimizer_; }
    const TrainerOptions& options() const { return options_; }
    const TrainState& state() const { return state_; }
    /// Batches of the training loader an epoch.
    std::int64_t batches() const { return batches_; }
    bool has_validation() const { return has_validation_; }
    /// Running means of the epoch under way; 0 before its first batch. On a GPU they wait for the steps so far.
    double running_loss() { return mean_of(&TrainState::loss_sum); }
    double running_accuracy() { return mean_of(&TrainState::correct_sum); }
    /// Whether the last step was replayed from a captured one, and if not, why none can be; empty on host devices.
    bool replays_steps() const { return replays_; }
    const std::string& graph_obstacle() const { return graph_obstacle_; }
    /// The epoch under way; complete in after_epoch, where callbacks may add to `extra`.
    EpochRecord& record() { return record_; }
    /// The epochs done.
    const std::vector<EpochRecord>& history() const { return history_; }
    /// Of the validation at the end of the epoch under way.
    const ClassificationMetrics& validation_metrics() const { return validation_metrics_; }
    /// Ends the training after the epoch under way.
    void request_stop(const std::string& reason) { state_.stop_reason = reason; }
    /// Parameters, buffers and descriptions, without the training state: a checkpoint for use.
    Checkpoint model_checkpoint();
    /// Everything, as the trainer's own checkpoints hold it.
    Checkpoint checkpoint();

private:
    void begin_epoch();
    bool run_steps(Loader& train, Tape& tape);
    Batch& batch_to_fill(const Loader& train);
    void run_step(const Batch& batch, bool whole, const Loader& train, Tape& tape);
    void compute_step(const Batch& batch, Tape& tape);
    bool run_captured(const Batch& batch, const Loader& train, Tape& tape);
    void open_device(const Loader& train);
    void close_device();
    void read_metrics();
    double mean_of(double TrainState::*sum);
    void finish_epoch(Loader* validation);
    void check_finite(double loss) const;
    void check_finite(const std::vector<std::pair<std::string, Tensor>>& tensors) const;
    void save();
    bool stop_signalled() const { return options_.stop && options_.stop->load(std::memory_order_relaxed); }

    Module& model_;
    Optimizer& optimizer_;
    LossFunction loss_;
    TrainerOptions options_;
    std::vector<std::shared_ptr<Callback>> callbacks_;
    std::vector<LossTerm> terms_;
    TrainState state_;
    EpochRecord record_;
    std::vector<EpochRecord> history_;
    ClassificationMetrics validation_metrics_;
    std::int64_t batches_ = 0;
    std::int64_t resumed_batches_ = -1;  // batches an epoch of the run that wrote the checkpoint
    bool has_validation_ = false;
    std::string last_checkpoint_;  // written or resumed from
    bool saved_ = false;           // the checkpoint file holds the present state
    Batch batch_, last_batch_;     // the latter: of fewer images, where memory shall keep its place

    // On a device that keeps the metrics itself; null elsewhere.
    std::unique_ptr<DeviceMetrics> device_metrics_;
    std::unique_ptr<CapturedStep> captured_;  // null where steps are not replayed
    std::string graph_obstacle_;
    std::int64_t plain_steps_ = 0;  // of whole batches, since fit began
    bool metrics_pending_ = false;  // the device's sums are newer than the state's
    bool replays_ = false;
};

/// An optimizer's state, step count and learning rates in a checkpoint, under `prefix` (a scheme with optimizers of its
/// own saves them from its callback). The empty prefix is the trainer's.
void save_optimizer(const Optimizer& optimizer, Checkpoint& checkpoint, const std::string& prefix = "");
void load_optimizer(Optimizer& optimizer, const Checkpoint& checkpoint, const std::string& prefix = "");

}  // namespace bitloom
