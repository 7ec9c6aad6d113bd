#pragma once
// Quantizers whose scale comes from the values: per channel, per group of channels, or fixed while the codes are drawn.
// One algorithm for the host's backends, written over cells: a cell is the run of elements that have one scale, a group
// the cells whose least squares are taken together. What happens to single elements: quant/scaled_codes.h.

#include <algorithm>

#include "engine/tensor.h"
#include "quant/scaled_codes.h"

namespace bitloom::quant {

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
        if (scaled::codes_come_first(r_)) each_cell([&](std::int64_t cell) { assign(cell); });
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
    /// codes[i] = f(x[i], draw, second draw)
    template <class F>
    void each_code(std::int64_t cell, F&& f) const {
        const T* x = input(cell);
        const T* draws = c_.draws ? c_.draws + cell * c_.inner : nullptr;
        const T* second = c_.second ? c_.second + cell * c_.inner : nullptr;
        T* k = codes(cell);
        for (std::int64_t i = 0; i < c_.inner; ++i) k[i] = f(x[i], draws ? draws[i] : T(0), second ? second[i] : T(0));
    }

    /// What stochastic rounding in front of a sign scales by.
    T chance_factor(std::int64_t cell) const {
        if (!r_.stochastic) return 1;
        const T* x = input(cell);
        T peak = 0;
        for (std::int64_t i = 0; i < c_.inner; ++i) peak = std::max(peak, std::abs(x[i]));
        return scaled::chance_factor(peak);
    }

    /// The codes that the present scale gives.
    void assign(std::int64_t cell) const {
        const T s = c_.scale[cell];
        switch (r_.codes) {
            case ScaledCodes::bits: return each_code(cell, [&](T x, T, T) { return scaled::bits_code(r_, x, s); });
            case ScaledCodes::linear: return each_code(cell, [&](T x, T, T) { return scaled::linear_code(r_, x, s); });
            case ScaledCodes::ternary:
            case ScaledCodes::stochastic_ternary:
                return each_code(cell, [&](T x, T draw, T) { return scaled::ternary_code(r_, x, s, draw); });
            case ScaledCodes::sign:
            case ScaledCodes::stochastic_sign: break;
        }
        if (!r_.stochastic) return each_code(cell, [&](T x, T, T) { return scaled::sign_code(r_, x); });
        const T factor = chance_factor(cell);
        each_code(cell, [&](T x, T draw, T second) { return scaled::sign_code_by_chance(r_, x, factor, draw, second); });
    }

    void least_squares() {
        const bool by_chance = r_.codes == ScaledCodes::sign && r_.stochastic;
        each_cell([&](std::int64_t cell) {
            const T *q = codes(cell), *x = input(cell);
            const T factor = by_chance ? chance_factor(cell) : T(1);
            double p = 0, s = 0;
            for (std::int64_t i = 0; i < c_.inner; ++i) {
                // For signs that were rounded by chance, the rounded value.
                const T fitted = by_chance ? scaled::rounded_by_chance(x[i], factor, c_.draws[cell * c_.inner + i])
                                           : x[i] / T(r_.unit);
                p += static_cast<double>(fitted) * q[i];
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
            c_.scale[cell] = scaled::fitted_scale<T>(r_, group_product_[g], group_square_[g], size_[g],
                                                     scaled::fits_powers_of_two(r_));
        }
    }

    /// The peak of every cell, or of all.
    void find_peaks() {
        each_cell([&](std::int64_t cell) {
            const T* x = input(cell);
            T high = -std::numeric_limits<T>::infinity(), low = -high, magnitude = 0;
            for (std::int64_t i = 0; i < c_.inner; ++i) {
                high = std::max(high, x[i]);
                low = std::min(low, x[i]);
                magnitude = std::max(magnitude, std::abs(x[i]));
            }
            peak_[cell] = scaled::peak_of(r_, low, high, magnitude);
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
        if (scaled::codes_come_first(r_)) return least_squares();
        find_peaks();
        for (std::int64_t i = 0; i < c_.cells; ++i) c_.scale[i] = scaled::first_scale(r_, T(peak_[i]));
        for (int n = 0; n < scaled::fits(r_); ++n) {
            std::copy_n(c_.scale, c_.cells, previous_);
            each_cell([&](std::int64_t cell) { assign(cell); });
            least_squares();
            // The same scales give the same codes: further steps would change nothing.
            if (std::equal(previous_, previous_ + c_.cells, c_.scale)) break;
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

    void draw(std::int64_t cell) const {
        const T s = c_.scale[cell];
        if (r_.codes == ScaledCodes::stochastic_ternary) {
            const T spread = deviation(cell);
            return each_code(cell, [&](T x, T draw, T second) { return scaled::drawn_ternary(r_, x, s, spread, draw, second); });
        }
        const T spread = r_.source == ScaleSource::given ? T(1) : deviation(cell);
        each_code(cell, [&](T x, T draw, T) { return scaled::drawn_sign(r_, x, spread, draw); });
    }

    /// Last codes, and the output.
    void finish() {
        const bool drawn = scaled::codes_are_drawn(r_), stand = scaled::last_codes_stand(r_);
        each_cell([&](std::int64_t cell) {
            if (drawn)
                draw(cell);
            else if (!stand)
                assign(cell);
            const T s = c_.scale[cell];
            const T* x = input(cell);
            T* y = codes(cell);
            if (c_.gradient)
                for (std::int64_t i = 0; i < c_.inner; ++i)
                    c_.gradient[cell * c_.inner + i] = scaled::linear_gradient(r_, x[i], s);
            for (std::int64_t i = 0; i < c_.inner; ++i) y[i] = scaled::output(r_, y[i], s);
        });
    }

    const ScaleRule& r_;
    const ScaleCall<T>& c_;
    const ForCells& for_cells_;
    Tensor scratch_;
    double *product_, *square_, *group_product_, *group_square_, *size_, *peak_, *previous_;  // [cells]
};

}  // namespace bitloom::quant
