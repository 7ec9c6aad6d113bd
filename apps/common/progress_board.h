#pragma once
// One progress display for several runs side by side.

#include <chrono>
#include <mutex>
#include <string>
#include <vector>

#include "engine/train/callback.h"

namespace bitloom {

/// A row a run. On a terminal (stderr) the rows that have begun are refreshed in place, at most ten times a second;
/// elsewhere only what `report` gets is printed, a line each. Thread-safe.
class ProgressBoard {
   public:
    explicit ProgressBoard(std::vector<std::string> labels);
    ~ProgressBoard();
    ProgressBoard(const ProgressBoard&) = delete;
    ProgressBoard& operator=(const ProgressBoard&) = delete;

    /// The row goes over to another run.
    void rename(int row, const std::string& label);
    /// Passing news, such as the batch number: shown on a terminal only.
    void show(int row, const std::string& text);
    /// News that belong into a log, such as the result of an epoch.
    void report(int row, const std::string& text);

   private:
    void draw();
    std::vector<std::string> labels_, texts_;
    bool terminal_;
    int lines_drawn_ = 0;
    std::chrono::steady_clock::time_point drawn_at_;
    std::mutex mutex_;
};

/// Puts a trainer's progress into a row of the board. The board outlives it.
class BoardProgress final : public Callback {
   public:
    BoardProgress(ProgressBoard& board, int row) : board_(board), row_(row) {}
    std::string name() const override { return "progress"; }
    bool replayable() const override { return true; }
    void before_epoch(Trainer& trainer) override;
    void after_step(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;

   private:
    ProgressBoard& board_;
    int row_;
    std::chrono::steady_clock::time_point epoch_began_ = std::chrono::steady_clock::now();
};

}  // namespace bitloom
