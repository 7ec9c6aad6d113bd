#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "quant/search/box_minimizer.h"
#include "quant/search/tuner.h"

namespace bitloom::search {

namespace {

using Eigen::VectorXd;

VectorXd to_eigen(const std::vector<double>& values) {
    return Eigen::Map<const VectorXd>(values.data(), static_cast<Eigen::Index>(values.size()));
}

class BayesianTuner final : public Tuner {
   public:
    BayesianTuner(Space space, const TunerOptions& options, const BayesianOptions& bayesian)
        : Tuner(std::move(space), options), bayesian_(bayesian) {
        require(bayesian.starts >= 1, "bayesian tuner: at least one start, got ", bayesian.starts);
        if (bayesian_.initial_points <= 0) bayesian_.initial_points = 3 * std::max(space_.dimensions(), 1);
    }
    std::string name() const override { return "bayesian"; }

   protected:
    std::optional<Trial> propose() override {
        if (std::ssize(trials_) >= options_.most_trials) return std::nullopt;
        std::optional<Values> values;
        if (std::ssize(trials_) >= bayesian_.initial_points && completed() > 0 && space_.dimensions() > 0)
            values = minimum_of_acquisition();
        if (!values) values = draw_untried();
        if (!values) return std::nullopt;
        Trial trial;
        trial.values = std::move(*values);
        return trial;
    }

   private:
    // Scores with the sign that makes smaller ones better.
    double target(const Trial& trial) const {
        return options_.goal == Goal::maximize ? -trial.score : trial.score;
    }

    GaussianProcess process() const {
        std::vector<VectorXd> points;
        std::vector<double> targets;
        for (const Trial& trial : trials_)
            if (trial.status == TrialStatus::completed) {
                points.push_back(to_eigen(space_.encode(trial.values)));
                targets.push_back(target(trial));
            }
        const double worst = *std::max_element(targets.begin(), targets.end());
        for (const Trial& trial : trials_)
            if (trial.status == TrialStatus::failed) {
                points.push_back(to_eigen(space_.encode(trial.values)));
                targets.push_back(worst);
            }
        GaussianProcessOptions options = bayesian_.process;
        options.seed = options_.seed;
        const auto fit = [&] {
            Eigen::MatrixXd x(static_cast<Eigen::Index>(points.size()), space_.dimensions());
            for (std::size_t i = 0; i < points.size(); ++i) x.row(static_cast<Eigen::Index>(i)) = points[i].transpose();
            return GaussianProcess(x, to_eigen(targets), options);
        };
        GaussianProcess known = fit();
        if (running() == 0) return known;
        for (const Trial& trial : trials_)
            if (trial.status == TrialStatus::running) {
                const VectorXd point = to_eigen(space_.encode(trial.values));
                const GaussianProcess::Prediction guess = known.predict(point);
                points.push_back(point);
                targets.push_back(guess.mean + guess.deviation);
            }
        return fit();
    }

    std::optional<Values> minimum_of_acquisition() {
        const GaussianProcess model = process();
        const Eigen::Index d = space_.dimensions();
        const VectorXd lower = VectorXd::Zero(d), upper = VectorXd::Ones(d);
        const SmoothFunction acquisition = [&](const VectorXd& x, VectorXd& gradient) {
            return model.lower_bound(x, bayesian_.beta, gradient);
        };
        Rng rng(options_.seed, "acquisition", trials_.size());
        std::vector<BoxMinimum> minima;
        for (int start = 0; start < bayesian_.starts; ++start) {
            VectorXd x(d);
            for (Eigen::Index i = 0; i < d; ++i) x[i] = rng.uniform();
            minima.push_back(minimize_in_box(acquisition, x, lower, upper, 1e-6, 100));
        }
        std::stable_sort(minima.begin(), minima.end(),
                         [](const BoxMinimum& a, const BoxMinimum& b) { return a.value < b.value; });
        for (const BoxMinimum& minimum : minima) {
            Values values = space_.decode({minimum.x.data(), minimum.x.data() + minimum.x.size()});
            if (!tried(values)) return values;
        }
        return std::nullopt;
    }

    BayesianOptions bayesian_;
};

}  // namespace

std::unique_ptr<Tuner> make_bayesian_tuner(Space space, const TunerOptions& options, const BayesianOptions& bayesian) {
    return std::make_unique<BayesianTuner>(std::move(space), options, bayesian);
}

}  // namespace bitloom::search
