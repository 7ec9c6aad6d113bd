#include <algorithm>
#include <cmath>

#include "ops/reference/kernels.h"

namespace bitloom::ops::reference {

namespace {

template <class T>
void normalize(std::int64_t rows, std::int64_t channels, const T* x, const T* gamma, const T* beta, const T* residual,
               const T* mean, const T* variance, T epsilon, NormEpilogue epilogue, T* y) {
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < channels; ++c) {
            const std::int64_t k = r * channels + c;
            T v = gamma[c] * ((x[k] - mean[c]) / std::sqrt(variance[c] + epsilon)) + beta[c];
            if (residual) v += residual[k];
            if (epilogue == NormEpilogue::relu) v = std::max(v, T(0));
            y[k] = v;
        }
    }
}

/// The gradient behind the epilogue, which passes where its output is positive.
template <class T>
T masked(const T* dy, const T* y, NormEpilogue epilogue, std::int64_t k) {
    return epilogue == NormEpilogue::relu && !(y[k] > T(0)) ? T(0) : dy[k];
}

/// dgamma = sum dy x_hat, dbeta = sum dy, dresidual = dy, all behind the epilogue's mask.
template <class T>
void parameter_gradients(std::int64_t rows, std::int64_t channels, const T* dy, const T* x, const T* y, const T* mean,
                         const T* variance, T epsilon, NormEpilogue epilogue, T* dresidual, T* dgamma, T* dbeta) {
    std::fill_n(dgamma, channels, T(0));
    std::fill_n(dbeta, channels, T(0));
    for (std::int64_t r = 0; r < rows; ++r) {
        for (std::int64_t c = 0; c < channels; ++c) {
            const std::int64_t k = r * channels + c;
            const T gradient = masked(dy, y, epilogue, k);
            dbeta[c] += gradient;
            dgamma[c] += gradient * ((x[k] - mean[c]) / std::sqrt(variance[c] + epsilon));
            if (dresidual) dresidual[k] = gradient;
        }
    }
}

std::int64_t rows_of(const Tensor& x, std::int64_t channels) { return channels ? x.numel() / channels : 0; }

}  // namespace

void batch_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                        double epsilon, NormEpilogue epilogue, Tensor& y, Tensor& mean, Tensor& variance) {
    dispatch_float(x.dtype(), "batch_norm_forward", [&](auto type) {
        using T = decltype(type);
        const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
        const T* px = x.read<T>();
        T *pm = mean.write<T>(), *pv = variance.write<T>();
        std::fill_n(pm, channels, T(0));
        std::fill_n(pv, channels, T(0));
        for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t c = 0; c < channels; ++c) pm[c] += px[r * channels + c];
        for (std::int64_t c = 0; c < channels; ++c) pm[c] /= static_cast<T>(rows);
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < channels; ++c) {
                const T centred = px[r * channels + c] - pm[c];
                pv[c] += centred * centred;
            }
        }
        for (std::int64_t c = 0; c < channels; ++c) pv[c] /= static_cast<T>(rows);
        normalize<T>(rows, channels, px, gamma.read<T>(), beta.read<T>(), residual ? residual->read<T>() : nullptr, pm,
                     pv, static_cast<T>(epsilon), epilogue, y.write<T>());
    });
}

void batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma, const Tensor& mean,
                         const Tensor& variance, double epsilon, NormEpilogue epilogue, Tensor* dx, Tensor* dresidual,
                         Tensor& dgamma, Tensor& dbeta) {
    dispatch_float(x.dtype(), "batch_norm_backward", [&](auto type) {
        using T = decltype(type);
        const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
        const T *pdy = dy.read<T>(), *px = x.read<T>(), *py = y ? y->read<T>() : nullptr, *pg = gamma.read<T>();
        const T *pm = mean.read<T>(), *pv = variance.read<T>();
        T *pdg = dgamma.write<T>(), *pdb = dbeta.write<T>();
        const T eps = static_cast<T>(epsilon);
        parameter_gradients<T>(rows, channels, pdy, px, py, pm, pv, eps, epilogue,
                               dresidual ? dresidual->write<T>() : nullptr, pdg, pdb);
        if (!dx) return;
        // With m rows: dx = gamma / sigma (dy - (dbeta + x_hat dgamma) / m).
        T* pdx = dx->write<T>();
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < channels; ++c) {
                const std::int64_t k = r * channels + c;
                const T sigma = std::sqrt(pv[c] + eps), x_hat = (px[k] - pm[c]) / sigma;
                pdx[k] =
                    pg[c] / sigma * (masked(pdy, py, epilogue, k) - (pdb[c] + x_hat * pdg[c]) / static_cast<T>(rows));
            }
        }
    });
}

void batch_norm_inference(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                          const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue epilogue,
                          Tensor& y) {
    dispatch_float(x.dtype(), "batch_norm_inference", [&](auto type) {
        using T = decltype(type);
        const std::int64_t channels = gamma.numel();
        normalize<T>(rows_of(x, channels), channels, x.read<T>(), gamma.read<T>(), beta.read<T>(),
                     residual ? residual->read<T>() : nullptr, mean.read<T>(), variance.read<T>(),
                     static_cast<T>(epsilon), epilogue, y.write<T>());
    });
}

void batch_norm_inference_backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma,
                                   const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue epilogue,
                                   Tensor* dx, Tensor* dresidual, Tensor& dgamma, Tensor& dbeta) {
    dispatch_float(x.dtype(), "batch_norm_inference_backward", [&](auto type) {
        using T = decltype(type);
        const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
        const T *pdy = dy.read<T>(), *py = y ? y->read<T>() : nullptr, *pg = gamma.read<T>(), *pv = variance.read<T>();
        const T eps = static_cast<T>(epsilon);
        parameter_gradients<T>(rows, channels, pdy, x.read<T>(), py, mean.read<T>(), pv, eps, epilogue,
                               dresidual ? dresidual->write<T>() : nullptr, dgamma.write<T>(), dbeta.write<T>());
        if (!dx) return;
        T* pdx = dx->write<T>();
        for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < channels; ++c) {
                const std::int64_t k = r * channels + c;
                pdx[k] = masked(pdy, py, epilogue, k) * pg[c] / std::sqrt(pv[c] + eps);
            }
        }
    });
}

}  // namespace bitloom::ops::reference
