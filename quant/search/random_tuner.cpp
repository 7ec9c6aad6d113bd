#include "quant/search/tuner.h"

namespace bitloom::search {

namespace {

class RandomTuner final : public Tuner {
   public:
    RandomTuner(Space space, const TunerOptions& options) : Tuner(std::move(space), options) {}
    std::string name() const override { return "random"; }

   protected:
    std::optional<Trial> propose() override {
        if (std::ssize(trials_) >= options_.most_trials) return std::nullopt;
        std::optional<Values> values = draw_untried();
        if (!values) return std::nullopt;
        Trial trial;
        trial.values = std::move(*values);
        return trial;
    }
};

}  // namespace

std::unique_ptr<Tuner> make_random_tuner(Space space, const TunerOptions& options) {
    return std::make_unique<RandomTuner>(std::move(space), options);
}

}  // namespace bitloom::search
