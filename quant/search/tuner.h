#pragma once
// Tuner: decides which trial to run next, from the scores of those before (svhn-qkeras.md, sections 5.5 to 5.7).

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "quant/search/gaussian_process.h"
#include "quant/search/space.h"

namespace bitloom::search {

enum class TrialStatus { running, completed, failed };

/// One configuration to train. `epochs` and `initial_epoch` are Hyperband's; 0 where the tuner leaves the length open.
struct Trial {
    std::int64_t id = 0;  ///< from 0 in order of birth
    Values values;
    TrialStatus status = TrialStatus::running;
    double score = 0;              ///< of a completed trial
    std::int64_t epochs = 0;         ///< train up to here
    std::int64_t initial_epoch = 0;  ///< from here; above 0: with the best weights of `parent`
    std::int64_t parent = -1;        ///< the trial that was promoted; -1: none
    std::int64_t iteration = 0, bracket = 0, round = 0;
    std::map<std::string, double> metrics;  ///< for summaries
};

enum class Goal { maximize, minimize };

struct TunerOptions {
    Goal goal = Goal::maximize;
    std::int64_t most_trials = 10;  ///< Hyperband has its own count
    std::uint64_t seed = 1;
};

/// Not thread-safe: trials side by side ask and tell under one lock. The same sequence of asks and tells gives the same
/// trials, also across a save and a load; trials that ran when the state was saved are handed out again first.
class Tuner {
   public:
    virtual ~Tuner() = default;
    virtual std::string name() const = 0;

    /// The next trial, or nothing: where trials are under way, what comes next waits for them; else the search is over.
    std::optional<Trial> ask();
    /// Throws Error for a trial that does not run, or a score that is not finite (use fail).
    void tell(std::int64_t id, double score, std::map<std::string, double> metrics = {});
    /// The trial gave no score (its loss was not finite): it counts as tried and as worse than all others.
    void fail(std::int64_t id);

    const std::vector<Trial>& trials() const { return trials_; }
    const Trial& trial(std::int64_t id) const;
    std::int64_t running() const;
    std::int64_t completed() const;
    /// Nothing before the first trial has a score. Of equal ones the first.
    const Trial* best() const;
    /// Completed trials, best first.
    std::vector<Trial> ranking() const;
    /// True where `a` is better.
    bool better(double a, double b) const { return options_.goal == Goal::maximize ? a > b : a < b; }
    const Space& space() const { return space_; }
    const TunerOptions& options() const { return options_; }

    /// Everything that a resumed search needs, as JSON.
    std::string save() const;
    /// Throws Error in one line for the state of another tuner or space, and for text that is none.
    void load(const std::string& json);

   protected:
    Tuner(Space space, TunerOptions options) : space_(std::move(space)), options_(options) {}
    /// What comes next; id and status are set by ask. Nothing: over, or waiting.
    virtual std::optional<Trial> propose() = 0;
    virtual std::vector<std::int64_t> state() const { return {}; }
    virtual void load_state(const std::vector<std::int64_t>& state) { (void)state; }

    /// A configuration that was not tried, redrawn up to 20 times (5.5).
    std::optional<Values> draw_untried();
    bool tried(const Values& values) const;

    Space space_;
    TunerOptions options_;
    std::vector<Trial> trials_;
    std::int64_t draws_ = 0;  // of random configurations: the counter of their stream

   private:
    Trial& running_trial(std::int64_t id);
    std::vector<std::int64_t> to_repeat_;  // trials that an interruption cut off
};

/// Every trial drawn at random.
std::unique_ptr<Tuner> make_random_tuner(Space space, const TunerOptions& options);

struct HyperbandOptions {
    std::int64_t most_epochs = 100;
    std::int64_t factor = 3;
    std::int64_t iterations = 1;  ///< passes over all brackets
};
/// Hyperband (Li et al., 2018) in the form of 5.6: promoted trials continue from the weights of the round before.
std::unique_ptr<Tuner> make_hyperband_tuner(Space space, const TunerOptions& options,
                                            const HyperbandOptions& hyperband);

/// The rounds of Hyperband's brackets in order of execution, the most aggressive bracket first.
struct HyperbandRound {
    std::int64_t bracket = 0, round = 0, size = 0, epochs = 0;
};
/// Throws Error unless most_epochs >= 1 and factor >= 2.
std::vector<HyperbandRound> hyperband_rounds(std::int64_t most_epochs, std::int64_t factor);

struct BayesianOptions {
    std::int64_t initial_points = 2;  ///< random trials at first; 0: three times the number of hyperparameters
    double beta = 2.6;                ///< of the acquisition mu - beta sigma
    int starts = 50;                  ///< of its minimisation
    GaussianProcessOptions process;
};
/// Gaussian-process optimisation of 5.7. Trials under way count with mu + sigma. A proposal that was tried already gives
/// way to the best other minimum, or to a random configuration.
std::unique_ptr<Tuner> make_bayesian_tuner(Space space, const TunerOptions& options, const BayesianOptions& bayesian);

}  // namespace bitloom::search
