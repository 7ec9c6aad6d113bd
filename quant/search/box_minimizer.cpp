#include "quant/search/box_minimizer.h"

#include <cmath>
#include <deque>

#include "engine/error.h"

namespace bitloom::search {

namespace {

using Eigen::VectorXd;

constexpr std::size_t memory = 10;  // pairs of steps and gradient changes, as in L-BFGS-B

struct Pair {
    VectorXd step, change;
    double inverse_curvature;
};

// The two-loop recursion on the free variables: an approximation of -H^-1 g.
VectorXd descent_direction(const VectorXd& gradient, const VectorXd& free, const std::deque<Pair>& pairs) {
    VectorXd q = gradient.cwiseProduct(free);
    std::vector<double> alpha(pairs.size());
    for (std::size_t i = pairs.size(); i-- > 0;) {
        alpha[i] = pairs[i].inverse_curvature * pairs[i].step.dot(q);
        q -= alpha[i] * pairs[i].change;
    }
    if (!pairs.empty()) {
        const Pair& last = pairs.back();
        q /= last.inverse_curvature * last.change.squaredNorm();
    }
    for (std::size_t i = 0; i < pairs.size(); ++i)
        q += (alpha[i] - pairs[i].inverse_curvature * pairs[i].change.dot(q)) * pairs[i].step;
    return -q.cwiseProduct(free);
}

}  // namespace

BoxMinimum minimize_in_box(const SmoothFunction& function, const VectorXd& start, const VectorXd& lower,
                           const VectorXd& upper, double tolerance, int most_iterations) {
    require(start.size() == lower.size() && start.size() == upper.size(), "minimize_in_box: sizes disagree");
    require((lower.array() <= upper.array()).all(), "minimize_in_box: a lower bound exceeds the upper one");
    const auto project = [&](const VectorXd& x) -> VectorXd { return x.cwiseMax(lower).cwiseMin(upper); };

    BoxMinimum best;
    best.x = project(start);
    VectorXd gradient(start.size());
    best.value = function(best.x, gradient);
    std::deque<Pair> pairs;
    for (; best.iterations < most_iterations; ++best.iterations) {
        if ((project(best.x - gradient) - best.x).lpNorm<Eigen::Infinity>() <= tolerance) break;
        VectorXd free(start.size());
        for (Eigen::Index i = 0; i < start.size(); ++i) {
            const bool held = (best.x[i] <= lower[i] && gradient[i] > 0) || (best.x[i] >= upper[i] && gradient[i] < 0);
            free[i] = held ? 0 : 1;
        }
        VectorXd direction = descent_direction(gradient, free, pairs);
        if (!(direction.dot(gradient) < 0)) {
            pairs.clear();
            direction = -gradient.cwiseProduct(free);
        }
        // Without curvature the gradient's length says nothing about that of the step: begin within the box.
        double scale = pairs.empty() ? std::min(1.0, 0.25 / direction.lpNorm<Eigen::Infinity>()) : 1.0;
        VectorXd next, next_gradient(start.size());
        double value = 0;
        bool improved = false;
        for (int halvings = 0; halvings < 40 && !improved; ++halvings, scale *= 0.5) {
            next = project(best.x + scale * direction);
            value = function(next, next_gradient);
            improved = value <= best.value + 1e-4 * gradient.dot(next - best.x) && (next - best.x).squaredNorm() > 0;
        }
        if (!improved) {
            if (pairs.empty()) break;
            pairs.clear();  // once more along the gradient
            continue;
        }
        Pair pair{next - best.x, next_gradient - gradient, 0};
        const double curvature = pair.step.dot(pair.change);
        if (curvature > 1e-12 * pair.change.squaredNorm()) {
            pair.inverse_curvature = 1 / curvature;
            pairs.push_back(std::move(pair));
            if (pairs.size() > memory) pairs.pop_front();
        }
        const double gain = best.value - value;
        best.x = next;
        best.value = value;
        gradient = next_gradient;
        if (gain <= 1e-14 * std::max(1.0, std::abs(value))) break;
    }
    return best;
}

}  // namespace bitloom::search
