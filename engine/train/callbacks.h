#pragma once
// The callbacks that every program uses: schedule, early stopping, checkpoints, history, progress.

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/train/callback.h"
#include "engine/train/schedule.h"

namespace bitloom {

/// Follows the best value of a metric.
struct BestValue {
    explicit BestValue(std::string metric, double min_delta = 0);
    /// True, and remembered, where `value` is better than the best so far by more than min_delta. NaN never is.
    bool update(double value);

    std::string metric;
    bool larger;
    double min_delta;
    double best;
};

/// Sets the optimizer's learning rate (all groups) before each epoch, and after it where the schedule watches a metric.
class LearningRateSchedule final : public Callback {
public:
    explicit LearningRateSchedule(std::unique_ptr<Schedule> schedule) : schedule_(std::move(schedule)) {}
    std::string name() const override { return "schedule"; }
    bool replayable() const override { return true; }
    void on_load(Trainer& trainer) override;
    void before_epoch(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;
    void save(Checkpoint& checkpoint) const override;
    void load(const Checkpoint& checkpoint) override;

private:
    std::unique_ptr<Schedule> schedule_;
};

struct EarlyStoppingOptions {
    std::string metric = "val_loss";
    std::int64_t patience = 10;  ///< epochs in a row without improvement after which training stops
    double min_delta = 0;
    /// Where set: epochs for which it is false are left out of account (a network that is not yet what it shall be).
    std::function<bool()> counts{};
};
/// Ends the training; the weights stay those of the last epoch (ModelCheckpoint::best keeps the best ones in a file).
class EarlyStopping final : public Callback {
public:
    explicit EarlyStopping(EarlyStoppingOptions options);
    std::string name() const override { return "early_stopping"; }
    bool replayable() const override { return true; }
    /// The metric of one more epoch; true where training shall end.
    bool observe(double value);
    void on_load(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;
    void save(Checkpoint& checkpoint) const override;
    void load(const Checkpoint& checkpoint) override;

private:
    EarlyStoppingOptions options_;
    BestValue best_;
    std::int64_t wait_ = 0;
};

/// Saves parameters and buffers at the end of epochs, for use (Trainer's own checkpoint is the one to resume from).
class ModelCheckpoint final : public Callback {
public:
    /// Whenever the metric is strictly better than ever before, in epochs for which `counts` is true (none: in all).
    static std::unique_ptr<ModelCheckpoint> best(std::string path, const std::string& metric = "val_loss",
                                                 std::function<bool()> counts = {});
    /// Every epoch.
    static std::unique_ptr<ModelCheckpoint> last(std::string path);
    std::string name() const override { return best_ ? "best." + best_->metric : "last"; }
    bool replayable() const override { return true; }
    void on_load(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;
    void save(Checkpoint& checkpoint) const override;
    void load(const Checkpoint& checkpoint) override;

private:
    ModelCheckpoint(std::string path, std::unique_ptr<BestValue> best, std::function<bool()> counts)
        : path_(std::move(path)), best_(std::move(best)), counts_(std::move(counts)) {}
    std::string path_;
    std::unique_ptr<BestValue> best_;
    std::function<bool()> counts_;
};

/// history_dict.csv (svhn-qkeras.md, section 6): one row an epoch, written as it ends. Numbers are the shortest that
/// read back exactly; a missing validation value is empty. A resumed run first cuts the file back to the epochs it
/// resumes from.
class CsvHistory final : public Callback {
public:
    explicit CsvHistory(std::string path,
                        std::vector<std::string> columns = {"loss", "accuracy", "val_loss", "val_accuracy", "lr"});
    std::string name() const override { return "csv"; }
    bool replayable() const override { return true; }
    void on_load(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;

private:
    std::string row(const EpochRecord& record) const;
    std::string path_;
    std::vector<std::string> columns_;
};

/// On a terminal one line on stderr, refreshed, with rate and remaining time; elsewhere one line an epoch.
class ProgressBar final : public Callback {
public:
    /// `label` starts each line (a fold's name).
    explicit ProgressBar(std::string label = {});
    /// Ends a line that an interruption or an error left open.
    ~ProgressBar() override;
    std::string name() const override { return "progress"; }
    bool replayable() const override { return true; }
    void on_load(Trainer& trainer) override;
    void before_epoch(Trainer& trainer) override;
    void after_step(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;

private:
    using Clock = std::chrono::steady_clock;
    void start(const Trainer& trainer);
    void show(const std::string& line, bool last);
    std::string label_;
    bool terminal_;
    bool line_open_ = false;
    Clock::time_point begin_, shown_;
    std::int64_t first_batch_ = 0, first_sample_ = 0;  // of the epoch under way, where this process began it
};

}  // namespace bitloom
