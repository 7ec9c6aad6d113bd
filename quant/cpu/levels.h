#pragma once
// Rounding to equally spaced levels on vectors, with the bits of the scalar text (quant/element.h).

#include <bit>
#include <cmath>
#include <optional>

#include "ops/cpu/simd.h"
#include "quant/element.h"

namespace bitloom::quant::cpu {

/// To the nearest integer, ties to even; NaN passes. Adding and taking away 1.5 2^23 rounds magnitudes below 2^22, larger
/// ones are clipped before or are integers.
template <class V>
[[gnu::always_inline]] inline V round_even(V v) {
    if constexpr (std::is_same_v<V, float>) {
        return std::nearbyint(v);
    } else {
        const V magic = ops::cpu::splat<V>(12582912.0f);
        return (v + magic) - magic;
    }
}

/// y = gain (clip(rne(x inverse - shift), low, high) + shift), for steps that are powers of two and bounds below 2^22, so
/// that clipping may come before rounding.
struct Levels {
    float inverse, shift, low, high, gain;

    template <class V>
    [[gnu::always_inline]] V operator()(V x) const {
        using ops::cpu::splat;
        V v = x * splat<V>(inverse) - splat<V>(shift);
        v = v > splat<V>(high) ? splat<V>(high) : v;
        v = v < splat<V>(low) ? splat<V>(low) : v;
        return splat<V>(gain) * (round_even<V>(v) + splat<V>(shift));
    }

    /// Nothing where the rule is no such thing.
    static std::optional<Levels> of(const ElementRule& rule) {
        const auto is_power = [](double v) {
            int exponent = 0;
            return v > 0 && std::frexp(v, &exponent) == 0.5 && std::abs(exponent) < 100;
        };
        const double bound = 1 << 22;
        if (rule.kind == ElementKind::levels && is_power(rule.step) && rule.high < bound && rule.low > -bound)
            return Levels{static_cast<float>(1 / rule.step), static_cast<float>(rule.shift), static_cast<float>(rule.low),
                          static_cast<float>(rule.high), static_cast<float>(rule.gain)};
        if (rule.kind == ElementKind::relu && rule.slope == 0 && !rule.cap_output && rule.count < bound)
            return Levels{static_cast<float>(rule.count / rule.range), 0.0f, 0.0f, static_cast<float>(rule.count - 1),
                          static_cast<float>(rule.range / rule.count)};
        return std::nullopt;
    }
};

/// dy through a leaky ReLU with an upper bound: slope for x <= 0, 1 on (0, upper], 0 above.
template <class V>
[[gnu::always_inline]] inline V relu_gradient(V x, V dy, float upper, float slope) {
    using ops::cpu::splat;
    const V inside = x > splat<V>(upper) ? V{} : dy;
    return x > V{} ? inside : splat<V>(slope) * dy;
}

}  // namespace bitloom::quant::cpu
