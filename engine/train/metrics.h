#pragma once
// Classification metrics from logits and labels, accumulated in double.

#include <cstdint>
#include <vector>

#include "engine/tensor.h"

namespace bitloom {

/// Rows of `logits` [B, classes] (f32 or f64, any device) whose largest entry is at the label, i32 [B]. Of equal
/// entries the first counts; a NaN counts as the largest, as in NumPy. Throws Error where the shapes disagree.
std::int64_t count_correct(const Tensor& logits, const Tensor& labels);

/// Sums over any number of batches.
class ClassificationMetrics {
public:
    /// Adds a batch: logits [B, classes] (f32 or f64), labels i32 [B], any device. The first batch sets the number of
    /// classes. Throws Error for shapes that disagree and labels outside [0, classes).
    void add(const Tensor& logits, const Tensor& labels);

    std::int64_t count() const { return count_; }
    int classes() const { return classes_; }
    /// Samples whose label is the argmax.
    std::int64_t correct() const { return correct(1); }
    /// Samples whose label is among the k largest logits (ties: lower index first).
    std::int64_t correct(int k) const;
    /// Fractions of 1; 0 for no samples.
    double accuracy() const { return top_k(1); }
    double top_k(int k) const;
    /// Mean of logsumexp(z) - z[label], natural log.
    double cross_entropy() const;

    /// Samples of class `label` predicted as `predicted`.
    std::int64_t confusion(int label, int predicted) const;
    std::int64_t label_count(int label) const;          ///< samples of the class
    std::int64_t predicted_count(int predicted) const;  ///< samples predicted as the class
    /// Fraction of the class' samples that were predicted right (the accuracy of the class); NaN for a class without
    /// samples.
    double recall(int label) const;
    /// Fraction right among the samples predicted as the class; NaN where none was.
    double precision(int predicted) const;

private:
    int classes_ = 0;
    std::int64_t count_ = 0;
    double cross_entropy_sum_ = 0;
    std::vector<std::int64_t> rank_counts_;  // samples whose label has rank r (0: the argmax)
    std::vector<std::int64_t> confusion_;    // [label, predicted]
};

}  // namespace bitloom
