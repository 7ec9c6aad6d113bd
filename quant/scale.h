#pragma once
// Quantizers whose scale comes from the values: per channel, per group of channels, or fixed while the codes are drawn.
// One algorithm for the host's backends, written over cells: a cell is the run of elements that have one scale, a group
// the cells whose least squares are taken together. Formulas: svhn-qkeras.md, section 5.3.

#include <algorithm>

#include "engine/tensor.h"
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

/// `for_cells(cells, width, f)` calls f(begin, end) on parts of [0, cells), in any order.
template <class T, class ForCells>
class ScaleSolver {
   public:
    ScaleSolver(const ScaleRule& rule, const ScaleCall<T>& call, const ForCells& for_cells)
        : r_(rule), c_(call), for_cells_(for_cells), scratch_(Tensor::empty({7, call.cells}, DType::f64)) {
        double* row = scratch_.write<double>();
        for (double** p : {&product_, &square_, &group_product_, &group_square_, &size_, &peak_, &previous_}) {
            *p = row;
            row += c_.cells;
        }
        std::fill_n(size_, c_.cells, 0.0);
        for (std::int64_t i = 0; i < c_.cells; ++i) size_[group(i)] += static_cast<double>(c_.inner);
    }

    void run() {
        prepare();
        if (r_.source == ScaleSource::given)
            for (std::int64_t i = 0; i < c_.cells; ++i) c_.scale[i] = c_.given ? c_.given[i] : T(r_.fixed);
        else
            find_scale();
        finish();
    }

   private:
    std::int64_t group(std::int64_t cell) const { return c_.groups ? c_.groups[cell] : cell; }
    T* codes(std::int64_t cell) const { return c_.y + cell * c_.inner; }
    const T* input(std::int64_t cell) const { return c_.x + cell * c_.inner; }

    template <class F>
    void each_cell(F&& f) const {
        for_cells_(c_.cells, c_.inner, [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t cell = begin; cell < end; ++cell) f(cell);
        });
    }

    /// Codes that do not depend on a scale.
    void prepare() {
        if (r_.codes != ScaledCodes::sign && r_.codes != ScaledCodes::stochastic_sign) return;
        each_cell([&](std::int64_t cell) {
            const T* x = input(cell);
            T* k = codes(cell);
            T factor = 1;
            if (r_.stochastic) {
                T peak = 0;
                for (std::int64_t i = 0; i < c_.inner; ++i) peak = std::max(peak, std::abs(x[i]));
                factor = 2 * std::min(T(1), peak);
            }
            for (std::int64_t i = 0; i < c_.inner; ++i) {
                T v = x[i];
                if (r_.stochastic) {
                    const std::int64_t at = cell * c_.inner + i;
                    v = factor > 0 ? factor * element::stochastic_round(v / factor, T(0.125), c_.draws[at]) : T(0);
                    if (v == 0) v = c_.second[at] < T(0.5) ? T(-1) : T(1);
                }
                const T sign = element::sign_plus(v);
                k[i] = r_.zero_one ? (sign + 1) / 2 : sign;
            }
        });
    }

    /// Value that enters least squares beside a code: for signs that were rounded by chance, the rounded value.
    T fitted(std::int64_t cell, std::int64_t i, T factor) const {
        const T x = input(cell)[i];
        if (r_.codes == ScaledCodes::sign && r_.stochastic)
            return factor > 0 ? factor * element::stochastic_round(x / factor, T(0.125), c_.draws[cell * c_.inner + i]) : T(0);
        return x / T(r_.unit);
    }

    /// s = mean(x q) / (mean(q^2) + epsilon) over each group, rounded and bounded where asked.
    void least_squares(bool to_power_of_two) {
        each_cell([&](std::int64_t cell) {
            const T* q = codes(cell);
            T factor = 1;
            if (r_.codes == ScaledCodes::sign && r_.stochastic) {
                T peak = 0;
                for (std::int64_t i = 0; i < c_.inner; ++i) peak = std::max(peak, std::abs(input(cell)[i]));
                factor = 2 * std::min(T(1), peak);
            }
            double p = 0, s = 0;
            for (std::int64_t i = 0; i < c_.inner; ++i) {
                p += static_cast<double>(fitted(cell, i, factor)) * q[i];
                s += static_cast<double>(q[i]) * q[i];
            }
            product_[cell] = p;
            square_[cell] = s;
        });
        std::fill_n(group_product_, c_.cells, 0.0);
        std::fill_n(group_square_, c_.cells, 0.0);
        for (std::int64_t cell = 0; cell < c_.cells; ++cell) {
            group_product_[group(cell)] += product_[cell];
            group_square_[group(cell)] += square_[cell];
        }
        for (std::int64_t cell = 0; cell < c_.cells; ++cell) {
            const std::int64_t g = group(cell);
            const T s = T((group_product_[g] / size_[g]) / (group_square_[g] / size_[g] + keras_epsilon));
            c_.scale[cell] = to_power_of_two ? bounded(element::nearest_power_of_two(s)) : s;
        }
    }

    T bounded(T s) const {
        if (r_.min_exponent > -1e8) s = std::max(s, T(std::exp2(r_.min_exponent)));
        if (r_.max_exponent < 1e8) s = std::min(s, T(std::exp2(r_.max_exponent)));
        return s;
    }

    /// Largest magnitude (or value, or spread) of every cell, or of all.
    void find_peaks() {
        each_cell([&](std::int64_t cell) {
            const T* x = input(cell);
            T high = -std::numeric_limits<T>::infinity(), low = -high, magnitude = 0;
            for (std::int64_t i = 0; i < c_.inner; ++i) {
                high = std::max(high, x[i]);
                low = std::min(low, x[i]);
                magnitude = std::max(magnitude, std::abs(x[i]));
            }
            peak_[cell] = r_.range_levels > 0 ? high - low : r_.keep_sign ? magnitude : std::max(high, T(0));
        });
        if (r_.peak_over_all && c_.cells > 0) {
            double all = *std::max_element(peak_, peak_ + c_.cells);
            if (r_.range_levels > 0) {
                const auto [low, high] = std::minmax_element(c_.x, c_.x + c_.cells * c_.inner);
                all = *high - *low;
            }
            std::fill_n(peak_, c_.cells, all);
        }
    }

    void find_scale() {
        const bool rounded = r_.source == ScaleSource::power_of_two;
        switch (r_.codes) {
            case ScaledCodes::sign:
            case ScaledCodes::stochastic_sign: return least_squares(rounded);
            case ScaledCodes::ternary:
            case ScaledCodes::stochastic_ternary: {
                find_peaks();
                for (std::int64_t i = 0; i < c_.cells; ++i) {
                    const T s = 2 * T(peak_[i]) / 3;
                    c_.scale[i] = rounded ? element::nearest_power_of_two(s) : s;
                }
                for (int n = 0; n < r_.iterations; ++n) {
                    each_cell([&](std::int64_t cell) { assign_ternary(cell); });
                    least_squares(rounded);
                }
                return;
            }
            case ScaledCodes::linear: {
                find_peaks();
                const T span = T(r_.high - r_.low), times = r_.keep_sign ? T(2) : T(1);
                for (std::int64_t i = 0; i < c_.cells; ++i) {
                    const T s = std::max(times * T(peak_[i]) / span, T(keras_epsilon));
                    c_.scale[i] = rounded ? element::nearest_power_of_two(s) : s;
                }
                for (int n = 0; rounded && n < r_.iterations; ++n) {
                    std::copy_n(c_.scale, c_.cells, previous_);
                    each_cell([&](std::int64_t cell) { assign_linear(cell); });
                    least_squares(true);
                    if (std::equal(previous_, previous_ + c_.cells, c_.scale)) break;
                }
                return;
            }
            case ScaledCodes::bits: break;
        }
        find_peaks();
        for (std::int64_t i = 0; i < c_.cells; ++i) {
            const T p = T(peak_[i]) / T(r_.unit);
            const T s = r_.range_levels > 0 ? p / T(r_.range_levels) : 2 * p / (2 * T(r_.high));
            c_.scale[i] = rounded && r_.range_levels == 0 ? element::nearest_power_of_two(s) : s;
        }
        for (int n = 0; (rounded || r_.range_levels > 0) && n < r_.iterations; ++n) {
            each_cell([&](std::int64_t cell) { assign_bits(cell); });
            least_squares(true);
        }
    }

    void assign_bits(std::int64_t cell) {
        const T s = c_.scale[cell], h = T(r_.high), unit = T(r_.unit);
        const T* x = input(cell);
        T* q = codes(cell);
        for (std::int64_t i = 0; i < c_.inner; ++i) {
            const T v = x[i] / unit;
            const T magnitude = s > 0 ? std::min(std::floor(std::abs(v) / s + T(0.5)), h) : T(0);
            q[i] = v < 0 ? -magnitude : v > 0 ? magnitude : T(0);
        }
    }
    void assign_linear(std::int64_t cell) {
        const T s = c_.scale[cell], low = T(r_.low), high = T(r_.high), shift = T(r_.shift);
        const T* x = input(cell);
        T* q = codes(cell);
        for (std::int64_t i = 0; i < c_.inner; ++i)
            q[i] = std::nearbyint(element::clip<T>(x[i] / s, low, high) - shift) + shift;
    }
    void assign_ternary(std::int64_t cell) {
        const T s = c_.scale[cell];
        const T* x = input(cell);
        T* q = codes(cell);
        for (std::int64_t i = 0; i < c_.inner; ++i) {
            T v = x[i];
            if (r_.codes == ScaledCodes::ternary && s > 0) {
                const T ratio = x[i] / s;
                v = s * (r_.stochastic ? element::stochastic_round(ratio, T(1) / T(3), c_.draws[cell * c_.inner + i])
                                       : std::nearbyint(ratio));
            }
            // A scale of 0 stays: the source's x / 0 compares as false.
            const bool on = (s > 0 || r_.codes != ScaledCodes::ternary) && std::abs(v) >= s / 2;
            q[i] = on && x[i] > 0 ? T(1) : on && x[i] < 0 ? T(-1) : T(0);
        }
    }

    /// Population standard deviation of a cell, plus epsilon.
    T deviation(std::int64_t cell) const {
        const T* x = input(cell);
        double sum = 0, square = 0;
        for (std::int64_t i = 0; i < c_.inner; ++i) sum += x[i];
        const double mean = sum / static_cast<double>(c_.inner);
        for (std::int64_t i = 0; i < c_.inner; ++i) square += (x[i] - mean) * (x[i] - mean);
        return T(std::sqrt(square / static_cast<double>(c_.inner))) + T(keras_epsilon);
    }

    void draw_sign(std::int64_t cell) {
        const T spread = r_.source == ScaleSource::given ? T(1) : deviation(cell);
        for (std::int64_t i = 0; i < c_.inner; ++i) {
            const T p = element::sig(r_.form, T(r_.temperature) * input(cell)[i] / spread);
            const T sign = element::sign_plus(p - c_.draws[cell * c_.inner + i]);
            codes(cell)[i] = r_.zero_one ? (sign + 1) / 2 : sign;
        }
    }
    void draw_ternary(std::int64_t cell) {
        const T spread = deviation(cell), t = c_.scale[cell] / (2 * spread), hot = T(r_.temperature);
        for (std::int64_t i = 0; i < c_.inner; ++i) {
            const std::int64_t at = cell * c_.inner + i;
            const T x = c_.x[at] / spread;
            const T above = element::sign_plus(element::sig(r_.form, hot * (x - t)) - c_.draws[at]);
            const T below = element::sign_plus(element::sig(r_.form, hot * (x + t)) - c_.second[at]);
            c_.y[at] = (above + below) / 2;
        }
    }

    /// Last codes, and the output.
    void finish() {
        const bool codes_stand = r_.range_levels > 0 && r_.source != ScaleSource::given;
        each_cell([&](std::int64_t cell) {
            switch (r_.codes) {
                case ScaledCodes::bits:
                    if (!codes_stand) assign_bits(cell);
                    break;
                case ScaledCodes::linear: assign_linear(cell); break;
                case ScaledCodes::sign:
                case ScaledCodes::ternary: break;
                case ScaledCodes::stochastic_sign: draw_sign(cell); break;
                case ScaledCodes::stochastic_ternary: draw_ternary(cell); break;
            }
            const T s = c_.scale[cell];
            T* y = codes(cell);
            if (c_.gradient)
                for (std::int64_t i = 0; i < c_.inner; ++i) {
                    const T v = input(cell)[i] / s;
                    c_.gradient[cell * c_.inner + i] = v >= T(r_.low) && v <= T(r_.high) ? T(1) : T(0);
                }
            for (std::int64_t i = 0; i < c_.inner; ++i) y[i] = s * T(r_.unit) * y[i];
        });
    }

    const ScaleRule& r_;
    const ScaleCall<T>& c_;
    const ForCells& for_cells_;
    Tensor scratch_;
    double *product_, *square_, *group_product_, *group_square_, *size_, *peak_, *previous_;  // [cells]
};

}  // namespace bitloom::quant
