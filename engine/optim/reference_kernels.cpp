// The update rules as they are written in the sources, one element at a time, in the order of PyTorch's operations
// where the form is PyTorch's.

#include <algorithm>
#include <cmath>

#include "engine/optim/kernels.h"

namespace bitloom {

namespace {

/// Calls rule(value, gradient with weight decay, state of each slot) for each element of each row; the rule writes
/// through the references.
template <class MakeRule>
void for_each_element(const OptimRows& rows, MakeRule make_rule) {
    for (const OptimRow& row : rows) {
        dispatch_float(row.dtype, "optimizer", [&](auto zero) {
            using T = decltype(zero);
            const auto rule = make_rule(row, zero);
            T* p = static_cast<T*>(row.value);
            const T* g = static_cast<const T*>(row.gradient);
            T* s[OptimRow::max_slots];
            for (int k = 0; k < OptimRow::max_slots; ++k) s[k] = static_cast<T*>(row.state[k]);
            for (std::int64_t i = 0; i < row.count; ++i) {
                T gradient = g[i];
                if (row.weight_decay != 0) gradient = gradient + static_cast<T>(row.weight_decay) * p[i];
                T unused = 0;
                rule(p[i], gradient, s[0] ? s[0][i] : unused, s[1] ? s[1][i] : unused, s[2] ? s[2][i] : unused);
            }
        });
    }
}

void sgd(const OptimRows& rows, const SgdSettings& settings) {
    for_each_element(rows, [&](const OptimRow& row, auto zero) {
        using T = decltype(zero);
        return [&, lr = static_cast<T>(row.learning_rate), mu = static_cast<T>(settings.momentum)](T& p, T g, T& v, T&,
                                                                                                   T&) {
            if (settings.momentum == 0) {
                p = p - lr * g;
            } else if (settings.convention == Convention::pytorch) {
                v = mu * v + g;
                p = p - lr * (settings.nesterov ? g + mu * v : v);
            } else {
                v = mu * v - lr * g;
                p = p + (settings.nesterov ? mu * v - lr * g : v);
            }
        };
    });
}

void adam(const OptimRows& rows, const AdamSettings& settings) {
    for_each_element(rows, [&](const OptimRow& row, auto zero) {
        using T = decltype(zero);
        const double t = static_cast<double>(row.step);
        const double correction1 = 1 - std::pow(settings.beta1, t);
        const double root2 = std::sqrt(1 - std::pow(settings.beta2, t));
        return [&, correction1, root2, lr = row.learning_rate](T& p, T g, T& m, T& v, T& largest) {
            m = static_cast<T>(settings.beta1) * m + static_cast<T>(1 - settings.beta1) * g;
            v = static_cast<T>(settings.beta2) * v + static_cast<T>(1 - settings.beta2) * g * g;
            if (settings.amsgrad) largest = std::max(largest, v);
            const T second = settings.amsgrad ? largest : v;
            const T epsilon = static_cast<T>(settings.epsilon);
            if (settings.convention == Convention::pytorch) {
                p = p - static_cast<T>(lr / correction1) * m / (std::sqrt(second) / static_cast<T>(root2) + epsilon);
            } else {
                p = p - static_cast<T>(lr * root2 / correction1) * m / (std::sqrt(second) + epsilon);
            }
        };
    });
}

void rmsprop(const OptimRows& rows, const RmspropSettings& settings) {
    for_each_element(rows, [&](const OptimRow& row, auto zero) {
        using T = decltype(zero);
        return [&, lr = static_cast<T>(row.learning_rate)](T& p, T g, T& a, T& v, T&) {
            a = static_cast<T>(settings.rho) * a + static_cast<T>(1 - settings.rho) * g * g;
            const T denominator = std::sqrt(a) + static_cast<T>(settings.epsilon);
            const T mu = static_cast<T>(settings.momentum);
            if (settings.momentum == 0) {
                p = p - lr * g / denominator;
            } else if (settings.convention == Convention::pytorch) {
                v = mu * v + g / denominator;
                p = p - lr * v;
            } else {
                v = mu * v + lr * g / denominator;
                p = p - v;
            }
        };
    });
}

}  // namespace

constinit const OptimKernels reference_optim_kernels{sgd, adam, rmsprop};

}  // namespace bitloom
