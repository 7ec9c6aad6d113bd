#pragma once
// Gaussian-process regression with a Matern kernel (Rasmussen and Williams, 2006, algorithm 2.1; svhn-qkeras.md, 5.7).

#include <Eigen/Dense>
#include <cstdint>

namespace bitloom::search {

enum class Matern { half3, half5 };  ///< nu = 1.5, nu = 2.5

struct GaussianProcessOptions {
    Matern kernel = Matern::half5;
    double length = 1;
    double noise = 1e-4;      ///< on the diagonal, in units of the standardised targets
    bool fit_length = false;  ///< by the largest marginal likelihood, from `length` and from `restarts` random starts
    int restarts = 20;
    std::uint64_t seed = 1;  ///< of the restarts
};

class GaussianProcess {
   public:
    struct Prediction {
        double mean = 0, deviation = 0;
    };

    /// x: one row a point; y: targets, standardised inside (population deviation; 1 where all are equal). Throws Error
    /// for no points, sizes that disagree, and values that are not finite.
    GaussianProcess(const Eigen::MatrixXd& x, const Eigen::VectorXd& y, const GaussianProcessOptions& options = {});

    /// Mean and standard deviation in the units of y; the noise does not count.
    Prediction predict(const Eigen::VectorXd& point) const;
    /// mean - beta deviation, to be minimised, and its gradient.
    double lower_bound(const Eigen::VectorXd& point, double beta, Eigen::VectorXd& gradient) const;
    double length() const { return length_; }

   private:
    double kernel(double distance) const;
    /// dk/dd / d, finite at d = 0.
    double kernel_slope_over_distance(double distance) const;
    /// dk / d ln length.
    double kernel_length_slope(double distance) const;
    void factorize();
    double negative_log_likelihood(double log_length, double& slope);
    void fit_length(const GaussianProcessOptions& options);

    Eigen::MatrixXd x_, distances_;
    Eigen::VectorXd y_;  // standardised
    double y_mean_ = 0, y_deviation_ = 1;
    Matern matern_;
    double length_, noise_;
    Eigen::LLT<Eigen::MatrixXd> factor_;
    Eigen::VectorXd weights_;  // K^-1 y
};

}  // namespace bitloom::search
