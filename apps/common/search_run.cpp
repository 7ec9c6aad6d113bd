#include "apps/common/search_run.h"

#include <cmath>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/common/run_folder.h"
#include "apps/common/side_by_side.h"
#include "apps/common/text.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/threads.h"
#include "engine/train/trainer.h"

namespace bitloom {

namespace {

std::string state_file(const std::string& folder) { return folder + "/search.json"; }

/// Trials asked for and told under one lock.
class SearchLoop {
   public:
    SearchLoop(search::Tuner& tuner, const SearchRun& run, const TrialFunction& trial, ProgressBoard& board)
        : tuner_(tuner), run_(run), trial_(trial), board_(board) {}

    void work(int row) {
        set_threads(run_.threads);
        try {
            while (const std::optional<search::Trial> trial = next()) run_trial(*trial, row);
        } catch (...) {
            const std::lock_guard lock(mutex_);
            over_ = true;  // nobody waits for what will not come
            changed_.notify_all();
            throw;
        }
    }
    bool interrupted() const { return interrupted_; }

   private:
    std::optional<search::Trial> next() {
        std::unique_lock lock(mutex_);
        for (;;) {
            if (over_ || stopped()) return std::nullopt;
            if (std::optional<search::Trial> trial = tuner_.ask()) {
                save();
                return trial;
            }
            if (under_way() == 0) return std::nullopt;
            changed_.wait(lock);
        }
    }

    void run_trial(const search::Trial& trial, int row) {
        board_.report(row, cat("trial ", trial.id, " begins"));
        std::optional<TrialOutcome> outcome;
        std::string why;
        try {
            outcome = trial_(trial, trial_folder(run_.folder, trial.id), board_, row);
        } catch (const DivergedError& error) {
            why = error.what();
        } catch (const std::exception& error) {
            fail("trial ", trial.id, ": ", error.what());
        }
        const std::lock_guard lock(mutex_);
        if (outcome) {
            tuner_.tell(trial.id, outcome->score, outcome->metrics);
            board_.report(row, cat("trial ", trial.id, " ends  score ", fixed(outcome->score, 4), "  best ",
                                   fixed(tuner_.best()->score, 4), " (trial ", tuner_.best()->id, ")"));
        } else if (!why.empty()) {
            tuner_.fail(trial.id);
            board_.report(row, cat("trial ", trial.id, " failed: ", why));
        } else {
            interrupted_ = over_ = true;
        }
        save();
        changed_.notify_all();
    }

    bool stopped() {
        if (run_.stop != nullptr && *run_.stop) interrupted_ = true;
        return interrupted_;
    }
    std::int64_t under_way() const { return tuner_.running(); }
    void save() const { write_file_atomically(state_file(run_.folder), tuner_.save()); }

    search::Tuner& tuner_;
    const SearchRun& run_;
    const TrialFunction& trial_;
    ProgressBoard& board_;
    std::mutex mutex_;
    std::condition_variable changed_;
    bool over_ = false, interrupted_ = false;
};

std::set<std::string> names_of(const search::Tuner& tuner, bool metrics) {
    std::set<std::string> names;
    for (const search::Trial& trial : tuner.trials()) {
        if (metrics)
            for (const auto& [name, value] : trial.metrics) names.insert(name);
        else
            for (const auto& [name, value] : trial.values) names.insert(name);
    }
    return names;
}

std::string exact(double value) { return nlohmann::json(value).dump(); }

}  // namespace

std::string trial_folder(const std::string& folder, std::int64_t id) { return cat(folder, "/trials/trial_", id); }

void forget_search(const std::string& folder) {
    std::filesystem::remove(state_file(folder));
    std::filesystem::remove_all(folder + "/trials");
}

bool run_search(search::Tuner& tuner, const SearchRun& run, const TrialFunction& trial) {
    make_folder(run.folder);
    if (run.resume && std::filesystem::exists(state_file(run.folder))) {
        tuner.load(read_file(state_file(run.folder)));
    } else {
        forget_search(run.folder);
    }
    std::vector<std::string> labels;
    for (int i = 0; i < run.jobs; ++i) labels.push_back(run.jobs == 1 ? "search" : cat("search ", i));
    ProgressBoard board(labels);
    SearchLoop loop(tuner, run, trial, board);
    std::vector<Job> jobs;
    for (int i = 0; i < run.jobs; ++i) jobs.push_back({"search", [&loop, i] { loop.work(i); }});
    run_side_by_side(jobs, run.jobs);
    return !loop.interrupted();
}

ReportTable ranking_table(const search::Tuner& tuner, std::size_t most) {
    ReportTable table;
    const std::set<std::string> metrics = names_of(tuner, true);
    table.header = {"rank", "trial", "score"};
    for (const std::string& name : metrics) table.header.push_back(name);
    table.header.push_back("hyperparameters");
    std::vector<search::Trial> ranked = tuner.ranking();
    if (most > 0 && ranked.size() > most) ranked.resize(most);
    for (std::size_t i = 0; i < ranked.size(); ++i) {
        const search::Trial& trial = ranked[i];
        std::vector<std::string> row{cat(i + 1), cat(trial.id), fixed(trial.score, 4)};
        for (const std::string& name : metrics) {
            const auto found = trial.metrics.find(name);
            const bool whole = found != trial.metrics.end() && found->second == std::floor(found->second);
            row.push_back(found == trial.metrics.end() ? "-" : fixed(found->second, whole ? 0 : 4));
        }
        std::string values;
        for (const auto& [name, value] : trial.values)
            values += cat(values.empty() ? "" : " ", name, "=", search::to_text(value));
        row.push_back(values);
        table.rows.push_back(std::move(row));
    }
    return table;
}

std::string trials_csv(const search::Tuner& tuner) {
    const std::set<std::string> metrics = names_of(tuner, true), values = names_of(tuner, false);
    std::string csv = "trial,status,score,iteration,bracket,round,epochs,parent";
    for (const std::set<std::string>* names : {&metrics, &values})
        for (const std::string& name : *names) csv += "," + name;
    csv += "\n";
    constexpr const char* status[] = {"running", "completed", "failed"};
    for (const search::Trial& trial : tuner.trials()) {
        csv += cat(trial.id, ',', status[static_cast<int>(trial.status)], ',',
                   trial.status == search::TrialStatus::completed ? exact(trial.score) : "", ',', trial.iteration, ',',
                   trial.bracket, ',', trial.round, ',', trial.epochs, ',', trial.parent);
        for (const std::string& name : metrics)
            csv += "," + (trial.metrics.contains(name) ? exact(trial.metrics.at(name)) : "");
        for (const std::string& name : values)
            csv += "," + (trial.values.contains(name) ? "\"" + search::to_text(trial.values.at(name)) + "\"" : "");
        csv += "\n";
    }
    return csv;
}

}  // namespace bitloom
