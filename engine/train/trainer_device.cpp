// How a trainer works with a GPU: metrics stay there until they are asked for, and steps are captured and replayed.

#include "engine/train/device_step.h"
#include "engine/train/trainer.h"

namespace bitloom {

namespace {

/// Steps before one is captured: the first makes the optimizer's state, libraries choose their algorithms, and the
/// memory of a step has been asked for.
constexpr std::int64_t steps_before_capture = 2;

}  // namespace

void Trainer::open_device(const Loader& train) {
    const Device device = train.options().device;
    const TrainingKernels* kernels = training_kernels(device);
    if (!kernels) return;
    device_metrics_ = std::make_unique<DeviceMetrics>(*kernels, device);
    optimizer_.set_halted(device_metrics_->halted());
    plain_steps_ = 0;
    graph_obstacle_.clear();
    if (!options_.step_graph) graph_obstacle_ = "not asked for";
    for (const auto& callback : callbacks_)
        if (graph_obstacle_.empty() && !callback->replayable())
            graph_obstacle_ = cat("'", callback->name(), "' works within the steps");
    if (graph_obstacle_.empty()) graph_obstacle_ = replay_obstacle(model_);
    if (graph_obstacle_.empty()) captured_ = std::make_unique<CapturedStep>(*kernels, model_, optimizer_);
}

void Trainer::close_device() {
    captured_.reset();
    device_metrics_.reset();
    optimizer_.set_halted(Tensor());
    batch_ = last_batch_ = Batch();
}

/// The last batch of an epoch, where it is a smaller one, has memory of its own: that of the others stays where it is.
Batch& Trainer::batch_to_fill(const Loader& train) {
    const bool smaller = state_.batch + 1 == batches_ && !train.options().drop_last &&
                         train.dataset().size() % train.options().batch_size != 0;
    return captured_ && smaller ? last_batch_ : batch_;
}

/// Does the step by replaying a captured one, which it captures where it is time. False where the step is still to be
/// done.
bool Trainer::run_captured(const Batch& batch, const Loader& train, Tape& tape) {
    if (!captured_ || plain_steps_ < steps_before_capture) return false;
    const bool valid = captured_->valid(batch);
    if (!valid && captured_->captured()) {
        // Something has changed its shape or its place (re-quantized planes): as at the start, plain steps come first. What
        // the optimizer makes for a parameter's first step may not become part of a captured one.
        captured_->drop();
        plain_steps_ = 0;
        return false;
    }
    const Batch& staged = captured_->stage(batch, train.data_on_device());
    if (valid) {
        captured_->replay();
        metrics_pending_ = true;
        return true;
    }
    const std::int64_t steps = optimizer_.steps();
    try {
        captured_->capture(train.options().device, [&] { compute_step(staged, tape); });
        return true;
    } catch (const Error& error) {
        if (optimizer_.steps() != steps) throw;  // it was not the network that cannot be captured
        graph_obstacle_ = error.what();
    }
    captured_.reset();
    tape.reset();
    optimizer_.clear_gradients();
    return false;
}

void Trainer::read_metrics() {
    if (!metrics_pending_) return;
    const DeviceMetrics::Sums sums = device_metrics_->read();
    metrics_pending_ = false;
    if (sums.halted != 0)
        throw DivergedError(cat("training: the loss is not finite in epoch ", state_.epoch + 1, ", batch ",
                                state_.batch - state_.step + sums.halted, " (step ", sums.halted, ")",
                                last_checkpoint_.empty() ? "" : "; the last good checkpoint is " + last_checkpoint_));
    state_.loss_sum = sums.loss;
    state_.correct_sum = sums.correct;
    state_.weight_sum = sums.weight;
    state_.regularization = sums.regularization;
}

double Trainer::mean_of(double TrainState::*sum) {
    read_metrics();
    return state_.weight_sum > 0 ? state_.*sum / state_.weight_sum : 0;
}

}  // namespace bitloom
