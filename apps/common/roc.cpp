#include "apps/common/roc.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "apps/common/fold_scores.h"
#include "engine/error.h"

namespace bitloom {

RocCurve roc_curve(std::span<const float> scores, std::span<const std::uint8_t> positive) {
    require(scores.size() == positive.size(), "roc: ", scores.size(), " scores, ", positive.size(), " labels");
    require(std::none_of(scores.begin(), scores.end(), [](float score) { return std::isnan(score); }),
            "roc: a score is no number (NaN)");
    std::vector<std::size_t> order(scores.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
    // Counts at or above each distinct score.
    std::vector<std::int64_t> hits, misses;
    std::int64_t hit = 0, miss = 0;
    for (std::size_t i = 0; i < order.size(); ++i) {
        (positive[order[i]] ? hit : miss) += 1;
        if (i + 1 < order.size() && scores[order[i + 1]] == scores[order[i]]) continue;
        hits.push_back(hit);
        misses.push_back(miss);
    }
    require(hit > 0 && miss > 0, "roc: ", hit, " samples of the class, ", miss, " of the others");
    RocCurve curve{{0}, {0}};
    for (std::size_t i = 0; i < hits.size(); ++i) {
        const bool inner = i > 0 && i + 1 < hits.size();
        if (inner && hits[i] - hits[i - 1] == hits[i + 1] - hits[i] &&
            misses[i] - misses[i - 1] == misses[i + 1] - misses[i])
            continue;
        curve.fpr.push_back(static_cast<double>(misses[i]) / static_cast<double>(miss));
        curve.tpr.push_back(static_cast<double>(hits[i]) / static_cast<double>(hit));
    }
    return curve;
}

double area_under(const RocCurve& curve) {
    double area = 0;
    for (std::size_t i = 1; i < curve.fpr.size(); ++i)
        area += (curve.fpr[i] - curve.fpr[i - 1]) * (curve.tpr[i] + curve.tpr[i - 1]) / 2;
    return area;
}

double tpr_at(const RocCurve& curve, double fpr) {
    // The last point at or before it; several points of one rate are a jump.
    const auto after = std::upper_bound(curve.fpr.begin(), curve.fpr.end(), fpr);
    if (after == curve.fpr.begin()) return curve.tpr.front();
    const auto i = static_cast<std::size_t>(after - curve.fpr.begin()) - 1;
    if (after == curve.fpr.end()) return curve.tpr.back();
    const double slope = (curve.tpr[i + 1] - curve.tpr[i]) / (curve.fpr[i + 1] - curve.fpr[i]);
    return curve.tpr[i] + slope * (fpr - curve.fpr[i]);
}

RocBand roc_band(const std::vector<RocCurve>& folds, int points) {
    require(!folds.empty() && points >= 2, "roc: a band over ", folds.size(), " folds at ", points, " points");
    constexpr double lowest = 0.0005;
    RocBand band;
    for (int p = 0; p < points; ++p) {
        const double fpr = std::exp(std::log(lowest) * (1 - static_cast<double>(p) / (points - 1)));
        std::vector<double> values;
        for (const RocCurve& curve : folds) values.push_back(tpr_at(curve, fpr));
        const MeanAndDeviation m = mean_and_deviation(values);
        band.fpr.push_back(fpr);
        band.mean.push_back(m.mean);
        band.deviation.push_back(m.deviation);
        band.lower.push_back(std::max(0.0, m.mean - m.deviation));
        band.upper.push_back(std::min(1.0, m.mean + m.deviation));
    }
    return band;
}

double quantile(std::vector<double> values, double q) {
    require(!values.empty(), "quantile of no values");
    std::sort(values.begin(), values.end());
    const double position = q * static_cast<double>(values.size() - 1);
    const auto below = static_cast<std::size_t>(position);
    if (below + 1 >= values.size()) return values.back();
    return values[below] + (position - static_cast<double>(below)) * (values[below + 1] - values[below]);
}

}  // namespace bitloom
