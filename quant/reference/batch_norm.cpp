#include <cmath>
#include <vector>

#include "quant/reference/kernels.h"

namespace bitloom::quant::reference {

void batch_norm_quantize(const ElementRule& rule, bool training, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                         const Tensor* residual, double epsilon, Tensor& mean, Tensor& variance, Tensor& y, Tensor& map) {
    dispatch_float(x.dtype(), "batch_norm_quantize", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t channels = gamma.numel(), rows = x.numel() / channels;
        const T *px = x.read<T>(), *pg = gamma.read<T>(), *pb = beta.read<T>(), *pr = residual ? residual->read<T>() : nullptr;
        T *py = y.write<T>(), *pa = map.write<T>();
        if (training) {
            T *pm = mean.write<T>(), *pv = variance.write<T>();
            for (std::int64_t c = 0; c < channels; ++c) {
                double sum = 0, square = 0;
                for (std::int64_t r = 0; r < rows; ++r) sum += px[r * channels + c];
                const double m = sum / static_cast<double>(rows);
                for (std::int64_t r = 0; r < rows; ++r) square += (px[r * channels + c] - m) * (px[r * channels + c] - m);
                pm[c] = static_cast<T>(m);
                pv[c] = static_cast<T>(square / static_cast<double>(rows));
            }
        }
        const T *pm = mean.read<T>(), *pv = variance.read<T>();
        for (std::int64_t c = 0; c < channels; ++c) {
            pa[c] = pm[c];
            pa[channels + c] = static_cast<T>(pg[c] / std::sqrt(pv[c] + epsilon));
            pa[2 * channels + c] = pb[c];
        }
        for (std::int64_t i = 0; i < x.numel(); ++i) {
            const std::int64_t c = i % channels;
            T v = (px[i] - pa[c]) * pa[channels + c] + pa[2 * channels + c];
            if (pr) v += pr[i];
            py[i] = quantize_element<T>(rule, v);
        }
    });
}

void batch_norm_quantize_backward(const ElementRule& rule, bool training, const Tensor& dy, const Tensor& x,
                                  const Tensor* residual, const Tensor& gamma, const Tensor& mean, const Tensor& variance,
                                  const Tensor& map, double epsilon, Tensor* dx, Tensor* dresidual, Tensor& dgamma,
                                  Tensor& dbeta) {
    dispatch_float(x.dtype(), "batch_norm_quantize_backward", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t channels = gamma.numel(), rows = x.numel() / channels;
        const T *pd = dy.read<T>(), *px = x.read<T>(), *pg = gamma.read<T>(), *pm = mean.read<T>(), *pv = variance.read<T>(),
                *pa = map.read<T>(), *pr = residual ? residual->read<T>() : nullptr;
        T *pdx = dx ? dx->write<T>() : nullptr, *pdr = dresidual ? dresidual->write<T>() : nullptr;
        T *pdg = dgamma.write<T>(), *pdb = dbeta.write<T>();
        std::vector<T> g(static_cast<std::size_t>(x.numel()));
        std::vector<double> sum(static_cast<std::size_t>(channels)), product(sum);
        for (std::int64_t i = 0; i < x.numel(); ++i) {
            const std::int64_t c = i % channels;
            T v = (px[i] - pa[c]) * pa[channels + c] + pa[2 * channels + c];
            if (pr) v += pr[i];
            const T masked = pd[i] * quantize_element_gradient<T>(rule, v);
            g[static_cast<std::size_t>(i)] = masked;
            if (pdr) pdr[i] = masked;
            sum[static_cast<std::size_t>(c)] += masked;
            product[static_cast<std::size_t>(c)] += static_cast<double>(masked) * (px[i] - pm[c]);
        }
        for (std::int64_t c = 0; c < channels; ++c) {
            const auto at = static_cast<std::size_t>(c);
            pdb[c] = static_cast<T>(sum[at]);
            pdg[c] = static_cast<T>(product[at] / std::sqrt(pv[c] + epsilon));
        }
        if (!pdx) return;
        const double m = static_cast<double>(rows);
        for (std::int64_t i = 0; i < x.numel(); ++i) {
            const std::int64_t c = i % channels;
            const auto at = static_cast<std::size_t>(c);
            const double inverse = 1 / std::sqrt(pv[c] + epsilon);
            double v = g[static_cast<std::size_t>(i)];
            if (training) v -= (sum[at] + (px[i] - pm[c]) * inverse * inverse * product[at]) / m;
            pdx[i] = static_cast<T>(pg[c] * inverse * v);
        }
    });
}

}  // namespace bitloom::quant::reference
