// Batch normalisation. These passes are bound by memory, so what counts is how often they touch it: the forward reads x
// twice and writes y; the backward reads its inputs twice and writes dx. Sums: see columns.h.

#include <cmath>

#include "ops/cpu/kernels.h"
#include "ops/cpu/norm_passes.h"

namespace bitloom::ops::cpu {

namespace {

/// The gradient behind the epilogue, which passes where its output is positive.
template <class V, bool relu, class T>
[[gnu::always_inline]] inline V masked(const T* dy, const T* y, std::int64_t i) {
    if constexpr (relu)
        return load<V>(y + i) > V{} ? load<V>(dy + i) : V{};
    else
        return load<V>(dy + i);
}

/// Sums of the masked dy and of its product with x - mean; writes the masked dy to dresidual where asked.
template <class T, bool relu, bool residual>
struct GradientTerm {
    const T *dy, *x, *y;
    const float* mean;
    T* dresidual;
    template <class V>
    [[gnu::always_inline]] void add(std::int64_t i, std::int64_t lane, V (&sums)[2]) const {
        const V g = masked<V, relu>(dy, y, i);
        if constexpr (residual) store<V>(dresidual + i, g);
        sums[0] += g;
        sums[1] += g * (load<V>(x + i) - load<V>(mean + lane));
    }
};

/// y = (x - mean) slope + offset [+ residual], clipped below at 0 with relu.
template <bool relu, bool residual, class T>
void apply(const PeriodicConstants& constants, std::int64_t rows, const T* x, const T* r, T* y) {
    const float *mean = constants[0], *slope = constants[1], *offset = constants[2];
    constants.for_each_run(rows, [=](std::int64_t first, std::int64_t count) {
        for_lanes(count, [=]<int N>(std::int64_t i) {
            using V = typename Pack<N>::Float;
            V v = affine<V>(x, first + i, mean, slope, offset, i);
            if constexpr (residual) v += load<V>(r + first + i);
            if constexpr (relu) v = v < V{} ? V{} : v;  // NaN passes
            store<V>(y + first + i, v);
        });
    });
}

template <class T>
void apply(NormEpilogue epilogue, const PeriodicConstants& constants, std::int64_t rows, const T* x, const T* r, T* y) {
    const bool relu = epilogue == NormEpilogue::relu;
    if (relu)
        r ? apply<true, true>(constants, rows, x, r, y) : apply<true, false>(constants, rows, x, r, y);
    else
        r ? apply<false, true>(constants, rows, x, r, y) : apply<false, false>(constants, rows, x, r, y);
}

/// totals [2][channels]: what GradientTerm sums. Writes dresidual (optional).
template <class T>
void gradient_sums(NormEpilogue epilogue, std::int64_t rows, std::int64_t channels, const T* dy, const T* x, const T* y,
                   const float* mean, T* dresidual, double* totals) {
    PeriodicConstants constants(channels, 4 * simd_lanes, 1);
    constants.set(0, [&](std::int64_t c) { return mean[c]; });
    const auto run = [&](auto relu, auto residual) {
        using Term = GradientTerm<T, decltype(relu)::value, decltype(residual)::value>;
        column_sums<2>(rows, channels, Term{dy, x, y, constants[0], dresidual}, totals);
    };
    if (epilogue == NormEpilogue::relu)
        dresidual ? run(std::true_type{}, std::true_type{}) : run(std::true_type{}, std::false_type{});
    else
        dresidual ? run(std::false_type{}, std::true_type{}) : run(std::false_type{}, std::false_type{});
}

/// dx = slope g + curve (x - mean) + offset with g the masked dy; without `curved`, dx = slope g.
template <bool relu, bool curved, class T>
void apply_gradient(const PeriodicConstants& constants, std::int64_t rows, const T* dy, const T* x, const T* y, T* dx) {
    const float *slope = constants[0], *mean = constants[1], *curve = constants[2], *offset = constants[3];
    constants.for_each_run(rows, [=](std::int64_t first, std::int64_t count) {
        for_lanes(count, [=]<int N>(std::int64_t i) {
            using V = typename Pack<N>::Float;
            V v = load<V>(slope + i) * masked<V, relu>(dy, y, first + i);
            if constexpr (curved)
                v += load<V>(curve + i) * (load<V>(x + first + i) - load<V>(mean + i)) + load<V>(offset + i);
            store<V>(dx + first + i, v);
        });
    });
}

std::int64_t rows_of(const Tensor& x, std::int64_t channels) { return channels ? x.numel() / channels : 0; }

/// Both backward passes on activations stored as T. Training: the moments depend on x as well.
template <class T>
void backward(std::string_view who, bool training, const Tensor& dy, const Tensor& x, const Tensor* y,
              const Tensor& gamma, const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue epilogue,
              Tensor* dx, Tensor* dresidual, Tensor& dgamma, Tensor& dbeta) {
    const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
    const T *pdy = input<T>(dy, who), *px = input<T>(x, who), *py = optional_input<T>(y, who);
    const float *pg = input(gamma, who), *pm = input(mean, who), *pv = input(variance, who);
    T *pdx = optional_output<T>(dx, who), *pdr = optional_output<T>(dresidual, who);
    float *pdg = output(dgamma, who), *pdb = output(dbeta, who);
    require(py != nullptr || epilogue == NormEpilogue::none, who, ": the epilogue's output is missing");

    Tensor totals = Tensor::empty({2, channels}, DType::f64);
    double *sum = totals.write<double>(), *product = sum + channels;
    gradient_sums(epilogue, rows, channels, pdy, px, py, pm, pdr, sum);
    const auto inverse = [&](std::int64_t c) { return 1.0 / std::sqrt(pv[c] + epsilon); };
    for (std::int64_t c = 0; c < channels; ++c) {
        pdb[c] = static_cast<float>(sum[c]);
        pdg[c] = static_cast<float>(product[c] * inverse(c));
    }
    if (!pdx) return;

    // With m rows: dx = gamma / sigma (g - (dbeta + x_hat dgamma) / m).
    PeriodicConstants constants(channels, 256, 4);
    constants.set(0, [&](std::int64_t c) { return pg[c] * inverse(c); });
    if (training) {
        const double m = static_cast<double>(rows);
        constants.set(1, [&](std::int64_t c) { return pm[c]; });
        constants.set(2,
                      [&](std::int64_t c) { return -pg[c] * inverse(c) * inverse(c) * inverse(c) * product[c] / m; });
        constants.set(3, [&](std::int64_t c) { return -pg[c] * inverse(c) * sum[c] / m; });
    }
    const auto run = [&](auto relu, auto curved) {
        apply_gradient<decltype(relu)::value, decltype(curved)::value>(constants, rows, pdr ? pdr : pdy, px, py, pdx);
    };
    const bool mask = epilogue == NormEpilogue::relu && !pdr;  // dresidual is masked already
    if (mask)
        training ? run(std::true_type{}, std::true_type{}) : run(std::true_type{}, std::false_type{});
    else
        training ? run(std::false_type{}, std::true_type{}) : run(std::false_type{}, std::false_type{});
}

template <class T>
void forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual, double epsilon,
             NormEpilogue epilogue, Tensor& y, Tensor& mean, Tensor& variance) {
    constexpr std::string_view who = "batch_norm_forward";
    const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
    const T *px = input<T>(x, who), *pr = optional_input<T>(residual, who);
    const float *pg = input(gamma, who), *pb = input(beta, who);
    T* py = output<T>(y, who);
    float *pm = output(mean, who), *pv = output(variance, who);
    if (rows == 0) {
        mean.fill(NAN);
        variance.fill(NAN);
        return;
    }
    Tensor totals = Tensor::empty({2, channels}, DType::f64);
    double *sum = totals.write<double>(), *square = sum + channels;

    batch_moments(rows, channels, px, sum, square);
    for (std::int64_t c = 0; c < channels; ++c) {
        pm[c] = static_cast<float>(sum[c]);
        pv[c] = static_cast<float>(square[c]);
    }
    PeriodicConstants constants(channels, 256, 3);
    const auto slope = [&](std::int64_t c) { return pg[c] / std::sqrt(square[c] + epsilon); };
    constants.set(0, [&](std::int64_t c) { return pm[c]; });
    constants.set(1, slope);
    constants.set(2,
                  [&](std::int64_t c) { return pb[c] + (pm[c] - sum[c]) * slope(c); });  // what rounding the mean lost
    apply(epilogue, constants, rows, px, pr, py);
}

template <class T>
void inference(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual, const Tensor& mean,
               const Tensor& variance, double epsilon, NormEpilogue epilogue, Tensor& y) {
    constexpr std::string_view who = "batch_norm_inference";
    const std::int64_t channels = gamma.numel();
    const T *px = input<T>(x, who), *pr = optional_input<T>(residual, who);
    const float *pg = input(gamma, who), *pb = input(beta, who), *pm = input(mean, who), *pv = input(variance, who);
    T* py = output<T>(y, who);
    if (channels == 0) return;
    PeriodicConstants constants(channels, 256, 3);
    constants.set(0, [&](std::int64_t c) { return pm[c]; });
    constants.set(1, [&](std::int64_t c) { return pg[c] / std::sqrt(pv[c] + epsilon); });
    constants.set(2, [&](std::int64_t c) { return pb[c]; });
    apply(epilogue, constants, rows_of(x, channels), px, pr, py);
}

}  // namespace

void batch_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                        double epsilon, NormEpilogue epilogue, Tensor& y, Tensor& mean, Tensor& variance) {
    dispatch_storage(
        x, [&](auto zero) { forward<decltype(zero)>(x, gamma, beta, residual, epsilon, epilogue, y, mean, variance); });
}

void batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma, const Tensor& mean,
                         const Tensor& variance, double epsilon, NormEpilogue epilogue, Tensor* dx, Tensor* dresidual,
                         Tensor& dgamma, Tensor& dbeta) {
    dispatch_storage(x, [&](auto zero) {
        backward<decltype(zero)>("batch_norm_backward", true, dy, x, y, gamma, mean, variance, epsilon, epilogue, dx,
                                 dresidual, dgamma, dbeta);
    });
}

void batch_norm_inference(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                          const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue epilogue,
                          Tensor& y) {
    dispatch_storage(x, [&](auto zero) {
        inference<decltype(zero)>(x, gamma, beta, residual, mean, variance, epsilon, epilogue, y);
    });
}

void batch_norm_inference_backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma,
                                   const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue epilogue,
                                   Tensor* dx, Tensor* dresidual, Tensor& dgamma, Tensor& dbeta) {
    dispatch_storage(x, [&](auto zero) {
        backward<decltype(zero)>("batch_norm_inference_backward", false, dy, x, y, gamma, mean, variance, epsilon,
                                 epilogue, dx, dresidual, dgamma, dbeta);
    });
}

}  // namespace bitloom::ops::cpu
