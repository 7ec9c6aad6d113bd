#include <algorithm>
#include <cmath>

#include "ops/reference/kernels.h"

namespace bitloom::ops::reference {

namespace {

template <class T>
struct LogSumExp {
    T maximum;  ///< subtracted before exp, so that no term overflows and the largest is 1
    T sum;      ///< of exp(z - maximum)
    T log_sum() const { return std::log(sum); }
};

template <class T>
LogSumExp<T> log_sum_exp(const T* z, std::int64_t n) {
    const T maximum = *std::max_element(z, z + n);
    T sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += std::exp(z[i] - maximum);
    return {maximum, sum};
}

}  // namespace

void softmax_forward(bool log, const Tensor& x, Tensor& y) {
    dispatch_float(x.dtype(), "softmax", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t n = x.dim(-1), rows = n ? x.numel() / n : 0;
        for (std::int64_t r = 0; r < rows; ++r) {
            const T* z = x.read<T>() + r * n;
            T* out = y.write<T>() + r * n;
            const LogSumExp<T> norm = log_sum_exp(z, n);
            for (std::int64_t i = 0; i < n; ++i)
                out[i] = log ? z[i] - norm.maximum - norm.log_sum() : std::exp(z[i] - norm.maximum) / norm.sum;
        }
    });
}

void softmax_backward(bool log, const Tensor& y, const Tensor& dy, Tensor& dx) {
    dispatch_float(y.dtype(), "softmax", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t n = y.dim(-1), rows = n ? y.numel() / n : 0;
        for (std::int64_t r = 0; r < rows; ++r) {
            const T* value = y.read<T>() + r * n;
            const T* gradient = dy.read<T>() + r * n;
            T* out = dx.write<T>() + r * n;
            T sum = 0;
            for (std::int64_t i = 0; i < n; ++i) sum += log ? gradient[i] : gradient[i] * value[i];
            for (std::int64_t i = 0; i < n; ++i)
                out[i] = log ? gradient[i] - std::exp(value[i]) * sum : value[i] * (gradient[i] - sum);
        }
    });
}

void cross_entropy_forward(const Tensor& logits, const Tensor& labels, Tensor& losses, Tensor* probabilities) {
    dispatch_float(logits.dtype(), "cross_entropy", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t batch = logits.dim(0), classes = logits.dim(1);
        const std::int32_t* label = labels.read<std::int32_t>();
        T* loss = losses.write<T>();
        for (std::int64_t b = 0; b < batch; ++b) {
            const T* z = logits.read<T>() + b * classes;
            const LogSumExp<T> norm = log_sum_exp(z, classes);
            loss[b] = norm.maximum - z[label[b]] + norm.log_sum();
            if (!probabilities) continue;
            T* p = probabilities->write<T>() + b * classes;
            for (std::int64_t i = 0; i < classes; ++i) p[i] = std::exp(z[i] - norm.maximum) / norm.sum;
        }
    });
}

void cross_entropy_backward(const Tensor& probabilities, const Tensor& labels, double scale, const Tensor& dloss,
                            Tensor& dlogits) {
    dispatch_float(probabilities.dtype(), "cross_entropy", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t batch = probabilities.dim(0), classes = probabilities.dim(1);
        const std::int32_t* label = labels.read<std::int32_t>();
        const T* p = probabilities.read<T>();
        const T factor = static_cast<T>(scale) * dloss.read<T>()[0];
        T* out = dlogits.write<T>();
        for (std::int64_t b = 0; b < batch; ++b)
            for (std::int64_t i = 0; i < classes; ++i)
                out[b * classes + i] = (p[b * classes + i] - (i == label[b] ? T(1) : T(0))) * factor;
    });
}

}  // namespace bitloom::ops::reference
