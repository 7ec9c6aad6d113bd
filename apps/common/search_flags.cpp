#include "apps/common/search_flags.h"

#include <algorithm>

#include "apps/common/fold_scores.h"
#include "apps/common/report.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/threads.h"

namespace bitloom {

namespace {
constexpr std::size_t rows_on_terminal = 10;
}

void add_tuner_flags(Flags& flags, TunerFlags& values) {
    flags.group("Search");
    flags.add("tuner", values.tuner, "what decides which trial comes next",
              {.choices = {"random", "hyperband", "bayesian"}});
    flags.add("max-trials", values.most_trials, "trials of the random and the Bayesian tuner", {.min = 1});
    flags.add("jobs", values.jobs, "trials side by side; 0: one for each processor",
              {.min = 0, .max = most_threads});
    flags.add("initial-points", values.initial_points,
              "random trials before the Gaussian process; 0: three a hyperparameter", {.min = 0});
    flags.add("gp", values.process,
              "Gaussian process: Matern 2.5 of length 1, or 1.5 with the length fitted (Keras Tuner 1.0.1)",
              {.choices = {"fixed25", "fit15"}});
    flags.add("acquisition-starts", values.starts, "random starts of the acquisition's minimisation",
              {.min = 1, .max = 10000});
    flags.add("hyperband-epochs", values.most_epochs, "most epochs of a trial", {.min = 1});
    flags.add("hyperband-factor", values.factor, "how much a round thins out", {.min = 2});
    flags.add("hyperband-iterations", values.iterations, "passes over all brackets", {.min = 1});
}

std::unique_ptr<search::Tuner> make_tuner(const TunerFlags& values, search::Space space, search::Goal goal,
                                          std::uint64_t seed) {
    const search::TunerOptions options{.goal = goal, .most_trials = values.most_trials, .seed = seed};
    if (values.tuner == "random") return search::make_random_tuner(std::move(space), options);
    if (values.tuner == "hyperband")
        return search::make_hyperband_tuner(
            std::move(space), options,
            {.most_epochs = values.most_epochs, .factor = values.factor, .iterations = values.iterations});
    search::BayesianOptions bayesian;
    bayesian.initial_points = values.initial_points;
    bayesian.starts = static_cast<int>(values.starts);
    if (values.process == "fit15") {
        bayesian.process.kernel = search::Matern::half3;
        bayesian.process.fit_length = true;
    }
    return search::make_bayesian_tuner(std::move(space), options, bayesian);
}

SearchRun search_run(const TunerFlags& values, CommonFlags& common, const std::atomic<bool>& stop) {
    const int processors = default_thread_count();
    SearchRun run;
    run.folder = common.out_dir;
    run.jobs = values.jobs > 0 ? static_cast<int>(values.jobs) : processors;
    if (common.threads == 0) common.threads = std::max(1, processors / run.jobs);
    run.threads = static_cast<int>(common.threads);
    run.resume = common.resume;
    run.stop = &stop;
    return run;
}

std::string write_search_results(const std::string& folder, const search::Tuner& tuner, Report& report,
                                 const Flags& flags, const std::string& command) {
    write_file_atomically(folder + "/trials.csv", trials_csv(tuner));
    report.table("Trials, best first", ranking_table(tuner));
    report.preformatted("Search space", tuner.space().to_string());
    report.preformatted("Command line", command);
    report.settings("Settings", settings_of(flags));
    report.write(folder + "/report.html");
    return to_text(ranking_table(tuner, rows_on_terminal));
}

}  // namespace bitloom
