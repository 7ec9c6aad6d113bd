#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "quant/search/tuner.h"

namespace bitloom::search {

namespace {

class HyperbandTuner final : public Tuner {
   public:
    HyperbandTuner(Space space, const TunerOptions& options, const HyperbandOptions& hyperband)
        : Tuner(std::move(space), options),
          hyperband_(hyperband),
          rounds_(hyperband_rounds(hyperband.most_epochs, hyperband.factor)) {
        require(hyperband.iterations >= 1, "hyperband: at least one iteration, got ", hyperband.iterations);
        brackets_ = rounds_.front().bracket + 1;
    }
    std::string name() const override { return "hyperband"; }

   protected:
    // Brackets that have begun go first, in order. A new one begins only where all of them wait or are full, so that
    // trials side by side never idle.
    std::optional<Trial> propose() override {
        for (std::int64_t begun = 0;; ++begun) {
            if (begun == brackets_ * hyperband_.iterations) return std::nullopt;
            const std::int64_t iteration = begun / brackets_, bracket = brackets_ - 1 - begun % brackets_;
            if (std::optional<Trial> trial = propose_in(iteration, bracket)) return trial;
        }
    }

   private:
    const HyperbandRound& round_of(std::int64_t bracket, std::int64_t round) const {
        return *std::find_if(rounds_.begin(), rounds_.end(), [&](const HyperbandRound& r) {
            return r.bracket == bracket && r.round == round;
        });
    }

    std::vector<const Trial*> trials_of(std::int64_t iteration, std::int64_t bracket, std::int64_t round) const {
        std::vector<const Trial*> found;
        for (const Trial& trial : trials_)
            if (trial.iteration == iteration && trial.bracket == bracket && trial.round == round)
                found.push_back(&trial);
        return found;
    }

    std::optional<Trial> propose_in(std::int64_t iteration, std::int64_t bracket) {
        for (std::int64_t round = 0; round <= bracket; ++round) {
            const HyperbandRound& plan = round_of(bracket, round);
            const std::vector<const Trial*> here = trials_of(iteration, bracket, round);
            if (std::ssize(here) >= plan.size) continue;
            Trial trial;
            trial.iteration = iteration;
            trial.bracket = bracket;
            trial.round = round;
            trial.epochs = plan.epochs;
            if (round == 0) {
                std::optional<Values> values = draw_untried();
                // A small space runs out of new configurations; others of the same values fill the round.
                if (!values) {
                    Rng rng(options_.seed, "repeated trial", trials_.size());
                    values = space_.sample(rng);
                }
                trial.values = std::move(*values);
                return trial;
            }
            if (const Trial* promoted = promotion(iteration, bracket, round, here)) {
                trial.values = promoted->values;
                trial.parent = promoted->id;
                if (promoted->status == TrialStatus::completed) trial.initial_epoch = promoted->epochs;
                return trial;
            }
        }
        return std::nullopt;
    }

    // The best ended trial of the round before that was not promoted yet, once so many have ended that it is sure to be
    // among the best.
    const Trial* promotion(std::int64_t iteration, std::int64_t bracket, std::int64_t round,
                           const std::vector<const Trial*>& promoted) const {
        std::vector<const Trial*> candidates;
        const std::vector<const Trial*> before = trials_of(iteration, bracket, round - 1);
        for (const Trial* trial : before) {
            const bool taken = std::any_of(promoted.begin(), promoted.end(),
                                           [&](const Trial* p) { return p->parent == trial->id; });
            if (trial->status != TrialStatus::running && !taken) candidates.push_back(trial);
        }
        const std::int64_t dropped = round_of(bracket, round - 1).size - round_of(bracket, round).size;
        if (std::ssize(candidates) <= dropped) return nullptr;
        return *std::min_element(candidates.begin(), candidates.end(), [this](const Trial* a, const Trial* b) {
            if (a->status != b->status) return a->status == TrialStatus::completed;
            return a->status == TrialStatus::completed && better(a->score, b->score);
        });
    }

    HyperbandOptions hyperband_;
    std::vector<HyperbandRound> rounds_;
    std::int64_t brackets_ = 0;
};

}  // namespace

std::vector<HyperbandRound> hyperband_rounds(std::int64_t most_epochs, std::int64_t factor) {
    require(most_epochs >= 1 && factor >= 2, "hyperband: needs at least one epoch and a factor of 2, got ", most_epochs,
            " and ", factor);
    const auto most = static_cast<double>(most_epochs), f = static_cast<double>(factor);
    std::int64_t brackets = 0;
    for (double budget = most; budget >= 1; budget /= f) ++brackets;
    const double last_size = std::ceil(1 + std::log(most) / std::log(f));
    std::vector<HyperbandRound> rounds;
    for (std::int64_t bracket = brackets - 1; bracket >= 0; --bracket)
        for (std::int64_t round = 0; round <= bracket; ++round) {
            const double power = std::pow(f, static_cast<double>(bracket - round));
            rounds.push_back({bracket, round,
                              static_cast<std::int64_t>(std::ceil(last_size / static_cast<double>(bracket + 1) * power)),
                              static_cast<std::int64_t>(std::ceil(most / power))});
        }
    return rounds;
}

std::unique_ptr<Tuner> make_hyperband_tuner(Space space, const TunerOptions& options,
                                            const HyperbandOptions& hyperband) {
    return std::make_unique<HyperbandTuner>(std::move(space), options, hyperband);
}

}  // namespace bitloom::search
