#pragma once
// Minimisation of a smooth function in a box.

#include <Eigen/Dense>
#include <functional>

namespace bitloom::search {

/// f(x), with its gradient in `gradient`.
using SmoothFunction = std::function<double(const Eigen::VectorXd& x, Eigen::VectorXd& gradient)>;

struct BoxMinimum {
    Eigen::VectorXd x;
    double value = 0;
    int iterations = 0;
};

/// Projected limited-memory BFGS (after Byrd, Lu, Nocedal and Zhu, 1995): quasi-Newton directions in the variables that are
/// not held at a bound, a backtracking line search along the projected path. From `start` (moved into the box) until
/// the projected gradient is below `tolerance` or nothing improves. Throws Error where sizes disagree or a lower bound
/// exceeds the upper one.
BoxMinimum minimize_in_box(const SmoothFunction& function, const Eigen::VectorXd& start, const Eigen::VectorXd& lower,
                           const Eigen::VectorXd& upper, double tolerance = 1e-8, int most_iterations = 200);

}  // namespace bitloom::search
