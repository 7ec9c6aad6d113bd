#include "quant/qkeras/quantizer.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"

namespace bitloom::quant::qkeras {

namespace {

double pow2(std::int64_t exponent) { return std::ldexp(1.0, static_cast<int>(exponent)); }

bool is_po2(double v) {
    int exponent = 0;
    return v > 0 && std::frexp(v, &exponent) == 0.5;
}

/// Bits of the magnitude.
std::int64_t unsigned_bits(const Quantizer& q) { return q.bits - (q.keep_negative ? 1 : 0); }

struct Exponents {
    double low, high;
};

/// Of quantized_po2 and quantized_relu_po2: bits of the exponent e, and its bounds.
Exponents exponents(const Quantizer& q) {
    const bool sign_of_value = q.kind == QuantizerKind::quantized_po2;
    const bool sign_of_exponent = !q.max_value || *q.max_value > 1;
    const std::int64_t e = q.bits - (sign_of_value ? 1 : 0) - (sign_of_exponent ? 1 : 0);
    const double low = -pow2(e), high = pow2(e) - 1;
    return {low, q.quadratic_approximation ? 2 * std::floor(high / 2) : high};
}

struct LinearBounds {
    double low, high, shift;
};
LinearBounds linear_bounds(const Quantizer& q) {
    if (q.bits == 1 && q.keep_negative) return {-0.5, 0.5, 0.5};
    const double count = pow2(unsigned_bits(q));
    return {q.keep_negative ? -count + (q.symmetric ? 1 : 0) : 0.0, count - 1, 0};
}
/// The step of quantized_linear's data type.
double linear_step(const Quantizer& q) { return pow2(q.integer - q.bits + (q.keep_negative ? 1 : 0)); }

[[noreturn]] void refuse(const Quantizer& q, const std::string& why) { throw UsageError(cat(q.name(), ": ", why)); }

void check_bits(const Quantizer& q, std::int64_t least) {
    if (q.bits < least || q.bits > 32) refuse(q, cat("bits must be ", least, " to 32, got ", q.bits));
    if (q.integer < -64 || q.integer > 127) refuse(q, cat("integer must be -64 to 127, got ", q.integer));
}

bool has_bits(QuantizerKind kind) {
    switch (kind) {
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_linear:
        case QuantizerKind::quantized_relu:
        case QuantizerKind::quantized_tanh:
        case QuantizerKind::quantized_sigmoid:
        case QuantizerKind::quantized_ulaw:
        case QuantizerKind::quantized_po2:
        case QuantizerKind::quantized_relu_po2:
        case QuantizerKind::quantized_hswish: return true;
        default: return false;
    }
}

}  // namespace

Quantizer make_quantizer(QuantizerKind kind) {
    Quantizer q;
    q.kind = kind;
    if (kind == QuantizerKind::quantized_linear) q.symmetric = true;
    if (kind == QuantizerKind::stochastic_ternary) q.temperature = 8;
    if (kind == QuantizerKind::quantized_sigmoid) q.use_real_sigmoid = false;
    if (kind == QuantizerKind::quantized_hswish) q.relu_upper_bound = 6;
    return q;
}

void check(const Quantizer& q) {
    if (has_bits(q.kind)) check_bits(q, 1);
    switch (q.kind) {
        case QuantizerKind::quantized_tanh:
        case QuantizerKind::quantized_sigmoid:
        case QuantizerKind::quantized_ulaw:
            if (q.bits > 24) refuse(q, cat("bits must be 1 to 24, got ", q.bits));
            break;
        case QuantizerKind::quantized_po2:
        case QuantizerKind::quantized_relu_po2: {
            if (q.bits > 10) refuse(q, cat("bits must be 1 to 10 (an exponent's), got ", q.bits));
            if (q.max_value && *q.max_value <= 0) refuse(q, cat("max_value must be positive, got ", *q.max_value));
            if (q.log2_rounding != "rnd" && q.log2_rounding != "floor")
                refuse(q, "log2_rounding must be 'rnd' or 'floor', got '" + q.log2_rounding + "'");
            const Exponents bounds = exponents(q);
            if (bounds.high < bounds.low) refuse(q, cat(q.bits, " bits leave no exponent"));
            break;
        }
        default: break;
    }
    if (q.negative_slope < 0) refuse(q, cat("negative_slope must not be negative, got ", q.negative_slope));
    if (q.negative_slope > 0 && !is_po2(q.negative_slope))
        refuse(q, cat("negative_slope must be a power of two, got ", q.negative_slope));
    if (q.kind == QuantizerKind::quantized_relu && q.negative_slope > 0 && q.bits < 2)
        refuse(q, "a negative slope needs at least 2 bits");
    if (q.threshold && *q.threshold < 0) refuse(q, cat("threshold must not be negative, got ", *q.threshold));
    if (q.number_of_unrolls < 1 || q.number_of_unrolls > 1000)
        refuse(q, cat("number_of_unrolls must be 1 to 1000, got ", q.number_of_unrolls));
    if (q.qnoise_factor < 0 || q.qnoise_factor > 1)
        refuse(q, cat("qnoise_factor must be 0 to 1, got ", q.qnoise_factor));
    if (q.u <= 0) refuse(q, cat("u must be positive, got ", q.u));
    for (const std::int64_t axis : q.scale_axis)
        if (axis < 0 || axis > 7) refuse(q, cat("scale_axis must be 0 to 7, got ", axis));
    for (const std::int64_t n : q.elements_per_scale)
        if (n < 1) refuse(q, cat("elements_per_scale must be positive, got ", n));
    if (!q.elements_per_scale.empty() && q.scale_axis.empty()) refuse(q, "elements_per_scale needs scale_axis");
    if (q.elements_per_scale.size() > 1 && q.elements_per_scale.size() != q.scale_axis.size())
        refuse(q, cat("elements_per_scale has ", q.elements_per_scale.size(), " values for ", q.scale_axis.size(),
                      " scale axes"));
}

double max_value_of(const Quantizer& q) {
    const double of_alpha = q.alpha.kind == Alpha::Kind::number ? std::max(1.0, q.alpha.value) : 1.0;
    switch (q.kind) {
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_hswish: return unsigned_bits(q) > 0 ? std::max(1.0, pow2(q.integer)) : 1.0;
        case QuantizerKind::quantized_linear: return linear_bounds(q).high * linear_step(q) * q.alpha.value;
        case QuantizerKind::quantized_ulaw: return q.bits > 1 ? std::max(1.0, pow2(q.integer)) : 1.0;
        case QuantizerKind::quantized_relu:
            return q.bits - (q.negative_slope > 0 ? 1 : 0) > 0 ? std::max(1.0, pow2(q.integer)) : 1.0;
        case QuantizerKind::quantized_tanh: return 1 - pow2(1 - q.bits);
        case QuantizerKind::quantized_sigmoid: return 1 - pow2(-q.bits);
        case QuantizerKind::quantized_po2:
        case QuantizerKind::quantized_relu_po2: return q.max_value ? *q.max_value : std::exp2(exponents(q).high);
        default: return of_alpha;
    }
}

double min_value_of(const Quantizer& q) {
    switch (q.kind) {
        case QuantizerKind::quantized_linear: return linear_bounds(q).low * linear_step(q) * q.alpha.value;
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_hswish:
            if (!q.keep_negative) return 0;
            return unsigned_bits(q) > 0 ? -max_value_of(q) : -1.0;
        case QuantizerKind::quantized_relu: return q.negative_slope > 0 ? -q.negative_slope * pow2(q.integer) : 0.0;
        case QuantizerKind::quantized_tanh: return -1 + (q.symmetric ? pow2(1 - q.bits) : 0);
        case QuantizerKind::quantized_sigmoid: return q.symmetric ? pow2(-q.bits) : 0;
        case QuantizerKind::quantized_relu_po2: return std::exp2(exponents(q).low);
        case QuantizerKind::binary: return q.use_01 ? 0.0 : -max_value_of(q);
        case QuantizerKind::bernoulli:
        case QuantizerKind::hard_sigmoid:
        case QuantizerKind::smooth_sigmoid:
        case QuantizerKind::binary_sigmoid: return 0;
        default: return -max_value_of(q);
    }
}

std::vector<double> range_of(const Quantizer& q) {
    check(q);
    require(q.bits <= 20, q.name(), ": a range of 2^", q.bits, " values is not listed");
    const std::int64_t count = std::int64_t{1} << q.bits;
    std::vector<double> values;
    switch (q.kind) {
        case QuantizerKind::quantized_bits: {
            require(!q.alpha.is_automatic(), "quantized_bits: a scale found from the values has no fixed range");
            if (unsigned_bits(q) == 0) return {-1, 1};
            const double step = pow2(q.integer - unsigned_bits(q));
            for (std::int64_t code = 0; code < count; ++code) {
                const std::int64_t value = q.keep_negative && code >= count / 2 ? code - count : code;
                if (q.symmetric && value == -count / 2) continue;
                values.push_back(static_cast<double>(value) * step);
            }
            break;
        }
        case QuantizerKind::quantized_linear: {
            require(!q.alpha.is_automatic(), "quantized_linear: a scale found from the values has no fixed range");
            const LinearBounds b = linear_bounds(q);
            for (double code = b.low; code <= b.high; ++code) values.push_back(code * linear_step(q) * q.alpha.value);
            break;
        }
        case QuantizerKind::quantized_relu:
            for (std::int64_t code = 0; code < count; ++code)
                values.push_back(static_cast<double>(code) * pow2(q.integer - q.bits));
            break;
        default: fail(q.name(), ": has no enumerated range");
    }
    return values;
}

std::int64_t bits_of(const Quantizer& q) {
    switch (q.kind) {
        case QuantizerKind::binary:
        case QuantizerKind::stochastic_binary:
        case QuantizerKind::bernoulli:
        case QuantizerKind::binary_sigmoid:
        case QuantizerKind::binary_tanh: return 1;
        case QuantizerKind::ternary:
        case QuantizerKind::stochastic_ternary: return 2;
        default: return q.bits;
    }
}

Quantizer with_layer_defaults(Quantizer q) {
    if (q.alpha.kind != Alpha::Kind::none) return q;
    switch (q.kind) {
        case QuantizerKind::quantized_bits: q.symmetric = true; [[fallthrough]];
        case QuantizerKind::quantized_linear:
        case QuantizerKind::binary:
        case QuantizerKind::ternary:
        case QuantizerKind::stochastic_binary:
        case QuantizerKind::bernoulli:
        case QuantizerKind::stochastic_ternary: q.alpha.kind = Alpha::Kind::automatic_po2; break;
        default: break;
    }
    return q;
}

bool uses_scale(const Quantizer& q, bool training) {
    switch (q.kind) {
        case QuantizerKind::quantized_bits: return q.alpha.is_automatic() || !q.post_training_scale.empty();
        case QuantizerKind::quantized_linear:
        case QuantizerKind::quantized_hswish: return q.alpha.is_automatic();
        case QuantizerKind::binary: return q.alpha.is_automatic() || (q.use_stochastic_rounding && training);
        case QuantizerKind::ternary: return q.alpha.is_automatic();
        case QuantizerKind::stochastic_binary: return training || q.alpha.is_automatic();
        case QuantizerKind::bernoulli: return true;
        case QuantizerKind::stochastic_ternary: return q.alpha.is_automatic();
        default: return false;
    }
}

bool uses_draws(const Quantizer& q, bool training) {
    if (q.kind == QuantizerKind::bernoulli) return true;
    if (!training) return false;
    if (q.kind == QuantizerKind::stochastic_binary) return true;
    if (q.kind == QuantizerKind::stochastic_ternary) return q.alpha.is_automatic();
    if (!q.use_stochastic_rounding) return false;
    switch (q.kind) {
        case QuantizerKind::ternary: return q.alpha.is_automatic();
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_linear:
        case QuantizerKind::quantized_hswish: return !uses_scale(q, training);
        default: return true;
    }
}

bool uses_second_draws(const Quantizer& q, bool training) {
    return uses_draws(q, training) &&
           (q.kind == QuantizerKind::stochastic_ternary || q.kind == QuantizerKind::binary);
}

namespace {

ElementRule levels_rule(const Quantizer& q) {
    ElementRule r;
    const std::int64_t magnitude_bits = unsigned_bits(q);
    if (magnitude_bits == 0) {
        r.kind = ElementKind::sign;
        r.gain = q.alpha.value;
        return r;
    }
    const double m = pow2(magnitude_bits);
    r.step = pow2(q.integer - magnitude_bits);
    r.gain = q.alpha.value * r.step;
    r.low = q.keep_negative ? -m + (q.symmetric ? 1 : 0) : 0;
    r.high = m - 1;
    return r;
}

ElementRule relu_rule(const Quantizer& q, const Settings& settings) {
    ElementRule r;
    const std::int64_t magnitude_bits = q.bits - (q.negative_slope > 0 ? 1 : 0);
    r.kind = q.use_sigmoid ? ElementKind::relu_sigmoid : ElementKind::relu;
    r.gradient = ElementGradient::relu;
    r.form = settings.sigmoid;
    r.count = pow2(magnitude_bits);
    r.range = pow2(q.integer);
    r.slope = q.negative_slope;
    if (settings.release == Release::v0_8)
        r.upper = r.range;
    else if (q.is_quantized_clip)
        r.upper = r.range - pow2(q.integer - magnitude_bits);
    else if (q.relu_upper_bound)
        r.upper = *q.relu_upper_bound, r.cap_output = r.upper != 0;  // the source takes a bound of 0 for none here
    return r;
}

ElementRule power_rule(const Quantizer& q) {
    ElementRule r;
    const Exponents bounds = exponents(q);
    r.kind = q.kind == QuantizerKind::quantized_po2 ? ElementKind::power_of_two : ElementKind::relu_power_of_two;
    if (r.kind == ElementKind::relu_power_of_two) r.gradient = ElementGradient::relu;
    r.low = bounds.low, r.high = bounds.high;
    r.quadratic = q.quadratic_approximation;
    r.slope = q.negative_slope;
    if (q.max_value) r.upper = *q.max_value;
    if (q.log2_rounding == "floor") r.rounding = ElementRounding::floor;
    return r;
}

ElementRule squashing_rule(const Quantizer& q, const Settings& settings) {
    ElementRule r;
    r.gradient = ElementGradient::function;
    r.form = settings.sigmoid;
    switch (q.kind) {
        case QuantizerKind::quantized_sigmoid:
            r.kind = ElementKind::sigmoid;
            r.real = q.use_real_sigmoid;
            r.count = pow2(q.bits);
            r.low = (q.symmetric ? 1 : 0) / r.count;
            break;
        case QuantizerKind::quantized_ulaw:
            r.kind = ElementKind::ulaw;
            r.mu = q.u;
            r.range = pow2(q.integer);
            r.count = pow2(q.bits - 1);
            r.low = -1 + (q.symmetric ? 1 : 0) / r.count;
            break;
        default:
            r.kind = settings.release == Release::v0_8 ? ElementKind::sigmoid_tanh : ElementKind::tanh;
            r.real = q.use_real_tanh;
            r.range = pow2(q.integer);
            r.count = pow2(q.bits - 1);
            r.low = -1 + (q.symmetric ? 1 : 0) / r.count;
    }
    r.high = 1 - 1 / r.count;
    return r;
}

/// Functions without arguments: sig and 2 sig - 1 as they are, or rounded to {0, 1} and {-1, 1}.
ElementRule plain_rule(QuantizerKind kind) {
    ElementRule r;
    r.gradient = ElementGradient::function;
    r.form = kind == QuantizerKind::smooth_sigmoid || kind == QuantizerKind::smooth_tanh ? SigmoidForm::smooth
                                                                                          : SigmoidForm::hard;
    r.high = 1;
    switch (kind) {
        case QuantizerKind::hard_sigmoid:
        case QuantizerKind::smooth_sigmoid: r.kind = ElementKind::sigmoid, r.rounding = ElementRounding::none; break;
        case QuantizerKind::binary_sigmoid: r.kind = ElementKind::sigmoid; break;
        case QuantizerKind::binary_tanh: r.kind = ElementKind::sigmoid_tanh, r.low = -1; break;
        default: r.kind = ElementKind::tanh, r.low = -1, r.rounding = ElementRounding::none;
    }
    return r;
}

/// Precision of stochastic rounding in units of a code.
double rounding_precision(QuantizerKind kind) {
    switch (kind) {
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_linear:
        case QuantizerKind::quantized_hswish: return 1;
        default: return 0.5;
    }
}

}  // namespace

ElementRule element_rule(const Quantizer& q, const Settings& settings, bool training) {
    require(!uses_scale(q, training), q.name(), ": finds its scale from the values");
    ElementRule r;
    switch (q.kind) {
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_hswish: r = levels_rule(q); break;
        case QuantizerKind::quantized_linear: {
            const LinearBounds b = linear_bounds(q);
            r.gradient = ElementGradient::clipped;
            r.step = r.gain = q.alpha.value * linear_step(q);
            r.shift = b.shift, r.low = b.low - b.shift, r.high = b.high - b.shift;
            break;
        }
        case QuantizerKind::binary:
        case QuantizerKind::stochastic_binary:
            r.kind = ElementKind::sign;
            r.gain = q.alpha.value;
            r.zero_one = q.use_01;
            if (q.alpha.kind == Alpha::Kind::none) r.gradient = ElementGradient::tanh;
            break;
        case QuantizerKind::ternary:
        case QuantizerKind::stochastic_ternary:
            r.kind = ElementKind::ternary;
            r.gain = q.alpha.value;
            r.threshold = q.threshold.value_or(0.33);
            if (q.alpha.kind == Alpha::Kind::none) r.gradient = ElementGradient::tanh;
            break;
        case QuantizerKind::quantized_relu: r = relu_rule(q, settings); break;
        case QuantizerKind::quantized_po2:
        case QuantizerKind::quantized_relu_po2: r = power_rule(q); break;
        case QuantizerKind::quantized_tanh:
        case QuantizerKind::quantized_sigmoid:
        case QuantizerKind::quantized_ulaw: r = squashing_rule(q, settings); break;
        default: r = plain_rule(q.kind);
    }
    r.noise = q.qnoise_factor;
    r.through = q.use_ste;
    if (uses_draws(q, training)) {
        r.rounding = ElementRounding::stochastic;
        r.precision = rounding_precision(q.kind);
    }
    return r;
}

ScaleRule scale_rule(const Quantizer& q, const Settings& settings, bool training) {
    require(uses_scale(q, training), q.name(), ": has a fixed scale");
    ScaleRule r;
    r.source = q.alpha.kind == Alpha::Kind::automatic       ? ScaleSource::automatic
               : q.alpha.kind == Alpha::Kind::automatic_po2 ? ScaleSource::power_of_two
                                                            : ScaleSource::given;
    r.fixed = q.alpha.value;
    if (q.min_po2_exponent) r.min_exponent = *q.min_po2_exponent;
    if (q.max_po2_exponent) r.max_exponent = *q.max_po2_exponent;
    r.temperature = q.temperature;
    r.form = q.use_real_sigmoid ? SigmoidForm::real : settings.sigmoid;
    r.iterations = static_cast<int>(q.number_of_unrolls);
    switch (q.kind) {
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_hswish:
            if (unsigned_bits(q) == 0 || q.bits == 1) {
                r.codes = ScaledCodes::sign;
                break;
            }
            r.codes = ScaledCodes::bits;
            r.high = pow2(q.bits - 1) - 1;
            r.unit = pow2(q.integer);
            r.iterations = 5;
            if (!q.post_training_scale.empty())
                r.source = ScaleSource::given;
            else if (settings.release == Release::v0_8)
                r.range_levels = pow2(q.bits) - 1;
            break;
        case QuantizerKind::quantized_linear: {
            const LinearBounds b = linear_bounds(q);
            r.codes = ScaledCodes::linear;
            r.low = b.low, r.high = b.high, r.shift = b.shift;
            r.keep_sign = q.keep_negative;
            r.iterations = q.bits == 1 && q.keep_negative ? 1 : 5;
            break;
        }
        case QuantizerKind::binary:
            r.codes = ScaledCodes::sign;
            r.zero_one = q.use_01;
            r.stochastic = q.use_stochastic_rounding && training;
            break;
        case QuantizerKind::ternary:
            r.codes = ScaledCodes::ternary;
            r.stochastic = q.use_stochastic_rounding && training;
            break;
        case QuantizerKind::stochastic_binary:
            r.codes = training ? ScaledCodes::stochastic_sign : ScaledCodes::sign;
            break;
        case QuantizerKind::bernoulli:
            r.codes = ScaledCodes::stochastic_sign;
            r.zero_one = true;
            break;
        case QuantizerKind::stochastic_ternary:
            r.codes = training ? ScaledCodes::stochastic_ternary : ScaledCodes::ternary;
            break;
        default: fail(q.name(), ": has no scale");
    }
    return r;
}

double reported_scale_factor(const Quantizer& q) {
    switch (q.kind) {
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_hswish: return q.bits == 1 ? 1 : pow2(unsigned_bits(q));
        case QuantizerKind::quantized_linear: return 1 / linear_step(q);
        default: return 1;
    }
}

std::int64_t integer_bits(double min_value, double max_value, std::int64_t bits, bool symmetric, bool keep_negative,
                          bool is_clipping) {
    const std::int64_t magnitude_bits = bits - (keep_negative ? 1 : 0);
    const auto length = [](double v) { return v == 0 ? 0.0 : std::max(0.0, std::log2(std::abs(v))); };
    const auto bits_for = [&](double bound, bool largest_is_one_less) {
        const double l = length(bound);
        if (is_clipping) return std::nearbyint(l);
        const double whole = std::ceil(l), top = std::exp2(whole) - std::exp2(std::min(whole - static_cast<double>(magnitude_bits), 0.0));
        return whole + (largest_is_one_less && std::abs(bound) > top ? 1 : 0);
    };
    double needed = bits_for(max_value, max_value > 0);
    if (keep_negative) needed = std::max(needed, bits_for(min_value, symmetric && min_value < 0));
    return static_cast<std::int64_t>(std::min(static_cast<double>(magnitude_bits), needed));
}

}  // namespace bitloom::quant::qkeras
