#pragma once
// Step functions and surrogate rules by name, with the written formulas that straight-through gradients are held to.

#include <array>
#include <cmath>
#include <string_view>

#include "ops/kernels.h"

namespace bitloom::ops::test {

inline constexpr std::array step_functions = {StepFunction::round, StepFunction::floor, StepFunction::ceil,
                                              StepFunction::sign, StepFunction::sign_binary};
inline constexpr std::array surrogates = {Surrogate::identity,      Surrogate::clipped,       Surrogate::clipped_open,
                                          Surrogate::clipped_upper, Surrogate::leaky_clipped, Surrogate::scaled,
                                          Surrogate::tanh,          Surrogate::approx_sign,   Surrogate::swish_sign,
                                          Surrogate::zero};

// No default label: a new enumerator warns here, and is then to be listed above.
constexpr std::string_view name_of(StepFunction function) {
    switch (function) {
        case StepFunction::round:
            return "round";
        case StepFunction::floor:
            return "floor";
        case StepFunction::ceil:
            return "ceil";
        case StepFunction::sign:
            return "sign";
        case StepFunction::sign_binary:
            return "sign_binary";
    }
    return "";
}

constexpr std::string_view name_of(Surrogate rule) {
    switch (rule) {
        case Surrogate::identity:
            return "identity";
        case Surrogate::clipped:
            return "clipped";
        case Surrogate::clipped_open:
            return "clipped_open";
        case Surrogate::clipped_upper:
            return "clipped_upper";
        case Surrogate::leaky_clipped:
            return "leaky_clipped";
        case Surrogate::scaled:
            return "scaled";
        case Surrogate::tanh:
            return "tanh";
        case Surrogate::approx_sign:
            return "approx_sign";
        case Surrogate::swish_sign:
            return "swish_sign";
        case Surrogate::zero:
            return "zero";
    }
    return "";
}

/// dx / dy at x, from the formulas beside the enumerators in ops/kernels.h. Hyperbolic functions by exponentials, so
/// that nothing is shared with the kernels.
inline double written_slope(const SurrogateRule& r, double x) {
    switch (r.rule) {
        case Surrogate::identity:
            return 1;
        case Surrogate::clipped:
            return r.low <= x && x <= r.high;
        case Surrogate::clipped_open:
            return r.low < x && x < r.high;
        case Surrogate::clipped_upper:
            return r.low < x && x <= r.high;
        case Surrogate::leaky_clipped:
            if (x > r.high) return 0;
            return x > r.low ? 1 : r.slope;
        case Surrogate::scaled:
            return r.slope;
        case Surrogate::tanh: {
            const double sech = 2 / (std::exp(x) + std::exp(-x));
            return sech * sech;
        }
        case Surrogate::approx_sign:
            if (x < -1 || x > 1) return 0;
            return x < 0 ? 2 + 2 * x : 2 - 2 * x;
        case Surrogate::swish_sign: {
            const double z = r.slope * x, e = std::exp(z);
            const double tanh_half = (e - 1) / (e + 1), cosh = (e + 1 / e) / 2;
            return r.slope * (2 - z * tanh_half) / (1 + cosh);
        }
        case Surrogate::zero:
            return 0;
    }
    return 0;
}

}  // namespace bitloom::ops::test
