#include "quant/search/gaussian_process.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/error.h"
#include "engine/random.h"
#include "quant/search/box_minimizer.h"

namespace bitloom::search {
namespace {

using Eigen::MatrixXd;
using Eigen::VectorXd;

MatrixXd random_points(int n, int d, std::uint64_t seed) {
    Rng rng(seed, "points");
    MatrixXd x(n, d);
    for (int i = 0; i < n; ++i)
        for (int j = 0; j < d; ++j) x(i, j) = rng.uniform();
    return x;
}

// The textbook formulas, with an explicit inverse.
TEST(GaussianProcess, EqualsTheFormulas) {
    const MatrixXd x = random_points(9, 3, 1);
    const VectorXd y = (x.col(0).array() * 3 - x.col(1).array().square()).matrix();
    const GaussianProcess process(x, y);
    const auto k = [](double d) {
        return (1 + std::sqrt(5.0) * d + 5 * d * d / 3) * std::exp(-std::sqrt(5.0) * d);
    };
    MatrixXd kernel(9, 9);
    for (int i = 0; i < 9; ++i)
        for (int j = 0; j < 9; ++j) kernel(i, j) = k((x.row(i) - x.row(j)).norm()) + (i == j ? 1e-4 : 0);
    const double mean = y.mean(), deviation = std::sqrt((y.array() - mean).square().mean());
    const VectorXd z = (y.array() - mean) / deviation;
    const MatrixXd inverse = kernel.inverse();
    for (int q = 0; q < 5; ++q) {
        const VectorXd point = random_points(5, 3, 2).row(q);
        VectorXd to_known(9);
        for (int i = 0; i < 9; ++i) to_known[i] = k((x.row(i).transpose() - point).norm());
        const double mu = to_known.dot(inverse * z) * deviation + mean;
        const double sigma = std::sqrt(std::max(0.0, 1 - to_known.dot(inverse * to_known))) * deviation;
        EXPECT_NEAR(process.predict(point).mean, mu, 1e-9);
        EXPECT_NEAR(process.predict(point).deviation, sigma, 1e-9);
        VectorXd gradient(3);
        EXPECT_NEAR(process.lower_bound(point, 2.6, gradient), mu - 2.6 * sigma, 1e-8);
    }
}

TEST(GaussianProcess, GradientOfTheAcquisitionAgreesWithDifferences) {
    const MatrixXd x = random_points(12, 4, 3);
    const VectorXd y = x.rowwise().sum().array().sin();
    for (const Matern kernel : {Matern::half3, Matern::half5}) {
        const GaussianProcess process(x, y, {.kernel = kernel, .length = 0.7});
        const VectorXd point = VectorXd::Constant(4, 0.37);
        VectorXd gradient(4), unused(4);
        process.lower_bound(point, 2.6, gradient);
        for (int i = 0; i < 4; ++i) {
            VectorXd up = point, down = point;
            up[i] += 1e-5, down[i] -= 1e-5;
            const double difference =
                (process.lower_bound(up, 2.6, unused) - process.lower_bound(down, 2.6, unused)) / 2e-5;
            EXPECT_NEAR(gradient[i], difference, 1e-5);
        }
    }
}

TEST(GaussianProcess, KnowsItsPointsAndTellsHowLittleItKnowsFarAway) {
    const MatrixXd x = random_points(6, 2, 4);
    const VectorXd y = x.col(0) * 10;
    const GaussianProcess process(x, y);
    EXPECT_NEAR(process.predict(x.row(2)).mean, y[2], 0.05);
    EXPECT_LT(process.predict(x.row(2)).deviation, 0.1);
    const GaussianProcess::Prediction far = process.predict(VectorXd::Constant(2, 50));
    EXPECT_NEAR(far.mean, y.mean(), 1e-6);
    EXPECT_NEAR(far.deviation, std::sqrt((y.array() - y.mean()).square().mean()), 1e-6);
}

TEST(GaussianProcess, FittedLengthFollowsTheData) {
    const MatrixXd x = random_points(60, 1, 5);
    const VectorXd smooth = x.col(0), rough = (x.col(0).array() * 60).sin();
    const GaussianProcessOptions fit{.kernel = Matern::half3, .fit_length = true};
    const double long_scale = GaussianProcess(x, smooth, fit).length();
    const double short_scale = GaussianProcess(x, rough, fit).length();
    EXPECT_GT(long_scale, 10 * short_scale);
    EXPECT_LT(short_scale, 0.3);
}

TEST(GaussianProcess, EqualTargetsAndBadInput) {
    const MatrixXd x = random_points(3, 2, 6);
    EXPECT_NEAR(GaussianProcess(x, VectorXd::Constant(3, 7)).predict(VectorXd::Zero(2)).mean, 7, 1e-12);
    EXPECT_THROW(GaussianProcess(MatrixXd(0, 2), VectorXd(0)), Error);
    EXPECT_THROW(GaussianProcess(x, VectorXd::Constant(3, NAN)), Error);
    EXPECT_THROW(GaussianProcess(x, VectorXd::Zero(3)).predict(VectorXd::Zero(3)), Error);
}

TEST(BoxMinimizer, RosenbrockInsideAndAtTheBorder) {
    const SmoothFunction rosenbrock = [](const VectorXd& x, VectorXd& gradient) {
        const double a = 1 - x[0], b = x[1] - x[0] * x[0];
        gradient = VectorXd(2);
        gradient << -2 * a - 400 * x[0] * b, 200 * b;
        return a * a + 100 * b * b;
    };
    const VectorXd start = VectorXd::Constant(2, -1.2);
    const BoxMinimum inside =
        minimize_in_box(rosenbrock, start, VectorXd::Constant(2, -2), VectorXd::Constant(2, 2), 1e-10, 500);
    EXPECT_NEAR(inside.x[0], 1, 1e-5);
    EXPECT_NEAR(inside.x[1], 1, 1e-5);
    // With x0 <= 0.5 the minimum lies at x = (0.5, 0.25).
    VectorXd upper(2);
    upper << 0.5, 2;
    const BoxMinimum border = minimize_in_box(rosenbrock, start, VectorXd::Constant(2, -2), upper, 1e-10, 500);
    EXPECT_NEAR(border.x[0], 0.5, 1e-9);
    EXPECT_NEAR(border.x[1], 0.25, 1e-5);
    EXPECT_NEAR(border.value, 0.25, 1e-9);
}

TEST(BoxMinimizer, LinearFunctionsEndInACorner) {
    const SmoothFunction linear = [](const VectorXd& x, VectorXd& gradient) {
        gradient = VectorXd(3);
        gradient << 1, -2, 0;
        return x[0] - 2 * x[1];
    };
    const BoxMinimum corner = minimize_in_box(linear, VectorXd::Constant(3, 0.5), VectorXd::Zero(3), VectorXd::Ones(3));
    EXPECT_EQ(corner.x[0], 0);
    EXPECT_EQ(corner.x[1], 1);
    EXPECT_EQ(corner.x[2], 0.5);
    EXPECT_THROW(minimize_in_box(linear, VectorXd::Zero(3), VectorXd::Ones(3), VectorXd::Zero(3)), Error);
}

}  // namespace
}  // namespace bitloom::search
