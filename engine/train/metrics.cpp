#include "engine/train/metrics.h"

#include <cmath>
#include <limits>

namespace bitloom {

namespace {

struct Shapes {
    std::int64_t batch, classes;
};

Shapes check(const Tensor& logits, const Tensor& labels) {
    require(logits.rank() == 2 && logits.dim(1) > 0, "metrics: logits must be [B, classes], got ", logits.shape());
    require(labels.rank() == 1 && labels.dim(0) == logits.dim(0), "metrics: labels have shape ", labels.shape(),
            ", logits ", logits.shape());
    return {logits.dim(0), logits.dim(1)};
}

const Tensor on_host(const Tensor& tensor) { return tensor.device().is_host() ? tensor : tensor.to(cpu_device); }

/// Index of the first largest entry; a NaN counts as larger than any number.
template <class T>
std::int64_t argmax(const T* z, std::int64_t n) {
    std::int64_t best = 0;
    for (std::int64_t j = 1; j < n; ++j)
        if (z[j] > z[best] || (std::isnan(z[j]) && !std::isnan(z[best]))) best = j;
    return best;
}

/// How many entries come before `label` in descending order, of equal ones the lower index first. A NaN comes before
/// all.
template <class T>
std::int64_t rank_of(const T* z, std::int64_t n, std::int64_t label) {
    std::int64_t rank = 0;
    for (std::int64_t j = 0; j < n; ++j) {
        const bool behind = z[j] < z[label] || (z[j] == z[label] && j >= label);
        rank += !behind;
    }
    return std::min(rank, n - 1);
}

template <class T>
double log_sum_exp(const T* z, std::int64_t n) {
    const double largest = static_cast<double>(z[argmax(z, n)]);
    if (!std::isfinite(largest)) return largest;  // the sum would be inf - inf
    double sum = 0;
    for (std::int64_t j = 0; j < n; ++j) sum += std::exp(static_cast<double>(z[j]) - largest);
    return largest + std::log(sum);
}

double ratio(std::int64_t part, std::int64_t whole) {
    return whole == 0 ? std::numeric_limits<double>::quiet_NaN()
                      : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

std::int64_t count_correct(const Tensor& logits, const Tensor& labels) {
    const auto [batch, classes] = check(logits, labels);
    const Tensor host_logits = on_host(logits), host_labels = on_host(labels);
    const std::int32_t* label = host_labels.read<std::int32_t>();
    return dispatch_float(logits.dtype(), "metrics", [&, batch = batch, classes = classes](auto zero) {
        const auto* z = host_logits.read<decltype(zero)>();
        std::int64_t correct = 0;
        for (std::int64_t i = 0; i < batch; ++i) correct += argmax(z + i * classes, classes) == label[i];
        return correct;
    });
}

void ClassificationMetrics::add(const Tensor& logits, const Tensor& labels) {
    const auto [batch, classes] = check(logits, labels);
    if (classes_ == 0) {
        classes_ = static_cast<int>(classes);
        rank_counts_.assign(static_cast<std::size_t>(classes), 0);
        confusion_.assign(static_cast<std::size_t>(classes * classes), 0);
    }
    require(classes == classes_, "metrics: logits have ", classes, " classes, those before had ", classes_);
    const Tensor host_logits = on_host(logits), host_labels = on_host(labels);
    const std::int32_t* label = host_labels.read<std::int32_t>();
    for (std::int64_t i = 0; i < batch; ++i)
        require(label[i] >= 0 && label[i] < classes_, "metrics: label ", label[i], " is outside [0, ", classes_, ")");
    dispatch_float(logits.dtype(), "metrics", [&, batch = batch, classes = classes](auto zero) {
        const auto* z = host_logits.read<decltype(zero)>();
        for (std::int64_t i = 0; i < batch; ++i, z += classes) {
            ++rank_counts_[static_cast<std::size_t>(rank_of(z, classes, label[i]))];
            ++confusion_[static_cast<std::size_t>(label[i] * classes + argmax(z, classes))];
            cross_entropy_sum_ += log_sum_exp(z, classes) - static_cast<double>(z[label[i]]);
        }
    });
    count_ += batch;
}

std::int64_t ClassificationMetrics::correct(int k) const {
    require(k >= 1, "metrics: top-", k, " is not defined");
    std::int64_t sum = 0;
    for (int r = 0; r < std::min(k, classes_); ++r) sum += rank_counts_[static_cast<std::size_t>(r)];
    return sum;
}

double ClassificationMetrics::top_k(int k) const {
    return count_ == 0 ? 0 : static_cast<double>(correct(k)) / static_cast<double>(count_);
}

double ClassificationMetrics::cross_entropy() const {
    return count_ == 0 ? 0 : cross_entropy_sum_ / static_cast<double>(count_);
}

std::int64_t ClassificationMetrics::confusion(int label, int predicted) const {
    require(label >= 0 && label < classes_ && predicted >= 0 && predicted < classes_, "metrics: class (", label, ", ",
            predicted, ") of ", classes_);
    return confusion_[static_cast<std::size_t>(label) * static_cast<std::size_t>(classes_) +
                      static_cast<std::size_t>(predicted)];
}

std::int64_t ClassificationMetrics::label_count(int label) const {
    std::int64_t sum = 0;
    for (int j = 0; j < classes_; ++j) sum += confusion(label, j);
    return sum;
}

std::int64_t ClassificationMetrics::predicted_count(int predicted) const {
    std::int64_t sum = 0;
    for (int j = 0; j < classes_; ++j) sum += confusion(j, predicted);
    return sum;
}

double ClassificationMetrics::recall(int label) const { return ratio(confusion(label, label), label_count(label)); }

double ClassificationMetrics::precision(int predicted) const {
    return ratio(confusion(predicted, predicted), predicted_count(predicted));
}

}  // namespace bitloom
