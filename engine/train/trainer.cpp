#include "engine/train/trainer.h"

#include <cmath>

#include "engine/kernels.h"
#include "engine/train/device_step.h"
#include "engine/train/evaluator.h"

namespace bitloom {

namespace {

/// The one element, without the copy that item() makes where the host can see it.
double scalar(const Tensor& tensor) {
    require(tensor.numel() == 1, "training: a loss must have one element, got shape ", tensor.shape());
    if (tensor.device().is_host() && tensor.dtype() == DType::f32) return static_cast<double>(*tensor.read<float>());
    if (tensor.device().is_host() && tensor.dtype() == DType::f64) return *tensor.read<double>();
    return tensor.item();
}

Var add_scalars(Tape& tape, const Var& a, const Var& b) {
    require(a.shape() == b.shape(), "training: the loss has shape ", a.shape(), ", a loss term ", b.shape());
    Tensor sum = a.value().clone();
    engine_kernels(sum.device()).add(sum, b.value());
    return tape.record("add_loss_term", {a, b}, std::move(sum), [](BackwardContext& context) {
        for (int i = 0; i < 2; ++i) context.give(i, context.grad());
    });
}

/// sum += value, of one element each; an undefined sum is 0.
void add_to(Tensor& sum, const Tensor& value) {
    if (!sum.defined())
        sum = value.clone();
    else
        engine_kernels(sum.device()).add(sum, value);
}

}  // namespace

Trainer::Trainer(Module& model, Optimizer& optimizer, LossFunction loss, TrainerOptions options)
    : model_(model), optimizer_(optimizer), loss_(std::move(loss)), options_(std::move(options)) {
    require(options_.epochs >= 0, "training: the number of epochs is ", options_.epochs);
    require(options_.checkpoint_every_steps >= 0, "training: checkpoint every ", options_.checkpoint_every_steps,
            " steps");
}

Trainer::~Trainer() = default;

void Trainer::add(std::shared_ptr<Callback> callback) {
    for (const auto& other : callbacks_)
        require(other->name() != callback->name(), "training: two callbacks are called '", callback->name(), "'");
    callbacks_.push_back(std::move(callback));
}

TrainResult Trainer::fit(Loader& train, Loader* validation) {
    batches_ = train.batches();
    require(batches_ > 0, "training: the training data give no batch of ", train.options().batch_size);
    require(resumed_batches_ < 0 || resumed_batches_ == batches_, "training: the checkpoint is of a run with ",
            resumed_batches_, " batches an epoch, this one has ", batches_);
    has_validation_ = validation != nullptr;
    Tape tape;
    open_device(train);
    for (const auto& callback : callbacks_) callback->on_load(*this);
    while (state_.epoch < options_.epochs && state_.stop_reason.empty()) {
        // A checkpoint lies before before_epoch or behind the first batch: that event runs once an epoch, resumed or
        // not.
        bool interrupted = stop_signalled();
        if (!interrupted) {
            if (state_.batch == 0) begin_epoch();
            interrupted = !run_steps(train, tape);
        }
        if (interrupted) {
            save();
            close_device();
            return {true, state_.stop_reason, history_};
        }
        finish_epoch(validation);
    }
    close_device();
    for (const auto& callback : callbacks_) callback->after_training(*this);
    return {false, state_.stop_reason, history_};
}

void Trainer::begin_epoch() {
    record_ = EpochRecord();
    record_.epoch = state_.epoch;
    for (const auto& callback : callbacks_) callback->before_epoch(*this);
    record_.learning_rate = optimizer_.learning_rate();
}

/// The rest of the epoch; false where the stop flag ended it.
bool Trainer::run_steps(Loader& train, Tape& tape) {
    if (state_.batch == batches_) return true;
    train.start(state_.epoch, state_.batch);
    if (device_metrics_)
        device_metrics_->begin({state_.loss_sum, state_.correct_sum, state_.weight_sum, state_.regularization});
    for (;;) {
        Batch& batch = batch_to_fill(train);
        if (!train.next(batch)) return true;
        run_step(batch, &batch == &batch_, train, tape);
        if (stop_signalled()) return false;
        const std::int64_t every = options_.checkpoint_every_steps;
        if (every > 0 && state_.step % every == 0 && state_.batch < batches_) save();
    }
}

void Trainer::run_step(const Batch& batch, bool whole, const Loader& train, Tape& tape) {
    saved_ = false;
    for (const auto& callback : callbacks_) callback->before_forward(*this);
    if (device_metrics_) device_metrics_->set_step(state_.step);
    replays_ = whole && run_captured(batch, train, tape);
    if (!replays_) {
        compute_step(batch, tape);
        for (const auto& callback : callbacks_) callback->after_backward(*this);
        optimizer_.step();
        plain_steps_ += whole;
    }
    ++state_.step;
    ++state_.batch;
    state_.samples += batch.size();
    for (const auto& callback : callbacks_) callback->after_step(*this);
    optimizer_.clear_gradients();
}

/// Forward, loss, metrics and backward.
void Trainer::compute_step(const Batch& batch, Tape& tape) {
    {
        Context context{tape, true, options_.seed, static_cast<std::uint64_t>(state_.step)};
        if (device_metrics_) context.device_step = device_metrics_->step();
        const Var logits = model_(context, tape.input(batch.images));
        const Var data_loss = loss_(context, logits, batch);
        Var loss = data_loss;
        Tensor device_regularization;
        double regularization = 0;
        for (const LossTerm& term : terms_) {
            const Var value = term(context);
            if (device_metrics_)
                add_to(device_regularization, value.value());
            else
                regularization += scalar(value.value());
            loss = add_scalars(tape, loss, value);
        }
        if (device_metrics_) {
            device_metrics_->add(data_loss.value(), device_regularization, logits.value(), batch.labels,
                                 options_.average_by_sample);
            metrics_pending_ = true;
        } else {
            const double loss_value = scalar(data_loss.value());
            check_finite(loss_value + regularization);
            const double correct = static_cast<double>(count_correct(logits.value(), batch.labels));
            const double samples = static_cast<double>(batch.size());
            state_.loss_sum += options_.average_by_sample ? loss_value * samples : loss_value;
            state_.correct_sum += options_.average_by_sample ? correct : correct / samples;
            state_.weight_sum += options_.average_by_sample ? samples : 1;
            state_.regularization = regularization;
        }
        tape.backward(loss);
    }
    tape.reset();
}

void Trainer::check_finite(double loss) const {
    if (std::isfinite(loss)) return;
    throw DivergedError(cat("training: the loss is ", loss, " in epoch ", state_.epoch + 1, ", batch ",
                            state_.batch + 1, " (step ", state_.step + 1, ")",
                            last_checkpoint_.empty() ? "" : "; the last good checkpoint is " + last_checkpoint_));
}

void Trainer::finish_epoch(Loader* validation) {
    read_metrics();
    for (const auto& callback : callbacks_) callback->before_evaluate_or_save(*this);
    record_.loss = running_loss();
    record_.accuracy = running_accuracy();
    record_.regularization = state_.regularization;
    if (validation) {
        validation_metrics_ = evaluate(model_, *validation);
        record_.validation_loss = validation_metrics_.cross_entropy();
        record_.validation_accuracy = validation_metrics_.accuracy();
    }
    for (const auto& callback : callbacks_) callback->after_epoch(*this);
    history_.push_back(record_);
    TrainState next;
    next.epoch = state_.epoch + 1;
    next.step = state_.step;
    next.stop_reason = state_.stop_reason;
    state_ = next;
    saved_ = false;
    save();
}

void Trainer::save() {
    if (options_.checkpoint.empty() || saved_) return;
    save_checkpoint(options_.checkpoint, checkpoint());
    saved_ = true;
    last_checkpoint_ = options_.checkpoint;
}

}  // namespace bitloom
