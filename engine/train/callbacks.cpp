#include "engine/train/callbacks.h"

#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>

#include "engine/io/atomic_file.h"
#include "engine/train/trainer.h"

namespace bitloom {

namespace {

void require_validation(const Trainer& trainer, const std::string& who, const std::string& metric) {
    require(trainer.has_validation() || !metric.starts_with("val_"), who, " watches ", metric,
            ", but the run has no validation data");
}

}  // namespace

BestValue::BestValue(std::string metric_name, double delta)
    : metric(std::move(metric_name)),
      larger(larger_is_better(metric)),
      min_delta(delta),
      best((larger ? -1 : 1) * std::numeric_limits<double>::infinity()) {}

bool BestValue::update(double value) {
    const bool better = larger ? value > best + min_delta : value < best - min_delta;
    if (better) best = value;
    return better;
}

// LearningRateSchedule

void LearningRateSchedule::on_load(Trainer& trainer) {
    require_validation(trainer, "the schedule", schedule_->watches());
}

void LearningRateSchedule::before_epoch(Trainer& trainer) {
    Optimizer& optimizer = trainer.optimizer();
    optimizer.set_learning_rate(schedule_->before_epoch(trainer.state().epoch, optimizer.learning_rate()));
}

void LearningRateSchedule::after_epoch(Trainer& trainer) {
    const std::string metric = schedule_->watches();
    if (metric.empty()) return;
    Optimizer& optimizer = trainer.optimizer();
    optimizer.set_learning_rate(schedule_->after_epoch(optimizer.learning_rate(), trainer.record().metric(metric)));
}

void LearningRateSchedule::save(Checkpoint& checkpoint) const {
    const std::vector<double> state = schedule_->state();
    if (!state.empty()) checkpoint.doubles["schedule.state"] = state;
}

void LearningRateSchedule::load(const Checkpoint& checkpoint) {
    if (!schedule_->state().empty()) schedule_->load_state(doubles_field(checkpoint, "schedule.state"));
}

// EarlyStopping

EarlyStopping::EarlyStopping(EarlyStoppingOptions options)
    : options_(std::move(options)), best_(options_.metric, options_.min_delta) {}

void EarlyStopping::on_load(Trainer& trainer) { require_validation(trainer, "early stopping", options_.metric); }

bool EarlyStopping::observe(double value) {
    if (best_.update(value))
        wait_ = 0;
    else
        ++wait_;
    return wait_ > 0 && wait_ >= options_.patience;
}

void EarlyStopping::after_epoch(Trainer& trainer) {
    if (options_.counts && !options_.counts()) return;
    if (observe(trainer.record().metric(options_.metric)))
        trainer.request_stop(cat(options_.metric, " has not improved for ", wait_, wait_ == 1 ? " epoch" : " epochs"));
}

void EarlyStopping::save(Checkpoint& checkpoint) const {
    checkpoint.doubles["early_stopping.best"] = {best_.best};
    checkpoint.integers["early_stopping.wait"] = wait_;
}

void EarlyStopping::load(const Checkpoint& checkpoint) {
    best_.best = double_field(checkpoint, "early_stopping.best");
    wait_ = integer_field(checkpoint, "early_stopping.wait");
}

// ModelCheckpoint

std::unique_ptr<ModelCheckpoint> ModelCheckpoint::best(std::string path, const std::string& metric,
                                                       std::function<bool()> counts) {
    return std::unique_ptr<ModelCheckpoint>(
        new ModelCheckpoint(std::move(path), std::make_unique<BestValue>(metric), std::move(counts)));
}

std::unique_ptr<ModelCheckpoint> ModelCheckpoint::last(std::string path) {
    return std::unique_ptr<ModelCheckpoint>(new ModelCheckpoint(std::move(path), nullptr, {}));
}

void ModelCheckpoint::on_load(Trainer& trainer) {
    if (best_) require_validation(trainer, path_, best_->metric);
}

void ModelCheckpoint::after_epoch(Trainer& trainer) {
    const EpochRecord& record = trainer.record();
    if (best_ && counts_ && !counts_()) return;
    if (best_ && !best_->update(record.metric(best_->metric))) return;
    Checkpoint checkpoint = trainer.model_checkpoint();
    checkpoint.integers["epoch"] = record.epoch;
    for (const char* metric : {"loss", "accuracy", "val_loss", "val_accuracy"})
        if (!std::isnan(record.metric(metric))) checkpoint.doubles[metric] = {record.metric(metric)};
    save_checkpoint(path_, checkpoint);
}

void ModelCheckpoint::save(Checkpoint& checkpoint) const {
    if (best_) checkpoint.doubles[name() + ".value"] = {best_->best};
}

void ModelCheckpoint::load(const Checkpoint& checkpoint) {
    if (best_) best_->best = double_field(checkpoint, name() + ".value");
}

// CsvHistory

CsvHistory::CsvHistory(std::string path, std::vector<std::string> columns)
    : path_(std::move(path)), columns_(std::move(columns)) {}

std::string CsvHistory::row(const EpochRecord& record) const {
    std::string text;
    for (const std::string& column : columns_) {
        if (&column != &columns_.front()) text += ',';
        const double value = record.metric(column);
        if (std::isnan(value)) continue;
        char digits[32];
        text.append(digits, std::to_chars(digits, digits + sizeof digits, value).ptr);
    }
    return text + '\n';
}

void CsvHistory::on_load(Trainer& trainer) {
    std::string text;
    for (const std::string& column : columns_) text += (text.empty() ? "" : ",") + column;
    text += '\n';
    for (const EpochRecord& record : trainer.history()) text += row(record);
    write_file_atomically(path_, text);
}

void CsvHistory::after_epoch(Trainer& trainer) {
    std::ofstream out(path_, std::ios::app);
    out << row(trainer.record()) << std::flush;
    require(out.good(), path_, ": cannot append to the history");
}

}  // namespace bitloom
