#pragma once
// A search: trials side by side, its state in a file after every one of them.

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/common/progress_board.h"
#include "apps/common/report.h"
#include "quant/search/tuner.h"

namespace bitloom {

struct TrialOutcome {
    double score = 0;
    std::map<std::string, double> metrics;  ///< for tables and CSV
};

/// Runs a trial in its folder. Nothing: it was interrupted. A DivergedError counts as a failed trial.
using TrialFunction = std::function<std::optional<TrialOutcome>(const search::Trial& trial, const std::string& folder,
                                                                ProgressBoard& board, int row)>;

struct SearchRun {
    std::string folder;  ///< holds search.json and trials/trial_<id>
    int jobs = 1;        ///< trials side by side
    int threads = 1;     ///< of each trial
    bool resume = false;
    const std::atomic<bool>* stop = nullptr;
};

/// Folder of a trial.
std::string trial_folder(const std::string& folder, std::int64_t id);

/// Takes away what a search left in `folder` that a later --resume would take for its own.
void forget_search(const std::string& folder);

/// Runs all trials that the tuner asks for. search.json is written before and after each, so that a search that was
/// killed at any moment loses nothing but the steps since the last checkpoints of the trials under way, which run again under
/// the same numbers. With one job a resumed search ends as one left alone. False where the stop flag was raised. Throws Error of
/// a trial, "search: trial 7: why", or where search.json is that of another search.
bool run_search(search::Tuner& tuner, const SearchRun& run, const TrialFunction& trial);

/// One row a trial that was scored, best first: rank, trial, score, metrics, values. `most` rows; 0: all.
ReportTable ranking_table(const search::Tuner& tuner, std::size_t most = 0);
/// All trials in order, one row each, in full precision: trials.csv.
std::string trials_csv(const search::Tuner& tuner);

}  // namespace bitloom
