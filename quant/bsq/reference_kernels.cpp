// The kernels of bit planes as plain loops, in f32 (the rounding of the published program) and f64.

#include <algorithm>
#include <cmath>

#include "engine/dtype.h"
#include "quant/bsq/kernels.h"

namespace bitloom::bsq {

namespace {

template <class T>
T plane_sum(const T* planes, std::int64_t count, int bits, std::int64_t i) {
    T sum = 0;
    for (int b = 0; b < bits; ++b) {
        const T* positive = planes + 2 * b * count;
        sum += static_cast<T>(plane_factor(b, bits)) * (positive[i] - positive[count + i]);
    }
    return sum;
}

template <class F>
void dispatch(const Tensor& t, F&& f) {
    dispatch_float(t.dtype(), "bsq", std::forward<F>(f));
}

void plane_norms(const Tensor& planes, Tensor& sums) {
    const std::int64_t bits = planes.dim(0), group = planes.numel() / std::max<std::int64_t>(bits, 1);
    dispatch(planes, [&]<class T>(T) {
        const T* values = planes.read<T>();
        double* out = sums.write<double>();
        for (std::int64_t b = 0; b < bits; ++b) {
            out[b] = 0;
            for (std::int64_t i = b * group; i < (b + 1) * group; ++i)
                out[b] += static_cast<double>(values[i]) * static_cast<double>(values[i]);
        }
    });
}

void planes_to_weights(const QuantizationRule& rule, const Tensor& planes, const Tensor& scale, Tensor& weights,
                       Tensor* sums) {
    dispatch(planes, [&]<class T>(T) {
        const T* p = planes.read<T>();
        const T s = *scale.read<T>();
        T* w = weights.write<T>();
        for (std::int64_t i = 0; i < weights.numel(); ++i)
            w[i] = s * quantized(rule, plane_sum(p, weights.numel(), rule.bits, i));
    });
    if (sums) plane_norms(planes, *sums);
}

void planes_backward(const QuantizationRule& rule, const Tensor& planes, const Tensor& scale, const Tensor& dweights,
                     const GroupNorms* norms, const Tensor* dnorm, Tensor& dplanes, Tensor& dscale) {
    const std::int64_t count = dweights.numel();
    dispatch(planes, [&]<class T>(T) {
        const T* p = planes.read<T>();
        const T* dw = dweights.read<T>();
        const T s = *scale.read<T>();
        T* dp = dplanes.write<T>();
        double sum = 0;
        for (std::int64_t i = 0; i < count; ++i)
            sum += static_cast<double>(dw[i] * quantized(rule, plane_sum(p, count, rule.bits, i)));
        *dscale.write<T>() = static_cast<T>(sum);
        for (int b = 0; b < rule.bits; ++b) {
            const T factor = static_cast<T>(plane_factor(b, rule.bits));
            T norm = 0;
            if (norms)
                norm = static_cast<T>(static_cast<double>(*dnorm->read<T>()) * norms->coefficient /
                                      std::sqrt(1e-8 + norms->sums->read<double>()[b]));
            for (int sign = 0; sign < 2; ++sign) {
                const std::int64_t at = (2 * b + sign) * count;
                for (std::int64_t i = 0; i < count; ++i)
                    dp[at + i] = (sign == 0 ? factor : -factor) * (s * dw[i]) + norm * p[at + i];
            }
        }
    });
}

void group_lasso(std::span<const GroupNorms> rows, double factor, Tensor& value) {
    double sum = 0;
    for (const GroupNorms& row : rows) {
        const double* s = row.sums->read<double>();
        double norms = 0;
        for (std::int64_t b = 0; b < row.sums->numel(); ++b) norms += std::sqrt(1e-8 + s[b]);
        sum += row.coefficient * norms;
    }
    dispatch(value, [&]<class T>(T) { *value.write<T>() = static_cast<T>(factor * sum); });
}

void fixed_to_weights(const QuantizationRule& rule, const Tensor& x, const Tensor& scale, Tensor& weights) {
    dispatch(x, [&]<class T>(T) {
        const T* px = x.read<T>();
        const T s = *scale.read<T>();
        T* w = weights.write<T>();
        for (std::int64_t i = 0; i < x.numel(); ++i) w[i] = s * quantized(rule, px[i]);
    });
}

void fixed_backward(const QuantizationRule& rule, const Tensor& x, const Tensor& scale, const Tensor& dweights,
                    Tensor& dx, Tensor& dscale) {
    dispatch(x, [&]<class T>(T) {
        const T *px = x.read<T>(), *dw = dweights.read<T>();
        const T s = *scale.read<T>();
        T* out = dx.write<T>();
        double sum = 0;
        for (std::int64_t i = 0; i < x.numel(); ++i) {
            sum += static_cast<double>(dw[i] * quantized(rule, px[i]));
            out[i] = s * dw[i];
        }
        *dscale.write<T>() = static_cast<T>(sum);
    });
}

void activation_forward(const ActivationRule& rule, const Tensor& x, const Tensor* alpha, Tensor& y) {
    dispatch(x, [&]<class T>(T) {
        const T* px = x.read<T>();
        T* py = y.write<T>();
        const T a = rule.kind == ActivationKind::pact ? *alpha->read<T>() : T{6};
        T largest = 0;
        for (std::int64_t i = 0; i < x.numel(); ++i) {
            py[i] = activated(rule.kind, px[i], a);
            largest = std::max(largest, std::abs(py[i]));
        }
        if (rule.bits == 0) return;
        const T top = static_cast<T>(top_code(rule.bits));
        for (std::int64_t i = 0; i < x.numel(); ++i) py[i] = dynamically_quantized(py[i], top, largest);
    });
}

void activation_backward(const ActivationRule& rule, const Tensor& x, const Tensor* alpha, const Tensor& dy, Tensor& dx,
                         Tensor* dalpha) {
    dispatch(x, [&]<class T>(T) {
        const T *px = x.read<T>(), *pdy = dy.read<T>();
        T* out = dx.write<T>();
        const T a = rule.kind == ActivationKind::pact ? *alpha->read<T>() : T{6};
        double sum = 0;
        for (std::int64_t i = 0; i < x.numel(); ++i) {
            if (rule.kind == ActivationKind::pact && px[i] >= a) sum += static_cast<double>(pdy[i]);
            out[i] = activation_factor(rule.kind, px[i], a) * pdy[i];
        }
        if (dalpha) *dalpha->write<T>() = static_cast<T>(sum);
    });
}

}  // namespace

const BsqKernels& reference_bsq_kernels() {
    static const BsqKernels table{.planes_to_weights = planes_to_weights,
                                  .planes_backward = planes_backward,
                                  .plane_norms = plane_norms,
                                  .group_lasso = group_lasso,
                                  .fixed_to_weights = fixed_to_weights,
                                  .fixed_backward = fixed_backward,
                                  .activation_forward = activation_forward,
                                  .activation_backward = activation_backward};
    return table;
}

}  // namespace bitloom::bsq
