// One OpenMP region updates all parameters: each is cut into one run a thread. The rules are elementwise, so the bits
// do not depend on the cut.

#include <omp.h>

#include <algorithm>
#include <cmath>

#include "engine/optim/kernels.h"

namespace bitloom {

namespace {

/// Below this many elements in all a parallel region costs more than it saves: a step of Adam takes 0.15 ns an element
/// in cache, and fetching a gradient that another core wrote twice as long.
constexpr std::int64_t parallel_threshold = 1 << 20;
/// Runs are cut at multiples of a cache line of float32, so that threads rarely share one.
constexpr std::int64_t granule = 16;

/// Calls run(row, first, last) so that every element of every row is covered once. Each row is cut into one run a
/// thread, as the products that write gradients and read weights are: its lines then stay in one core's cache.
template <class Run>
void for_each_run(const OptimRows& rows, const Run& run) {
    std::int64_t total = 0;
    for (const OptimRow& row : rows) total += row.count;
#pragma omp parallel if (total > parallel_threshold)
    {
        const std::int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
        for (const OptimRow& row : rows) {
            const std::int64_t granules = (row.count + granule - 1) / granule;
            const std::int64_t first = granules * thread / threads * granule;
            const std::int64_t last = std::min(row.count, granules * (thread + 1) / threads * granule);
            if (first < last) run(row, first, last);
        }
    }
}

/// for_each_run with the row's element type as a value.
template <class Run>
void for_each_typed_run(const OptimRows& rows, const Run& run) {
    for (const OptimRow& row : rows)
        require(row.dtype == DType::f32 || row.dtype == DType::f64, "optimizer: needs f32 or f64, got ",
                name_of(row.dtype));
    for_each_run(rows, [&](const OptimRow& row, std::int64_t first, std::int64_t last) {
        if (row.dtype == DType::f32)
            run(row, first, last, float{});
        else
            run(row, first, last, double{});
    });
}

/// The row's pointers, shifted to `first`, and its constants.
template <class T>
struct Operands {
    Operands(const OptimRow& row, std::int64_t first)
        : p(static_cast<T*>(row.value) + first),
          g(static_cast<const T*>(row.gradient) + first),
          decay(static_cast<T>(row.weight_decay)) {
        for (int k = 0; k < OptimRow::max_slots; ++k)
            s[k] = row.state[k] ? static_cast<T*>(row.state[k]) + first : nullptr;
    }
    T* p;
    const T* g;
    T* s[OptimRow::max_slots];
    T decay;
};

enum class SgdForm { plain, pytorch, pytorch_nesterov, keras, keras_nesterov };

template <SgdForm form, class T>
void sgd_run(const Operands<T>& o, std::int64_t count, T lr, T mu) {
    T* __restrict__ p = o.p;
    const T* __restrict__ g = o.g;
    T* __restrict__ v = o.s[0];
    const T decay = o.decay;
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        const T gradient = g[i] + decay * p[i];
        if constexpr (form == SgdForm::plain) {
            p[i] = p[i] - lr * gradient;
        } else if constexpr (form == SgdForm::pytorch || form == SgdForm::pytorch_nesterov) {
            const T velocity = mu * v[i] + gradient;
            v[i] = velocity;
            p[i] = p[i] - lr * (form == SgdForm::pytorch_nesterov ? gradient + mu * velocity : velocity);
        } else {
            const T velocity = mu * v[i] - lr * gradient;
            v[i] = velocity;
            p[i] = p[i] + (form == SgdForm::keras_nesterov ? mu * velocity - lr * gradient : velocity);
        }
    }
}

void sgd(const OptimRows& rows, const SgdSettings& settings) {
    for_each_typed_run(rows, [&](const OptimRow& row, std::int64_t first, std::int64_t last, auto zero) {
        using T = decltype(zero);
        const Operands<T> o(row, first);
        const T lr = static_cast<T>(row.learning_rate), mu = static_cast<T>(settings.momentum);
        const std::int64_t n = last - first;
        if (settings.momentum == 0) {
            sgd_run<SgdForm::plain>(o, n, lr, mu);
        } else if (settings.convention == Convention::pytorch) {
            settings.nesterov ? sgd_run<SgdForm::pytorch_nesterov>(o, n, lr, mu)
                              : sgd_run<SgdForm::pytorch>(o, n, lr, mu);
        } else {
            settings.nesterov ? sgd_run<SgdForm::keras_nesterov>(o, n, lr, mu) : sgd_run<SgdForm::keras>(o, n, lr, mu);
        }
    });
}

/// p -= rate m / (sqrt(v) / root_divisor + epsilon); PyTorch divides the root by sqrt(1 - beta2^t), Keras puts that
/// factor into the rate (without divide_root).
template <bool amsgrad, bool divide_root, class T>
void adam_run(const Operands<T>& o, std::int64_t count, const AdamSettings& settings, T rate, T root_divisor) {
    T* __restrict__ p = o.p;
    const T* __restrict__ g = o.g;
    T* __restrict__ m = o.s[0];
    T* __restrict__ v = o.s[1];
    T* __restrict__ largest = o.s[2];
    const T decay = o.decay, epsilon = static_cast<T>(settings.epsilon);
    const T beta1 = static_cast<T>(settings.beta1), rest1 = static_cast<T>(1 - settings.beta1);
    const T beta2 = static_cast<T>(settings.beta2), rest2 = static_cast<T>(1 - settings.beta2);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        const T gradient = g[i] + decay * p[i];
        const T first = beta1 * m[i] + rest1 * gradient;
        T second = beta2 * v[i] + rest2 * gradient * gradient;
        m[i] = first;
        v[i] = second;
        if constexpr (amsgrad) {
            second = largest[i] < second ? second : largest[i];
            largest[i] = second;
        }
        T root = std::sqrt(second);
        if constexpr (divide_root) root = root / root_divisor;
        p[i] = p[i] - rate * first / (root + epsilon);
    }
}

void adam(const OptimRows& rows, const AdamSettings& settings) {
    for_each_typed_run(rows, [&](const OptimRow& row, std::int64_t first, std::int64_t last, auto zero) {
        using T = decltype(zero);
        const Operands<T> o(row, first);
        const std::int64_t n = last - first;
        const double t = static_cast<double>(row.step);
        const double correction1 = 1 - std::pow(settings.beta1, t);
        const double root2 = std::sqrt(1 - std::pow(settings.beta2, t));
        if (settings.convention == Convention::pytorch) {
            const T rate = static_cast<T>(row.learning_rate / correction1), divisor = static_cast<T>(root2);
            settings.amsgrad ? adam_run<true, true>(o, n, settings, rate, divisor)
                             : adam_run<false, true>(o, n, settings, rate, divisor);
        } else {
            const T rate = static_cast<T>(row.learning_rate * root2 / correction1);
            settings.amsgrad ? adam_run<true, false>(o, n, settings, rate, T(1))
                             : adam_run<false, false>(o, n, settings, rate, T(1));
        }
    });
}

enum class RmspropForm { plain, pytorch_momentum, keras_momentum };

template <RmspropForm form, class T>
void rmsprop_run(const Operands<T>& o, std::int64_t count, const RmspropSettings& settings, T lr) {
    T* __restrict__ p = o.p;
    const T* __restrict__ g = o.g;
    T* __restrict__ a = o.s[0];
    T* __restrict__ v = o.s[1];
    const T decay = o.decay, epsilon = static_cast<T>(settings.epsilon), mu = static_cast<T>(settings.momentum);
    const T rho = static_cast<T>(settings.rho), rest = static_cast<T>(1 - settings.rho);
#pragma omp simd
    for (std::int64_t i = 0; i < count; ++i) {
        const T gradient = g[i] + decay * p[i];
        const T average = rho * a[i] + rest * gradient * gradient;
        a[i] = average;
        const T denominator = std::sqrt(average) + epsilon;
        if constexpr (form == RmspropForm::plain) {
            p[i] = p[i] - lr * gradient / denominator;
        } else if constexpr (form == RmspropForm::pytorch_momentum) {
            const T velocity = mu * v[i] + gradient / denominator;
            v[i] = velocity;
            p[i] = p[i] - lr * velocity;
        } else {
            const T velocity = mu * v[i] + lr * gradient / denominator;
            v[i] = velocity;
            p[i] = p[i] - velocity;
        }
    }
}

void rmsprop(const OptimRows& rows, const RmspropSettings& settings) {
    for_each_typed_run(rows, [&](const OptimRow& row, std::int64_t first, std::int64_t last, auto zero) {
        using T = decltype(zero);
        const Operands<T> o(row, first);
        const T lr = static_cast<T>(row.learning_rate);
        const std::int64_t n = last - first;
        if (settings.momentum == 0)
            rmsprop_run<RmspropForm::plain>(o, n, settings, lr);
        else if (settings.convention == Convention::pytorch)
            rmsprop_run<RmspropForm::pytorch_momentum>(o, n, settings, lr);
        else
            rmsprop_run<RmspropForm::keras_momentum>(o, n, settings, lr);
    });
}

}  // namespace

constinit const OptimKernels cpu_optim_kernels{sgd, adam, rmsprop};

}  // namespace bitloom
