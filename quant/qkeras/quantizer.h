#pragma once
// The quantizers of QKeras as plain data: their arguments by the source's names, limits, and the rules (quant/element.h,
// quant/scale.h) that they are settings of. Formulas: svhn-qkeras.md, section 5.3.

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "quant/element.h"
#include "quant/scaled_codes.h"

namespace bitloom::quant::qkeras {

enum class QuantizerKind {
    quantized_bits,
    quantized_linear,
    binary,
    ternary,
    stochastic_binary,
    bernoulli,
    stochastic_ternary,
    quantized_relu,
    quantized_tanh,
    quantized_sigmoid,
    quantized_ulaw,
    quantized_po2,
    quantized_relu_po2,
    quantized_hswish,
    // Functions without arguments that activations may name.
    hard_sigmoid,
    smooth_sigmoid,
    binary_sigmoid,
    hard_tanh,
    smooth_tanh,
    binary_tanh,
    count
};
inline constexpr std::array<std::string_view, static_cast<int>(QuantizerKind::count)> quantizer_names = {
    "quantized_bits",     "quantized_linear", "binary",         "ternary",           "stochastic_binary",
    "bernoulli",          "stochastic_ternary", "quantized_relu", "quantized_tanh",  "quantized_sigmoid",
    "quantized_ulaw",     "quantized_po2",    "quantized_relu_po2", "quantized_hswish", "hard_sigmoid",
    "smooth_sigmoid",     "binary_sigmoid",   "hard_tanh",      "smooth_tanh",       "binary_tanh"};

/// Which release's numbers: they differ in automatic scales, quantized_relu's bound and quantized_tanh.
enum class Release { current, v0_8 };

/// The source's global switches.
struct Settings {
    SigmoidForm sigmoid = SigmoidForm::hard;  ///< sig of quantized_tanh, _sigmoid, _ulaw and quantized_relu(use_sigmoid)
    Release release = Release::current;
};

struct Alpha {
    enum class Kind { none, number, automatic, automatic_po2 };
    Kind kind = Kind::none;
    double value = 1;
    bool is_automatic() const { return kind == Kind::automatic || kind == Kind::automatic_po2; }
    bool operator==(const Alpha&) const = default;
};

/// A quantizer with all arguments that any of them has; make_quantizer fills in the defaults of its kind.
struct Quantizer {
    QuantizerKind kind = QuantizerKind::quantized_bits;
    std::int64_t bits = 8, integer = 0;
    bool symmetric = false, keep_negative = true;
    Alpha alpha{};
    bool use_stochastic_rounding = false;
    std::vector<std::int64_t> scale_axis{};          ///< in the source's layout (HWIO, [in, out]); none: the last
    std::vector<std::int64_t> elements_per_scale{};  ///< one for all scale axes, or one each
    std::optional<double> min_po2_exponent{}, max_po2_exponent{};
    std::vector<double> post_training_scale{};  ///< one, or one a channel
    double qnoise_factor = 1;
    bool use_ste = true;
    bool use_01 = false;
    std::optional<double> threshold{};
    std::int64_t number_of_unrolls = 5;
    double temperature = 6;
    bool use_real_sigmoid = true;
    bool use_sigmoid = false;
    double negative_slope = 0;
    std::optional<double> relu_upper_bound{};
    bool is_quantized_clip = true;
    double u = 255;
    bool use_real_tanh = false;
    std::optional<double> max_value{};
    bool quadratic_approximation = false;
    std::string log2_rounding = "rnd";  ///< or "floor"
    double relu_shift = 3;
    bool operator==(const Quantizer&) const = default;

    std::string_view name() const { return quantizer_names[static_cast<std::size_t>(kind)]; }
};

/// With its kind's defaults.
Quantizer make_quantizer(QuantizerKind kind);

/// Throws UsageError in one line that names the quantizer and the argument where one is out of bounds (bits 0).
void check(const Quantizer& q);

/// Largest and smallest value that the source's class reports. Layers clip latent weights to max(1, this).
double max_value_of(const Quantizer& q);
double min_value_of(const Quantizer& q);
/// Every value, as the source enumerates them: quantized_bits in the order of two's complement codes, from 0;
/// quantized_linear ascending; quantized_relu ascending. Throws Error for others, and for more than 2^20 values.
std::vector<double> range_of(const Quantizer& q);

/// The width that cost models count: bits; 1 for binary and bernoulli families, 2 for ternary ones.
std::int64_t bits_of(const Quantizer& q);

/// What weights of a layer get where alpha was left open: alpha 'auto_po2', and symmetric codes for quantized_bits
/// (section 5.2). Other quantizers are left alone.
Quantizer with_layer_defaults(Quantizer q);

/// True where the scale is found from the values, or codes are drawn from statistics of the values.
bool uses_scale(const Quantizer& q, bool training);
/// True where the pass draws random numbers; with `second`, where it needs two an element.
bool uses_draws(const Quantizer& q, bool training);
bool uses_second_draws(const Quantizer& q, bool training);

/// The rule of a quantizer whose scale is fixed. Needs !uses_scale. quantized_hswish: of the quantizer behind the function.
ElementRule element_rule(const Quantizer& q, const Settings& settings, bool training);
/// The rule of one that finds its scale, but for ScaleRule::peak_over_all. Needs uses_scale.
ScaleRule scale_rule(const Quantizer& q, const Settings& settings, bool training);
/// The source reports the scale found times this: quantized_bits counts it in units of one, not of codes.
double reported_scale_factor(const Quantizer& q);

/// Bits to the left of the binary point that values between the two need (QKeras' estimator for adaptive activations).
std::int64_t integer_bits(double min_value, double max_value, std::int64_t bits, bool symmetric, bool keep_negative,
                          bool is_clipping);

}  // namespace bitloom::quant::qkeras
