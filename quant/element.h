#pragma once
// Quantizers of one element, as plain data and functions that every backend compiles: what a code is, and the gradient
// that takes the place of the derivative. Named quantizers (quant/qkeras) are settings of these.
// Formulas: svhn-qkeras.md, section 5.3; QKeras, https://github.com/google/qkeras.

#include <cmath>
#include <cstdint>
#include <limits>

namespace bitloom::quant {

/// sig(x), of which quantizers with "sigmoid" in them are made.
enum class SigmoidForm : std::uint8_t {
    hard,    ///< clip(x / 2 + 1/2, 0, 1)
    smooth,  ///< clip(3/16 x + 1/2, 0, 1)
    real     ///< 1 / (1 + exp(-x))
};

enum class ElementKind : std::uint8_t {
    levels,             ///< gain (clip(round(x / step - shift), low, high) + shift)
    sign,               ///< gain sgn1(x), sgn1(0) = +1; zero_one: gain (sgn1(x) + 1) / 2
    ternary,            ///< gain sign(x) [|x| >= threshold]
    relu,               ///< step-wise ReLU, for slope > 0 a leaky one
    relu_sigmoid,       ///< the same on 2 sig(x) - 1
    power_of_two,       ///< sgn1(x) 2^E
    relu_power_of_two,  ///< 2^E of relu(x); for slope > 0 and x < 0: -2^E(slope |x|)
    tanh,               ///< clip(round(p count) / count, low, high), p = tanh(x) or 2 sig(x) - 1
    sigmoid,            ///< the same with p = sig(x)
    sigmoid_tanh,       ///< range clip(2 round(sig(x / range) count) / count - 1, low, high) (QKeras 0.8's quantized_tanh)
    ulaw                ///< mu-law companding of 2 round(sig(x / range) count) / count - 1
};

/// The gradient dy/dx. Surrogates of relu kinds have upper bound `upper`.
enum class ElementGradient : std::uint8_t {
    identity,  ///< 1, also outside of the range
    clipped,   ///< 1 for low <= x / step <= high, both included
    tanh,      ///< 1 - tanh(x)^2
    relu,      ///< slope for x <= 0, 1 on (0, upper], 0 above
    function   ///< derivative of the function in front of the rounding, 0 outside of the clip's bounds
};

enum class ElementRounding : std::uint8_t {
    none,       ///< of functions that activations may name: the value as it is
    nearest,    ///< ties to even
    floor,      ///< of exponents
    stochastic  ///< precision * (floor(y) if y - floor(y) < draw else ceil(y)), y = x / precision; exponents: in expectation
};

/// Plain data. Values are those of float32 arithmetic in the written order.
struct ElementRule {
    ElementKind kind = ElementKind::levels;
    ElementGradient gradient = ElementGradient::identity;
    ElementRounding rounding = ElementRounding::nearest;
    SigmoidForm form = SigmoidForm::hard;
    bool zero_one = false;       // sign
    bool real = false;           // tanh, sigmoid: the true function in place of sig
    bool quadratic = false;      // powers of two: even exponents only
    bool cap_output = false;     // relu: values above `upper` become `upper`
    double precision = 1;        // of stochastic rounding
    double step = 1;             // levels, relu: value of one code of the input
    double gain = 1;             // value of one code of the output
    double shift = 0;            // levels: codes are integers + shift
    double low = 0, high = 0;    // bounds of codes; of values for tanh, sigmoid; of exponents
    double count = 1;            // codes in [0, 1)
    double range = 1;            // 2^integer
    double slope = 0;            // of the negative side
    double upper = std::numeric_limits<double>::infinity();  // of the surrogate (relu kinds); cap of |x| (powers of two)
    double threshold = 0;        // ternary
    double mu = 255;             // ulaw
    double noise = 1;            // f: y = base + f (q - base), base = x or its surrogate
    bool through = true;         // false: the gradient is 1 - f, none through the quantizer (use_ste = False)
};

inline constexpr double keras_epsilon = 1e-7;

namespace element {

template <class T>
constexpr T clip(T x, T low, T high) {
    const T capped = x > high ? high : x;
    return x < low ? low : capped;  // NaN passes
}

template <class T>
constexpr T sign_plus(T x) {
    return x < 0 ? T(-1) : T(1);
}

template <class T>
constexpr T sig(SigmoidForm form, T x) {
    switch (form) {
        case SigmoidForm::hard: return clip<T>(T(0.5) * x + T(0.5), 0, 1);
        case SigmoidForm::smooth: return clip<T>(T(0.1875) * x + T(0.5), 0, 1);
        case SigmoidForm::real: break;
    }
    return T(1) / (T(1) + std::exp(-x));
}

/// The derivative; of clipped forms 1 times their slope where the bounds are kept, bounds included.
template <class T>
constexpr T sig_derivative(SigmoidForm form, T x) {
    if (form == SigmoidForm::real) {
        const T s = sig(form, x);
        return s * (T(1) - s);
    }
    const T slope = form == SigmoidForm::hard ? T(0.5) : T(0.1875), line = slope * x + T(0.5);
    return line >= 0 && line <= 1 ? slope : T(0);
}

template <class T>
constexpr T stochastic_round(T x, T precision, T draw) {
    const T y = x / precision, lower = std::floor(y);
    return precision * (y - lower < draw ? lower : std::ceil(y));
}

template <class T>
constexpr T round(const ElementRule& q, T x, T draw) {
    if (q.rounding == ElementRounding::none) return x;
    return q.rounding == ElementRounding::stochastic ? stochastic_round(x, T(q.precision), draw) : std::nearbyint(x);
}

/// log2 as the source computes it: a quotient of natural logarithms in the element's type.
template <class T>
constexpr T log2(T x) {
    return std::log(x) / T(0.69314718055994530942);
}

/// 2^e of an integral e, exact; 0 where e is no number, as the logarithm of a negative scale, on every device.
template <class T>
constexpr T power_of_two(T e) {
    constexpr T most = 5000;  // beyond the exponents of every type
    return std::ldexp(T(1), e >= -most ? static_cast<int>(e <= most ? e : most) : -5000);
}

/// 2^rne(log2(x + epsilon))
template <class T>
constexpr T nearest_power_of_two(T x) {
    return power_of_two(std::nearbyint(log2(x + T(keras_epsilon))));
}

/// The exponent of a magnitude, already capped.
template <class T>
constexpr T exponent(const ElementRule& q, T magnitude, T draw) {
    if (magnitude < T(keras_epsilon)) return T(q.low);
    const T root = q.quadratic ? std::sqrt(magnitude) : magnitude, log = log2(root);
    T e = 0;
    switch (q.rounding) {
        case ElementRounding::none:
        case ElementRounding::nearest: e = std::nearbyint(log); break;
        case ElementRounding::floor: e = std::floor(log); break;
        case ElementRounding::stochastic: {
            // The two powers around `root`, chosen so that the expectation is `root`.
            const T near = std::nearbyint(log2(root + T(keras_epsilon)));
            const T lower = power_of_two(near) > root ? near - 1 : near;
            const T low = power_of_two(lower);
            e = root < low + draw * low ? lower : lower + 1;
            break;
        }
    }
    e = clip<T>(e, T(q.low), T(q.high));
    return q.quadratic ? 2 * e : e;
}

/// 2 round(sig(x / range) count) / count - 1, and its derivative by x with the rounding passed through.
template <class T>
constexpr T rounded_tanh(const ElementRule& q, T x, T draw) {
    return 2 * round(q, sig(q.form, x / T(q.range)) * T(q.count), draw) / T(q.count) - 1;
}
template <class T>
constexpr T rounded_tanh_derivative(const ElementRule& q, T x) {
    return 2 * sig_derivative(q.form, x / T(q.range)) / T(q.range);
}

/// p of the tanh and sigmoid kinds, and its derivative.
template <class T>
constexpr T squashed(const ElementRule& q, T x) {
    const SigmoidForm form = q.real ? SigmoidForm::real : q.form;
    if (q.kind == ElementKind::sigmoid) return sig(form, x);
    return q.real ? std::tanh(x) : 2 * sig(q.form, x) - 1;
}
template <class T>
constexpr T squashed_derivative(const ElementRule& q, T x) {
    if (q.kind == ElementKind::sigmoid) return sig_derivative(q.real ? SigmoidForm::real : q.form, x);
    if (!q.real) return 2 * sig_derivative(q.form, x);
    const T t = std::tanh(x);
    return T(1) - t * t;
}

template <class T>
constexpr T companded(const ElementRule& q, T r) {
    const T magnitude = std::log(T(1) + T(q.mu) * std::abs(r)) / std::log(T(1) + T(q.mu));
    return r < 0 ? -magnitude : r > 0 ? magnitude : T(0);
}

template <class T>
constexpr T relu_levels(const ElementRule& q, T x, T draw) {
    const T m = T(q.count), mi = T(q.range), top = T(1) - T(1) / m, slope = T(q.slope);
    T positive = 0, negative = 0;
    if (q.kind == ElementKind::relu_sigmoid) {
        const T p = sig(q.form, x / mi) * m;
        positive = mi * clip<T>(2 * round(q, p, draw) / m - 1, 0, top);
        if (slope > 0) negative = mi * slope * clip<T>(2 * round(q, p * slope, draw) / (slope * m) - 1, -1, 0);
    } else {
        const T p = x * m / mi;
        positive = mi * clip<T>(round(q, p, draw) / m, 0, top);
        if (slope > 0) negative = mi * slope * clip<T>(round(q, p * slope, draw) / (slope * m), -1, 0);
    }
    const T y = positive + negative;
    return q.cap_output && y > T(q.upper) ? T(q.upper) : y;
}

/// The surrogate of the relu kinds: leaky ReLU up to `upper`.
template <class T>
constexpr T relu_surrogate(const ElementRule& q, T x) {
    if (x > T(q.upper)) return T(q.upper);
    return x > 0 ? x : T(q.slope) * x;
}

/// The quantized value, before noise.
template <class T>
constexpr T value(const ElementRule& q, T x, T draw) {
    switch (q.kind) {
        case ElementKind::levels:
            return T(q.gain) * (clip<T>(round(q, x / T(q.step) - T(q.shift), draw), T(q.low), T(q.high)) + T(q.shift));
        case ElementKind::sign: {
            const T k = sign_plus(x);
            return T(q.gain) * (q.zero_one ? (k + 1) / 2 : k);
        }
        case ElementKind::ternary:
            if (!(std::abs(x) >= T(q.threshold))) return 0;
            return x > 0 ? T(q.gain) : x < 0 ? -T(q.gain) : T(0);
        case ElementKind::relu:
        case ElementKind::relu_sigmoid: return relu_levels(q, x, draw);
        case ElementKind::power_of_two: {
            const T a = std::abs(x);
            return sign_plus(x) * power_of_two(exponent(q, a > T(q.upper) ? T(q.upper) : a, draw));
        }
        case ElementKind::relu_power_of_two: {
            const bool negative = x < 0 && q.slope > 0;
            const T a = negative ? T(q.slope) * -x : x > 0 ? x : T(0);
            const T power = power_of_two(exponent(q, a > T(q.upper) ? T(q.upper) : a, draw));
            return negative ? -power : power;
        }
        case ElementKind::tanh:
        case ElementKind::sigmoid:
            return clip<T>(round(q, squashed(q, x) * T(q.count), draw) / T(q.count), T(q.low), T(q.high));
        case ElementKind::sigmoid_tanh: return T(q.range) * clip<T>(rounded_tanh(q, x, draw), T(q.low), T(q.high));
        case ElementKind::ulaw:
            return T(q.range) * clip<T>(companded(q, rounded_tanh(q, x, draw)), T(q.low), T(q.high));
    }
    return x;
}

/// What replaces dy/dx of the quantized value, before noise.
template <class T>
constexpr T slope_of(const ElementRule& q, T x, T draw) {
    switch (q.gradient) {
        case ElementGradient::identity: return 1;
        case ElementGradient::clipped: {
            const T v = x / T(q.step);
            return v >= T(q.low) + T(q.shift) && v <= T(q.high) + T(q.shift) ? T(1) : T(0);
        }
        case ElementGradient::tanh: {
            const T t = std::tanh(x);
            return T(1) - t * t;
        }
        case ElementGradient::relu:
            if (x > T(q.upper)) return 0;
            return x > 0 ? T(1) : T(q.slope);
        case ElementGradient::function: break;
    }
    const auto inside = [&](T v) { return v >= T(q.low) && v <= T(q.high); };
    if (q.kind == ElementKind::ulaw) {
        const T r = rounded_tanh(q, x, draw);
        if (r == 0 || !inside(companded(q, r))) return 0;
        const T outer = T(q.mu) / ((T(1) + T(q.mu) * std::abs(r)) * std::log(T(1) + T(q.mu)));
        return T(q.range) * outer * rounded_tanh_derivative(q, x);
    }
    if (q.kind == ElementKind::sigmoid_tanh)
        return inside(rounded_tanh(q, x, draw)) ? T(q.range) * rounded_tanh_derivative(q, x) : T(0);
    const T rounded = round(q, squashed(q, x) * T(q.count), draw) / T(q.count);
    return inside(rounded) ? squashed_derivative(q, x) : T(0);
}

/// What an unquantized pass gives in place of the value, for noise.
template <class T>
constexpr T base(const ElementRule& q, T x) {
    if (q.gradient == ElementGradient::relu) return relu_surrogate(q, x);
    return q.gradient == ElementGradient::tanh ? std::tanh(x) : x;
}
template <class T>
constexpr T base_derivative(const ElementRule& q, T x) {
    if (q.gradient == ElementGradient::relu) return x > T(q.upper) ? T(0) : x > 0 ? T(1) : T(q.slope);
    return q.gradient == ElementGradient::tanh ? slope_of<T>(q, x, 0) : T(1);
}

}  // namespace element

/// y of one element; `draw` in [0, 1) where rounding is stochastic.
template <class T>
constexpr T quantize_element(const ElementRule& q, T x, T draw = 0) {
    const T y = element::value(q, x, draw);
    if (q.noise == 1) return y;
    const T b = element::base(q, x);
    return b + T(q.noise) * (y - b);
}

/// dy/dx of one element, as the rule's surrogate has it.
template <class T>
constexpr T quantize_element_gradient(const ElementRule& q, T x, T draw = 0) {
    const T b = element::base_derivative(q, x), f = T(q.noise);
    if (!q.through) return (T(1) - f) * b;
    if (q.noise == 1) return element::slope_of(q, x, draw);
    return (T(1) - f) * b + f * element::slope_of(q, x, draw);
}

}  // namespace bitloom::quant
