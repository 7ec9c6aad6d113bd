#pragma once
// Receiver operating characteristics of one class against the rest, and their spread over folds (svhn-qkeras.md, 6).

#include <cstdint>
#include <span>
#include <vector>

namespace bitloom {

struct RocCurve {
    std::vector<double> fpr, tpr;  ///< false and true positive rates, rising from (0, 0) to (1, 1)
};

/// A point a distinct score, from the largest down; points on the line between their neighbours are dropped, as
/// scikit-learn's roc_curve does. Throws Error where sizes differ, a score is
/// NaN or a class has no sample.
RocCurve roc_curve(std::span<const float> scores, std::span<const std::uint8_t> positive);

/// By the trapezoidal rule.
double area_under(const RocCurve& curve);

/// The true positive rate at a false positive rate, linear between points; at a jump the upper end.
double tpr_at(const RocCurve& curve, double fpr);

/// Mean and population standard deviation of the true positive rate over folds, at `points` false positive rates spaced
/// evenly on a logarithmic axis from 0.0005 to 1. The band is mean +- deviation, cut at 0 and 1.
struct RocBand {
    std::vector<double> fpr, mean, deviation, lower, upper;
};
RocBand roc_band(const std::vector<RocCurve>& folds, int points = 50);

/// The value below which a share `q` in [0, 1] of the values lies, linear between neighbours (NumPy's percentile).
/// Throws Error for no values.
double quantile(std::vector<double> values, double q);

}  // namespace bitloom
