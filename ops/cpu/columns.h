#pragma once
// Passes over [rows, channels] with one set of constants or sums a channel. Rows of few channels are taken several at a
// time, as one period that fills whole vector registers.

#include <numeric>

#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu {

/// A run of `rows` rows whose `length` elements are a multiple of the register and at least `at_least`.
struct Period {
    std::int64_t rows, length;
};
inline Period period_of(std::int64_t channels, std::int64_t at_least) {
    std::int64_t rows = simd_lanes / std::gcd<std::int64_t>(channels, simd_lanes);
    while (rows * channels < at_least) rows *= 2;
    return {rows, rows * channels};
}

/// Constants of the channels, repeated over a period; `columns` such arrays one behind another.
class PeriodicConstants {
   public:
    PeriodicConstants(std::int64_t channels, std::int64_t at_least, int columns)
        : channels_(channels),
          period_(period_of(channels, at_least)),
          storage_(Tensor::empty({columns, period_.length})) {
        memory_ = storage_.write<float>();
    }
    /// Sets array `column` to value(channel).
    template <class F>
    void set(int column, F&& value) {
        float* p = memory_ + column * period_.length;
        for (std::int64_t c = 0; c < channels_; ++c) p[c] = static_cast<float>(value(c));
        for (std::int64_t i = channels_; i < period_.length; ++i) p[i] = p[i - channels_];
    }
    const float* operator[](int column) const { return memory_ + column * period_.length; }
    /// Calls f(first element, count) for runs of at most one period that start at its beginning, over all rows.
    template <class F>
    void for_each_run(std::int64_t rows, F&& f) const {
        parallel_items(rows, channels_, [&](std::int64_t begin, std::int64_t end) {
            const std::int64_t stop = end * channels_;
            for (std::int64_t i = begin * channels_; i < stop; i += period_.length)
                f(i, std::min(period_.length, stop - i));
        });
    }

   private:
    std::int64_t channels_;
    Period period_;
    Tensor storage_;
    float* memory_;
};

namespace detail {

/// Sums of `Group` neighbouring registers of a period over `periods` of them; register g, sum s lands in
/// out[s * length + column + g * lanes].
template <int Sums, int Group, class Term>
[[gnu::always_inline]] inline void sum_registers(const Term& term, std::int64_t first, std::int64_t periods,
                                                 std::int64_t length, std::int64_t column, float* out) {
    using Float = typename Pack<simd_lanes>::Float;
    Float sums[Group][Sums] = {};
    for (std::int64_t p = 0; p < periods; ++p) {
        const std::int64_t i = first + p * length + column;
#pragma GCC unroll 4
        for (int g = 0; g < Group; ++g) term.template add<Float>(i + g * simd_lanes, column + g * simd_lanes, sums[g]);
    }
    for (int g = 0; g < Group; ++g)
        for (int s = 0; s < Sums; ++s) store<Float>(out + s * length + column + g * simd_lanes, sums[g][s]);
}

/// Adds the terms of rows [begin, end) to totals [Sums][channels]. Sums run in f32 over blocks that stay in the
/// first-level cache, in double from block to block.
template <int Sums, class Term>
void add_rows(const Term& term, std::int64_t channels, std::int64_t begin, std::int64_t end, float* lanes,
              double* totals) {
    constexpr std::int64_t block_elements = 8192;
    const Period period = period_of(channels, 4 * simd_lanes);
    const std::int64_t block = std::max<std::int64_t>(block_elements / period.length, 1);
    std::int64_t row = begin;
    while (end - row >= period.rows) {
        const std::int64_t periods = std::min(block, (end - row) / period.rows), first = row * channels;
        std::int64_t column = 0;
        for (; column + 4 * simd_lanes <= period.length; column += 4 * simd_lanes)
            sum_registers<Sums, 4>(term, first, periods, period.length, column, lanes);
        for (; column < period.length; column += simd_lanes)
            sum_registers<Sums, 1>(term, first, periods, period.length, column, lanes);
        for (int s = 0; s < Sums; ++s)
            for (std::int64_t r = 0; r < period.rows; ++r)
                for (std::int64_t c = 0; c < channels; ++c)
                    totals[s * channels + c] += lanes[s * period.length + r * channels + c];
        row += periods * period.rows;
    }
    for (; row < end; ++row) {
        for (std::int64_t c = 0; c < channels; ++c) {
            float sums[Sums] = {};
            term.template add<float>(row * channels + c, c, sums);
            for (int s = 0; s < Sums; ++s) totals[s * channels + c] += sums[s];
        }
    }
}

}  // namespace detail

/// totals[s][c] = the sum over all rows of what term adds: `term.add<V>(element, lane, sums)` adds one register's (or
/// one element's) terms to sums[0..Sums); `lane` indexes constants repeated over a period of at least 4 registers.
/// Parts are contiguous rows; their totals are added in order.
template <int Sums, class Term>
void column_sums(std::int64_t rows, std::int64_t channels, const Term& term, double* totals) {
    const int parts = parts_for(rows * channels);
    const std::int64_t length = period_of(channels, 4 * simd_lanes).length;
    Tensor lanes = Tensor::empty({parts, Sums * length});
    Tensor partial = Tensor::zeros({parts, Sums * channels}, DType::f64);
    float* lane_memory = lanes.write<float>();
    double* partial_memory = partial.write<double>();
    parallel_ranges(rows, parts, [&](std::int64_t begin, std::int64_t end, int part) {
        detail::add_rows<Sums>(term, channels, begin, end, lane_memory + part * Sums * length,
                               partial_memory + part * Sums * channels);
    });
    std::fill_n(totals, Sums * channels, 0.0);
    for (int part = 0; part < parts; ++part)
        for (std::int64_t i = 0; i < Sums * channels; ++i) totals[i] += partial_memory[part * Sums * channels + i];
}

/// The sum of each column of x [rows, channels].
template <class T>
struct ColumnTerm {
    const T* x;
    template <class V>
    [[gnu::always_inline]] void add(std::int64_t i, std::int64_t, V (&sums)[1]) const {
        sums[0] += load<V>(x + i);
    }
};

}  // namespace bitloom::ops::cpu
