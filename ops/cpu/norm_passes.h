#pragma once
// What the passes of batch normalisation share, the plain ones (normalization.cpp) and those with an epilogue of a
// compression scheme (quant/cpu): the batch's moments, and the affine map with the bits that all of them give.

#include <algorithm>
#include <cmath>

#include "ops/cpu/columns.h"

namespace bitloom::ops::cpu {

/// Sums of x - shift and of its square. With a shift near the mean the squares do not cancel.
template <class T>
struct MomentTerm {
    const T* x;
    const float* shift;
    template <class V>
    [[gnu::always_inline]] void add(std::int64_t i, std::int64_t lane, V (&sums)[2]) const {
        const V d = load<V>(x + i) - load<V>(shift + lane);
        sums[0] += d;
        sums[1] += d * d;
    }
};

/// Mean and biased variance of each column of x [rows, channels], rows > 0, in double.
template <class T>
void batch_moments(std::int64_t rows, std::int64_t channels, const T* x, double* mean, double* variance) {
    // The shift is the mean of the first rows: a rest that lies far from it is itself what makes the variance large.
    const std::int64_t sample = std::min<std::int64_t>(rows, std::max<std::int64_t>(4096 / channels, 16));
    Tensor sums = Tensor::empty({2, channels}, DType::f64);
    double *sum = sums.write<double>(), *square = sum + channels;
    PeriodicConstants shift(channels, 4 * simd_lanes, 1);
    column_sums<1>(sample, channels, ColumnTerm<T>{x}, sum);
    shift.set(0, [&](std::int64_t c) { return sum[c] / static_cast<double>(sample); });
    column_sums<2>(rows, channels, MomentTerm<T>{x, shift[0]}, sum);
    const double m = static_cast<double>(rows);
    for (std::int64_t c = 0; c < channels; ++c) {
        const double shifted_mean = sum[c] / m;
        mean[c] = shift[0][c] + shifted_mean;
        variance[c] = std::max(square[c] / m - shifted_mean * shifted_mean, 0.0);
    }
}

/// (x - mean) slope + offset of the element (or register of elements) i, its constants at `lane`.
template <class V, class T>
[[gnu::always_inline]] inline V affine(const T* x, std::int64_t i, const float* mean, const float* slope,
                                       const float* offset, std::int64_t lane) {
    return (load<V>(x + i) - load<V>(mean + lane)) * load<V>(slope + lane) + load<V>(offset + lane);
}

}  // namespace bitloom::ops::cpu
