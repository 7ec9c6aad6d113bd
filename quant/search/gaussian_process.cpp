#include "quant/search/gaussian_process.h"

#include <cmath>
#include <numbers>

#include "engine/error.h"
#include "engine/random.h"
#include "quant/search/box_minimizer.h"

namespace bitloom::search {

namespace {
// Bounds of scikit-learn's length scale.
constexpr double least_length = 1e-5, most_length = 1e5;
}  // namespace

GaussianProcess::GaussianProcess(const Eigen::MatrixXd& x, const Eigen::VectorXd& y,
                                 const GaussianProcessOptions& options)
    : x_(x), y_(y), matern_(options.kernel), length_(options.length), noise_(options.noise) {
    require(x.rows() > 0 && x.rows() == y.size(), "gaussian process: ", x.rows(), " points and ", y.size(), " targets");
    require(x.allFinite() && y.allFinite(), "gaussian process: values that are not finite");
    y_mean_ = y.mean();
    y_deviation_ = std::sqrt((y.array() - y_mean_).square().mean());
    if (!(y_deviation_ > 0)) y_deviation_ = 1;
    y_ = (y.array() - y_mean_) / y_deviation_;
    distances_.resize(x.rows(), x.rows());
    for (Eigen::Index i = 0; i < x.rows(); ++i)
        for (Eigen::Index j = 0; j < x.rows(); ++j) distances_(i, j) = (x.row(i) - x.row(j)).norm();
    if (options.fit_length) fit_length(options);
    factorize();
}

double GaussianProcess::kernel(double distance) const {
    if (matern_ == Matern::half3) {
        const double s = std::sqrt(3.0) * distance / length_;
        return (1 + s) * std::exp(-s);
    }
    const double s = std::sqrt(5.0) * distance / length_;
    return (1 + s + s * s / 3) * std::exp(-s);
}

double GaussianProcess::kernel_slope_over_distance(double distance) const {
    if (matern_ == Matern::half3) return -3 / (length_ * length_) * std::exp(-std::sqrt(3.0) * distance / length_);
    const double s = std::sqrt(5.0) * distance / length_;
    return -5.0 / 3 / (length_ * length_) * (1 + s) * std::exp(-s);
}

double GaussianProcess::kernel_length_slope(double distance) const {
    return -kernel_slope_over_distance(distance) * distance * distance;  // k depends on d / length alone
}

void GaussianProcess::factorize() {
    Eigen::MatrixXd k = distances_.unaryExpr([this](double d) { return kernel(d); });
    k.diagonal().array() += noise_;
    factor_.compute(k);
    require(factor_.info() == Eigen::Success, "gaussian process: the kernel matrix is not positive definite");
    weights_ = factor_.solve(y_);
}

double GaussianProcess::negative_log_likelihood(double log_length, double& slope) {
    length_ = std::exp(log_length);
    factorize();
    const Eigen::Index n = y_.size();
    const Eigen::MatrixXd derivative = distances_.unaryExpr([this](double d) { return kernel_length_slope(d); });
    const Eigen::MatrixXd inverse = factor_.solve(Eigen::MatrixXd::Identity(n, n));
    slope = 0.5 * (inverse.cwiseProduct(derivative).sum() - weights_.dot(derivative * weights_));
    const double log_determinant = 2 * factor_.matrixLLT().diagonal().array().log().sum();
    return 0.5 * (y_.dot(weights_) + log_determinant + static_cast<double>(n) * std::log(2 * std::numbers::pi));
}

void GaussianProcess::fit_length(const GaussianProcessOptions& options) {
    const Eigen::VectorXd lower = Eigen::VectorXd::Constant(1, std::log(least_length));
    const Eigen::VectorXd upper = Eigen::VectorXd::Constant(1, std::log(most_length));
    Rng rng(options.seed, "gaussian process");
    Eigen::VectorXd start = Eigen::VectorXd::Constant(1, std::log(options.length));
    double best_value = 0, best_length = options.length;
    for (int attempt = 0; attempt <= options.restarts; ++attempt) {
        const BoxMinimum found = minimize_in_box(
            [this](const Eigen::VectorXd& x, Eigen::VectorXd& gradient) {
                return negative_log_likelihood(x[0], gradient[0]);
            },
            start, lower, upper, 1e-6, 50);
        if (attempt == 0 || found.value < best_value) {
            best_value = found.value;
            best_length = std::exp(found.x[0]);
        }
        start[0] = rng.uniform(lower[0], upper[0]);
    }
    length_ = best_length;
}

GaussianProcess::Prediction GaussianProcess::predict(const Eigen::VectorXd& point) const {
    require(point.size() == x_.cols(), "gaussian process: a point of ", point.size(), " coordinates, expected ",
            x_.cols());
    Eigen::VectorXd k(x_.rows());
    for (Eigen::Index i = 0; i < x_.rows(); ++i) k[i] = kernel((x_.row(i).transpose() - point).norm());
    const double variance = std::max(0.0, 1 - k.dot(factor_.solve(k)));
    return {k.dot(weights_) * y_deviation_ + y_mean_, std::sqrt(variance) * y_deviation_};
}

double GaussianProcess::lower_bound(const Eigen::VectorXd& point, double beta, Eigen::VectorXd& gradient) const {
    Eigen::VectorXd k(x_.rows());
    Eigen::MatrixXd jacobian(x_.rows(), point.size());  // of k
    for (Eigen::Index i = 0; i < x_.rows(); ++i) {
        const Eigen::VectorXd offset = point - x_.row(i).transpose();
        const double distance = offset.norm();
        k[i] = kernel(distance);
        jacobian.row(i) = kernel_slope_over_distance(distance) * offset.transpose();
    }
    const Eigen::VectorXd solved = factor_.solve(k);
    const double deviation = std::sqrt(std::max(0.0, 1 - k.dot(solved)));
    gradient = jacobian.transpose() * weights_;
    // d deviation = -k^T K^-1 dk / deviation; at a known point the deviation has a kink, where 0 is as good as any.
    if (deviation > 1e-9) gradient += beta / deviation * (jacobian.transpose() * solved);
    gradient *= y_deviation_;
    return (k.dot(weights_) - beta * deviation) * y_deviation_ + y_mean_;
}

}  // namespace bitloom::search
