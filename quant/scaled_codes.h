#pragma once
// Quantizers whose scale comes from the values, element by element: plain data and functions that every backend compiles.
// Who walks over cells and sums is quant/scale.h on the host and cuda/quant/scale.cu on a GPU. Formulas: svhn-qkeras.md,
// section 5.3.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "quant/element.h"

namespace bitloom::quant {

enum class ScaledCodes : std::uint8_t {
    bits,               ///< sign(x) min(floor(|x| / s + 1/2), high)
    linear,             ///< clip(rne(x / s - shift), low - shift, high - shift) + shift
    sign,               ///< sgn1(x), or {0, 1}
    ternary,            ///< sign(x) [|s rne(x / s)| >= s / 2]
    stochastic_sign,    ///< sgn1(sigmoid(temperature x / std) - draw), or {0, 1}
    stochastic_ternary  ///< (sgn1(p(x - T) - draw) + sgn1(p(x + T) - second draw)) / 2
};

enum class ScaleSource : std::uint8_t {
    given,         ///< `fixed`
    automatic,     ///< least squares, or the largest magnitude
    power_of_two   ///< the same rounded to powers of two
};

struct ScaleRule {
    ScaledCodes codes = ScaledCodes::bits;
    ScaleSource source = ScaleSource::automatic;
    double fixed = 1;            // scale where it is given
    double low = 0, high = 0, shift = 0;
    double unit = 1;             // bits: 2^integer; x is divided by it first and the output multiplied
    int iterations = 5;          // of least squares
    bool zero_one = false;
    bool stochastic = false;     // sign, ternary: stochastic rounding in front
    bool peak_over_all = false;  // the first scale is one for all cells (rank-1 tensors)
    bool keep_sign = true;       // linear: false for unsigned codes
    double range_levels = 0;     // > 0: the first scale is (max - min) / range_levels, and the codes of the last iteration
                                 // stay with the scale after it (QKeras 0.7.4 to 0.9)
    double min_exponent = -1e9, max_exponent = 1e9;  // of power-of-two scales, after each step of least squares
    double temperature = 6;
    SigmoidForm form = SigmoidForm::real;
};

/// Pointers of one call; all arrays [cells][inner] but where noted.
template <class T>
struct ScaleCall {
    std::int64_t cells = 0, inner = 0;
    const T* x = nullptr;
    const std::int32_t* groups = nullptr;  ///< [cells], group of each cell, from 0; null: each its own
    const T *draws = nullptr, *second = nullptr;
    const T* given = nullptr;  ///< [cells]; null: rule.fixed for all
    T* y = nullptr;
    T* scale = nullptr;     ///< [cells]; 0 for a cell of zeros (the source divides 0 by 0)
    T* gradient = nullptr;  ///< null, or 1 where the clipping gradient passes, else 0 (linear)
};

namespace scaled {

/// The code of a sign: -1 and 1, or 0 and 1.
template <class T>
constexpr T sign_code(const ScaleRule& r, T v) {
    const T sign = element::sign_plus(v);
    return r.zero_one ? (sign + 1) / 2 : sign;
}

/// What stochastic rounding in front of a sign scales by, from the cell's largest magnitude; and the value so rounded.
template <class T>
constexpr T chance_factor(T peak) {
    return 2 * std::min(T(1), peak);
}
template <class T>
constexpr T rounded_by_chance(T x, T factor, T draw) {
    return factor > 0 ? factor * element::stochastic_round(x / factor, T(0.125), draw) : T(0);
}
/// Sign of the value so rounded; of zero, by the second draw.
template <class T>
constexpr T sign_code_by_chance(const ScaleRule& r, T x, T factor, T draw, T second) {
    T v = rounded_by_chance(x, factor, draw);
    if (v == 0) v = second < T(0.5) ? T(-1) : T(1);
    return sign_code(r, v);
}

template <class T>
constexpr T bits_code(const ScaleRule& r, T x, T scale) {
    const T v = x / T(r.unit);
    const T magnitude = scale > 0 ? std::min(std::floor(std::abs(v) / scale + T(0.5)), T(r.high)) : T(0);
    return v < 0 ? -magnitude : v > 0 ? magnitude : T(0);
}
template <class T>
constexpr T linear_code(const ScaleRule& r, T x, T scale) {
    return std::nearbyint(element::clip<T>(x / scale, T(r.low), T(r.high)) - T(r.shift)) + T(r.shift);
}
/// `draw` only where the rule is stochastic.
template <class T>
constexpr T ternary_code(const ScaleRule& r, T x, T scale, T draw) {
    T v = x;
    if (r.codes == ScaledCodes::ternary && scale > 0) {
        const T ratio = x / scale;
        v = scale * (r.stochastic ? element::stochastic_round(ratio, T(1) / T(3), draw) : std::nearbyint(ratio));
    }
    // A scale of 0 stays: the source's x / 0 compares as false.
    const bool on = (scale > 0 || r.codes != ScaledCodes::ternary) && std::abs(v) >= scale / 2;
    return on && x > 0 ? T(1) : on && x < 0 ? T(-1) : T(0);
}
/// Codes drawn from the value; `spread` is the cell's standard deviation plus epsilon.
template <class T>
constexpr T drawn_sign(const ScaleRule& r, T x, T spread, T draw) {
    return sign_code(r, element::sig(r.form, T(r.temperature) * x / spread) - draw);
}
template <class T>
constexpr T drawn_ternary(const ScaleRule& r, T x, T scale, T spread, T draw, T second) {
    const T t = scale / (2 * spread), hot = T(r.temperature), v = x / spread;
    const T above = element::sign_plus(element::sig(r.form, hot * (v - t)) - draw);
    const T below = element::sign_plus(element::sig(r.form, hot * (v + t)) - second);
    return (above + below) / 2;
}

/// 1 where the clip of linear codes passes a gradient.
template <class T>
constexpr T linear_gradient(const ScaleRule& r, T x, T scale) {
    const T v = x / scale;
    return v >= T(r.low) && v <= T(r.high) ? T(1) : T(0);
}
template <class T>
constexpr T output(const ScaleRule& r, T code, T scale) {
    return scale * T(r.unit) * code;
}

/// What the first scale is made of: the largest magnitude of the values, the largest value, or their spread.
template <class T>
constexpr T peak_of(const ScaleRule& r, T low, T high, T magnitude) {
    return r.range_levels > 0 ? high - low : r.keep_sign ? magnitude : std::max(high, T(0));
}
template <class T>
constexpr T first_scale(const ScaleRule& r, T peak) {
    const bool rounded = r.source == ScaleSource::power_of_two;
    T s = 0;
    switch (r.codes) {
        case ScaledCodes::ternary:
        case ScaledCodes::stochastic_ternary: s = 2 * peak / 3; break;
        case ScaledCodes::linear:
            s = std::max((r.keep_sign ? T(2) : T(1)) * peak / T(r.high - r.low), T(keras_epsilon));
            break;
        default: {
            const T p = peak / T(r.unit);
            s = r.range_levels > 0 ? p / T(r.range_levels) : 2 * p / (2 * T(r.high));
        }
    }
    return rounded ? element::nearest_power_of_two(s) : s;
}
/// s = mean(x q) / (mean(q^2) + epsilon), rounded and bounded where asked.
template <class T>
constexpr T fitted_scale(const ScaleRule& r, double product, double square, double size, bool to_power_of_two) {
    T s = T((product / size) / (square / size + keras_epsilon));
    if (!to_power_of_two) return s;
    s = element::nearest_power_of_two(s);
    if (r.min_exponent > -1e8) s = std::max(s, T(std::exp2(r.min_exponent)));
    if (r.max_exponent < 1e8) s = std::min(s, T(std::exp2(r.max_exponent)));
    return s;
}
/// Steps of least squares behind the first scale, and whether their scales are rounded.
constexpr int fits(const ScaleRule& r) {
    const bool rounded = r.source == ScaleSource::power_of_two;
    switch (r.codes) {
        case ScaledCodes::sign:
        case ScaledCodes::stochastic_sign: return 1;
        case ScaledCodes::ternary:
        case ScaledCodes::stochastic_ternary: return r.iterations;
        case ScaledCodes::linear: return rounded ? r.iterations : 0;
        case ScaledCodes::bits: break;
    }
    return rounded || r.range_levels > 0 ? r.iterations : 0;
}
constexpr bool fits_powers_of_two(const ScaleRule& r) {
    return r.source == ScaleSource::power_of_two || (r.codes == ScaledCodes::bits && r.range_levels > 0);
}
/// Codes that are drawn when the scale is known.
constexpr bool codes_are_drawn(const ScaleRule& r) {
    return r.codes == ScaledCodes::stochastic_sign || r.codes == ScaledCodes::stochastic_ternary;
}
/// Whether the codes of the last fit stay with the scale behind it.
constexpr bool last_codes_stand(const ScaleRule& r) {
    const bool found = r.source != ScaleSource::given;
    return r.codes == ScaledCodes::sign || (r.codes == ScaledCodes::ternary && found) ||
           (r.codes == ScaledCodes::bits && r.range_levels > 0 && found);
}
/// The codes of signs, which do not depend on a scale.
constexpr bool codes_come_first(const ScaleRule& r) {
    return r.codes == ScaledCodes::sign || r.codes == ScaledCodes::stochastic_sign;
}

}  // namespace scaled

}  // namespace bitloom::quant
