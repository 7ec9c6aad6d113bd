#pragma once
// Flags and results that the searching programs share.

#include <memory>
#include <string>

#include "apps/common/common_flags.h"
#include "apps/common/search_run.h"
#include "quant/search/tuner.h"

namespace bitloom {

struct TunerFlags {
    std::string tuner = "bayesian", process = "fixed25";
    std::int64_t most_trials = 20, initial_points = 2, starts = 50;
    std::int64_t most_epochs = 100, factor = 3, iterations = 1;
    std::int64_t jobs = 0;
};
void add_tuner_flags(Flags& flags, TunerFlags& values);
std::unique_ptr<search::Tuner> make_tuner(const TunerFlags& values, search::Space space, search::Goal goal,
                                          std::uint64_t seed);

/// Sets jobs (0: one for each processor) and the threads of each, which are recorded for resumed runs.
SearchRun search_run(const TunerFlags& values, CommonFlags& common, const std::atomic<bool>& stop);

/// Writes trials.csv, and report.html: what `report` holds so far, then the table of trials, the search space and the
/// settings. Returns the best trials as text.
std::string write_search_results(const std::string& folder, const search::Tuner& tuner, Report& report,
                                 const Flags& flags, const std::string& command);

}  // namespace bitloom
