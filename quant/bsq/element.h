#pragma once
// The elementwise rules of BSQ (bsq.md, 5), as functions that every backend compiles.

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace bitloom::bsq {

/// What stands between a sum of planes (or a normalised weight) t and its weight scale Q(t),
/// Q(t) = round(clamp(t, -1, 1) (2^n - 1)) / (2^n - 1), half to even.
struct QuantizationRule {
    int bits = 8;       ///< n; 0: all weights are 0
    bool zero = false;  ///< all weights are 0 whatever the planes say
    bool clamp = true;  ///< of t to [-1, 1]
};

enum class ActivationKind {
    identity,  // the quantizer alone
    relu,
    relu6,  // min(max(x, 0), 6); gradient 1 on the open (0, 6)
    pact    // min(max(x, 0), alpha); gradient 1 on the closed [0, alpha], that of alpha sums dy where x >= alpha
};
struct ActivationRule {
    ActivationKind kind = ActivationKind::relu;
    int bits = 0;  ///< of the dynamic quantizer behind it; 0: none
};

/// The weight of bit b among n in t, as float32.
constexpr float plane_factor(int bit, int bits) {
    return static_cast<float>(static_cast<double>(std::int64_t{1} << (bits - 1 - bit)) /
                              static_cast<double>((std::int64_t{1} << bits) - 1));
}
/// The largest code, 2^n - 1.
constexpr float top_code(int bits) { return static_cast<float>((std::int64_t{1} << bits) - 1); }
/// Precisions that codes in float32 and the rounding of the kernels allow.
inline constexpr int max_bits = 16;

/// Q(t).
template <class T>
constexpr T quantized(const QuantizationRule& rule, T t) {
    if (rule.zero || rule.bits == 0) return 0;
    const T top = static_cast<T>(top_code(rule.bits));
    const T u = rule.clamp ? std::clamp(t, T(-1), T(1)) : t;
    return std::nearbyint(u * top) / top;  // half to even is the same on both sides of zero
}

/// The activation without its quantizer; `alpha` only where the kind is pact.
template <class T>
constexpr T activated(ActivationKind kind, T x, T alpha) {
    if (kind == ActivationKind::identity) return x;
    const T y = std::max(x, T(0));
    return kind == ActivationKind::relu ? y : std::min(y, kind == ActivationKind::relu6 ? T(6) : alpha);
}
/// S round(y (2^b - 1) / S) / (2^b - 1) with S the largest magnitude of the tensor: multiplied, divided, rounded half to
/// even, divided, multiplied.
template <class T>
constexpr T dynamically_quantized(T y, T top, T largest) {
    return largest == 0 ? T(0) : std::nearbyint(y * top / largest) / top * largest;
}
/// What the activation's backward multiplies dy by. pact: 1 - [x < 0] - [x > alpha], which is -1 where alpha itself is
/// negative and x lies between.
template <class T>
constexpr T activation_factor(ActivationKind kind, T x, T alpha) {
    switch (kind) {
        case ActivationKind::identity: break;
        case ActivationKind::relu: return static_cast<T>(x > 0);
        case ActivationKind::relu6: return static_cast<T>(x > 0 && x < 6);
        case ActivationKind::pact: return static_cast<T>(1 - (x < 0) - (x > alpha));
    }
    return 1;
}

}  // namespace bitloom::bsq
