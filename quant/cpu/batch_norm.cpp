// Batch normalisation with a step-wise ReLU in the same passes. Forward: x is read twice (once for the moments) and y
// written, as without a quantizer. Backward: what the quantizer saw is computed anew, so each of the two passes reads dy and
// x, and neither y nor a mask; with a residual the first reads it and writes its gradient, which the second reads in place
// of dy. So the quantizer adds no pass over memory, and without a residual takes the reading of y away.
// Activations may be bf16; what the quantizer sees is then the norm's value in f32, which no rounding to bf16 has touched.
// This file is compiled as ops/cpu/normalization.cpp is, contraction included: the affine map in front of the quantizer must
// have the bits that it has where the two run one after the other. Products with powers of two, and the rounding, are exact
// either way.

#include <cmath>

#include "ops/cpu/norm_passes.h"
#include "quant/cpu/kernels.h"
#include "quant/cpu/levels.h"

namespace bitloom::quant::cpu {

namespace {

using namespace ops::cpu;

Levels levels_of(const ElementRule& rule, std::string_view who) {
    const auto levels = Levels::of(rule);
    require(levels && rule.kind == ElementKind::relu && rule.noise == 1 && rule.rounding == ElementRounding::nearest, who,
            ": needs a step-wise ReLU without slope, cap or noise");
    return *levels;
}

/// What reached the quantizer at element i.
template <class V, bool residual, class T>
[[gnu::always_inline]] inline V seen(const T* x, const T* r, std::int64_t i, const float* mean, const float* slope,
                                     const float* offset, std::int64_t lane) {
    V v = affine<V>(x, i, mean, slope, offset, lane);
    if constexpr (residual) v += load<V>(r + i);
    return v;
}

template <bool residual, class T>
void apply(const PeriodicConstants& constants, std::int64_t rows, const Levels& levels, const T* x, const T* r, T* y) {
    const float *mean = constants[0], *slope = constants[1], *offset = constants[2];
    constants.for_each_run(rows, [=](std::int64_t first, std::int64_t count) {
        for_lanes(count, [=]<int N>(std::int64_t i) {
            using V = typename Pack<N>::Float;
            store<V>(y + first + i, levels.template operator()<V>(seen<V, residual>(x, r, first + i, mean, slope, offset, i)));
        });
    });
}

/// Sums of the gradient behind the quantizer and of its product with x - mean; writes that gradient where asked.
template <class T, bool residual, bool keep>
struct GradientTerm {
    const T *dy, *x, *r;
    const float *mean, *slope, *offset;
    float upper;
    T* kept;
    template <class V>
    [[gnu::always_inline]] void add(std::int64_t i, std::int64_t lane, V (&sums)[2]) const {
        const V g = relu_gradient<V>(seen<V, residual>(x, r, i, mean, slope, offset, lane), load<V>(dy + i), upper, 0);
        if constexpr (keep) store<V>(kept + i, g);
        sums[0] += g;
        sums[1] += g * (load<V>(x + i) - load<V>(mean + lane));
    }
};

/// dx = scale g + curve (x - mean) + constant; g is dy itself where it has been masked already.
template <bool masked, bool residual, bool curved, class T>
void apply_gradient(const PeriodicConstants& constants, std::int64_t rows, float upper, const T* dy, const T* x, const T* r,
                    T* dx) {
    const float *mean = constants[0], *slope = constants[1], *offset = constants[2];
    const float *scale = constants[3], *curve = constants[4], *constant = constants[5];
    constants.for_each_run(rows, [=](std::int64_t first, std::int64_t count) {
        for_lanes(count, [=]<int N>(std::int64_t i) {
            using V = typename Pack<N>::Float;
            V g = load<V>(dy + first + i);
            if constexpr (!masked)
                g = relu_gradient<V>(seen<V, residual>(x, r, first + i, mean, slope, offset, i), g, upper, 0);
            V v = load<V>(scale + i) * g;
            if constexpr (curved)
                v += load<V>(curve + i) * (load<V>(x + first + i) - load<V>(mean + i)) + load<V>(constant + i);
            store<V>(dx + first + i, v);
        });
    });
}

template <class T>
void normalize_as(const ElementRule& rule, bool training, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                  const Tensor* residual, double epsilon, Tensor& mean, Tensor& variance, Tensor& y, Tensor& map) {
    constexpr std::string_view who = "batch_norm_quantize";
    const Levels levels = levels_of(rule, who);
    const std::int64_t channels = gamma.numel(), rows = x.numel() / channels;
    const T *px = input<T>(x, who), *pr = optional_input<T>(residual, who);
    const float *pg = input(gamma, who), *pb = input(beta, who);
    T* py = output<T>(y, who);
    float* pa = output(map, who);
    if (training) {
        Tensor moments = Tensor::empty({2, channels}, DType::f64);
        double *m = moments.write<double>(), *v = m + channels;
        batch_moments(rows, channels, px, m, v);
        float *pm = output(mean, who), *pv = output(variance, who);
        for (std::int64_t c = 0; c < channels; ++c) {
            pm[c] = static_cast<float>(m[c]);
            pv[c] = static_cast<float>(v[c]);
            const double slope = pg[c] / std::sqrt(v[c] + epsilon);
            pa[c] = pm[c];
            pa[channels + c] = static_cast<float>(slope);
            pa[2 * channels + c] = static_cast<float>(pb[c] + (pm[c] - m[c]) * slope);  // what rounding the mean lost
        }
    } else {
        const float *pm = input(mean, who), *pv = input(variance, who);
        for (std::int64_t c = 0; c < channels; ++c) {
            pa[c] = pm[c];
            pa[channels + c] = static_cast<float>(pg[c] / std::sqrt(pv[c] + epsilon));
            pa[2 * channels + c] = pb[c];
        }
    }
    PeriodicConstants constants(channels, 256, 3);
    for (int k = 0; k < 3; ++k) constants.set(k, [&](std::int64_t c) { return pa[k * channels + c]; });
    pr ? apply<true>(constants, rows, levels, px, pr, py) : apply<false>(constants, rows, levels, px, pr, py);
}

template <class T>
void gradients_as(const ElementRule& rule, bool training, const Tensor& dy, const Tensor& x, const Tensor* residual,
                  const Tensor& gamma, const Tensor& variance, const Tensor& map, double epsilon, Tensor* dx,
                  Tensor* dresidual, Tensor& dgamma, Tensor& dbeta) {
    constexpr std::string_view who = "batch_norm_quantize_backward";
    levels_of(rule, who);
    const auto upper = static_cast<float>(rule.upper);
    const std::int64_t channels = gamma.numel(), rows = x.numel() / channels;
    const T *pd = input<T>(dy, who), *px = input<T>(x, who), *pr = optional_input<T>(residual, who);
    const float *pg = input(gamma, who), *pv = input(variance, who), *pa = input(map, who);
    T *pdx = optional_output<T>(dx, who), *pdr = optional_output<T>(dresidual, who);
    float *pdg = output(dgamma, who), *pdb = output(dbeta, who);

    Tensor totals = Tensor::empty({2, channels}, DType::f64);
    double *sum = totals.write<double>(), *product = sum + channels;
    {
        PeriodicConstants constants(channels, 4 * simd_lanes, 3);
        for (int k = 0; k < 3; ++k) constants.set(k, [&](std::int64_t c) { return pa[k * channels + c]; });
        const auto run = [&](auto with_residual, auto keep) {
            using Term = GradientTerm<T, decltype(with_residual)::value, decltype(keep)::value>;
            column_sums<2>(rows, channels, Term{pd, px, pr, constants[0], constants[1], constants[2], upper, pdr}, sum);
        };
        if (pr)
            pdr ? run(std::true_type{}, std::true_type{}) : run(std::true_type{}, std::false_type{});
        else
            pdr ? run(std::false_type{}, std::true_type{}) : run(std::false_type{}, std::false_type{});
    }
    const auto inverse = [&](std::int64_t c) { return 1.0 / std::sqrt(pv[c] + epsilon); };
    for (std::int64_t c = 0; c < channels; ++c) {
        pdb[c] = static_cast<float>(sum[c]);
        pdg[c] = static_cast<float>(product[c] * inverse(c));
    }
    if (!pdx) return;

    // With m rows: dx = gamma / sigma (g - (dbeta + x_hat dgamma) / m).
    PeriodicConstants constants(channels, 256, 6);
    const double m = static_cast<double>(rows);
    for (int k = 0; k < 3; ++k) constants.set(k, [&](std::int64_t c) { return pa[k * channels + c]; });
    constants.set(3, [&](std::int64_t c) { return pg[c] * inverse(c); });
    constants.set(4, [&](std::int64_t c) { return -pg[c] * inverse(c) * inverse(c) * inverse(c) * product[c] / m; });
    constants.set(5, [&](std::int64_t c) { return -pg[c] * inverse(c) * sum[c] / m; });
    const auto run = [&](auto masked, auto with_residual, auto curved) {
        apply_gradient<decltype(masked)::value, decltype(with_residual)::value, decltype(curved)::value>(
            constants, rows, upper, pdr ? pdr : pd, px, pr, pdx);
    };
    const auto curved_or_not = [&](auto masked, auto with_residual) {
        training ? run(masked, with_residual, std::true_type{}) : run(masked, with_residual, std::false_type{});
    };
    if (pdr)
        curved_or_not(std::true_type{}, std::false_type{});
    else
        pr ? curved_or_not(std::false_type{}, std::true_type{}) : curved_or_not(std::false_type{}, std::false_type{});
}

}  // namespace

void batch_norm_quantize(const ElementRule& rule, bool training, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                         const Tensor* residual, double epsilon, Tensor& mean, Tensor& variance, Tensor& y, Tensor& map) {
    dispatch_storage(x, [&]<class T>(T) {
        normalize_as<T>(rule, training, x, gamma, beta, residual, epsilon, mean, variance, y, map);
    });
}

void batch_norm_quantize_backward(const ElementRule& rule, bool training, const Tensor& dy, const Tensor& x,
                                  const Tensor* residual, const Tensor& gamma, const Tensor&, const Tensor& variance,
                                  const Tensor& map, double epsilon, Tensor* dx, Tensor* dresidual, Tensor& dgamma,
                                  Tensor& dbeta) {
    dispatch_storage(x, [&]<class T>(T) {
        gradients_as<T>(rule, training, dy, x, residual, gamma, variance, map, epsilon, dx, dresidual, dgamma, dbeta);
    });
}

}  // namespace bitloom::quant::cpu
