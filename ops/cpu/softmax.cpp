// Softmax and cross-entropy: a row at a time, in the reference's order of operations.

#include <cmath>

#include "ops/cpu/kernels.h"
#include "ops/cpu/parallel.h"

namespace bitloom::ops::cpu {

namespace {

struct LogSumExp {
    float maximum;  ///< subtracted before exp, so that no term overflows and the largest is 1
    float sum;      ///< of exp(z - maximum)
};

/// `terms` (may be null) receives exp(z - maximum).
LogSumExp log_sum_exp(const float* z, std::int64_t n, float* terms) {
    const float maximum = *std::max_element(z, z + n);
    float sum = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        const float term = std::exp(z[i] - maximum);
        if (terms) terms[i] = term;
        sum += term;
    }
    return {maximum, sum};
}

/// Elements of a row count for more than one: each costs an exponential.
constexpr std::int64_t cost_of_exp = 8;

}  // namespace

void softmax_forward(bool log, const Tensor& x, Tensor& y) {
    constexpr std::string_view who = "softmax_forward";
    const float* px = input(x, who);
    float* py = output(y, who);
    const std::int64_t n = x.dim(-1);
    if (n == 0) return;
    parallel_items(x.numel() / n, n * cost_of_exp, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const float* z = px + r * n;
            float* out = py + r * n;
            const LogSumExp norm = log_sum_exp(z, n, log ? nullptr : out);
            const float log_sum = log ? std::log(norm.sum) : 0;
            for (std::int64_t i = 0; i < n; ++i) out[i] = log ? z[i] - norm.maximum - log_sum : out[i] / norm.sum;
        }
    });
}

void softmax_backward(bool log, const Tensor& y, const Tensor& dy, Tensor& dx) {
    constexpr std::string_view who = "softmax_backward";
    const float *py = input(y, who), *pdy = input(dy, who);
    float* pdx = output(dx, who);
    const std::int64_t n = y.dim(-1);
    if (n == 0) return;
    parallel_items(y.numel() / n, n * cost_of_exp, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            const float *value = py + r * n, *gradient = pdy + r * n;
            float* out = pdx + r * n;
            float sum = 0;
            for (std::int64_t i = 0; i < n; ++i) sum += log ? gradient[i] : gradient[i] * value[i];
            for (std::int64_t i = 0; i < n; ++i)
                out[i] = log ? gradient[i] - std::exp(value[i]) * sum : value[i] * (gradient[i] - sum);
        }
    });
}

void cross_entropy_forward(const Tensor& logits, const Tensor& labels, Tensor& losses, Tensor* probabilities) {
    constexpr std::string_view who = "cross_entropy_forward";
    const float* pz = input(logits, who);
    const std::int32_t* label = labels.read<std::int32_t>();
    float *loss = output(losses, who), *pp = optional_output(probabilities, who);
    const std::int64_t classes = logits.dim(1);
    parallel_items(logits.dim(0), classes * cost_of_exp, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            const float* z = pz + b * classes;
            float* p = pp ? pp + b * classes : nullptr;
            const LogSumExp norm = log_sum_exp(z, classes, p);
            loss[b] = norm.maximum - z[label[b]] + std::log(norm.sum);
            for (std::int64_t i = 0; p && i < classes; ++i) p[i] /= norm.sum;
        }
    });
}

void cross_entropy_backward(const Tensor& probabilities, const Tensor& labels, double scale, const Tensor& dloss,
                            Tensor& dlogits) {
    constexpr std::string_view who = "cross_entropy_backward";
    const float* p = input(probabilities, who);
    const std::int32_t* label = labels.read<std::int32_t>();
    const float factor = static_cast<float>(scale) * input(dloss, who)[0];
    float* out = output(dlogits, who);
    const std::int64_t classes = probabilities.dim(1);
    parallel_items(probabilities.dim(0), classes, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b)
            for (std::int64_t i = 0; i < classes; ++i)
                out[b * classes + i] = (p[b * classes + i] - (i == label[b] ? 1.0f : 0.0f)) * factor;
    });
}

}  // namespace bitloom::ops::cpu
