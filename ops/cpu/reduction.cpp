// Sums and maxima over axes. Sums run in f32 over short runs and in double between them.

#include "ops/cpu/broadcast.h"
#include "ops/cpu/columns.h"
#include "ops/cpu/kernels.h"

namespace bitloom::ops::cpu {

namespace {

/// x's axes with neighbours of one kind merged: the strides are those in the result (0 along reduced axes) and in the
/// position among the reduced elements (0 along kept ones).
MergedAxes<2> reduction_axes(const Shape& shape, std::uint32_t reduced) {
    std::array<std::array<std::int64_t, 2>, Shape::max_rank> strides{};
    std::array<std::int64_t, 2> stride{1, 1};
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
        const int which = (reduced >> axis & 1u) != 0 ? 1 : 0;
        strides[axis][which] = stride[which];
        stride[which] *= shape[axis];
    }
    MergedAxes<2> axes;
    for (int axis = 0; axis < shape.rank(); ++axis) axes.append(shape[axis], strides[axis]);
    return axes;
}
bool is_kept(const MergedAxes<2>& axes, int axis) { return axes.strides[axis][0] != 0; }

template <class T>
double sum_of(const T* x, std::int64_t n) {
    constexpr std::int64_t block = 4096, width = 4 * simd_lanes;
    using V = typename Pack<simd_lanes>::Float;
    double total = 0;
    for (; n >= width; x += std::min(block, n / width * width), n -= std::min(block, n / width * width)) {
        const std::int64_t count = std::min(block, n / width * width);
        V sums[4] = {};
        for (std::int64_t i = 0; i < count; i += width)
#pragma GCC unroll 4
            for (int k = 0; k < 4; ++k) sums[k] += load<V>(x + i + k * simd_lanes);
        const V sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
        for (int lane = 0; lane < simd_lanes; ++lane) total += sum[lane];
    }
    for (std::int64_t i = 0; i < n; ++i) total += static_cast<float>(x[i]);
    return total;
}

/// The sum over one run, from contiguous parts.
template <class T>
double sum_all(const T* x, std::int64_t n) {
    const int parts = parts_for(n);
    if (parts == 1) return sum_of(x, n);
    Tensor partial = Tensor::zeros({parts}, DType::f64);
    double* p = partial.write<double>();
    parallel_ranges(n, parts,
                    [&](std::int64_t begin, std::int64_t end, int part) { p[part] = sum_of(x + begin, end - begin); });
    double total = 0;
    for (int part = 0; part < parts; ++part) total += p[part];
    return total;
}

/// Calls f(first element of x, offsets in result and position) for every innermost run; where the outermost axis is
/// kept, its entries go to different threads.
template <class F>
void for_each_run(const MergedAxes<2>& axes, F&& f) {
    const std::int64_t n = axes.inner_size(), runs = axes.runs();
    const auto part = [&](std::int64_t begin, std::int64_t end) {
        std::int64_t run = begin;
        axes.for_each_run(begin, end, [&](const std::array<std::int64_t, 2>& at) { f(run++ * n, at); });
    };
    if (axes.rank < 2 || !is_kept(axes, 0)) return part(0, runs);
    const std::int64_t outer = axes.sizes[0], each = runs / outer;
    parallel_items(outer, each * n, [&](std::int64_t begin, std::int64_t end) { part(begin * each, end * each); });
}

template <class T>
void sum_into(const MergedAxes<2>& axes, const T* x, double* sums, std::int64_t outputs) {
    const std::int64_t n = axes.inner_size();
    const bool inner_kept = axes.rank == 0 || is_kept(axes, axes.rank - 1);
    if (axes.rank == 1 && !inner_kept) {
        sums[0] = sum_all(x, n);
    } else if (axes.rank == 2 && inner_kept) {
        column_sums<1>(axes.sizes[0], n, ColumnTerm<T>{x}, sums);
    } else {
        std::fill_n(sums, outputs, 0.0);
        for_each_run(axes, [&](std::int64_t first, const std::array<std::int64_t, 2>& at) {
            if (!inner_kept) {
                sums[at[0]] += sum_of(x + first, n);
                return;
            }
            double* to = sums + at[0];
#pragma omp simd
            for (std::int64_t i = 0; i < n; ++i) to[i] += static_cast<float>(x[first + i]);
        });
    }
}

}  // namespace

void reduce_sum(std::uint32_t reduced, double factor, const Tensor& x, Tensor& y) {
    constexpr std::string_view who = "reduce_sum";
    const std::int64_t outputs = y.numel();
    const float f = static_cast<float>(factor);
    if (x.numel() == 0) return y.fill(0);
    Tensor sums = Tensor::empty({outputs}, DType::f64);
    double* ps = sums.write<double>();
    dispatch_storage(x, [&](auto zero) {
        using T = decltype(zero);
        sum_into(reduction_axes(x.shape(), reduced), input<T>(x, who), ps, outputs);
        T* py = output<T>(y, who);
        for (std::int64_t i = 0; i < outputs; ++i) py[i] = static_cast<T>(static_cast<float>(ps[i]) * f);
    });
}

void reduce_max(std::uint32_t reduced, const Tensor& x, Tensor& y, Tensor* argmax) {
    constexpr std::string_view who = "reduce_max";
    std::int32_t* where = argmax ? argmax->write<std::int32_t>() : nullptr;
    const MergedAxes<2> axes = reduction_axes(x.shape(), reduced);
    const std::int64_t n = axes.inner_size();
    const std::int64_t step = axes.inner_strides()[0];  // 1: each element of a run has its own result; 0: all share one
    dispatch_storage(x, [&](auto zero) {
        using T = decltype(zero);
        const T* px = input<T>(x, who);
        T* py = output<T>(y, who);
        for_each_run(axes, [&](std::int64_t first, const std::array<std::int64_t, 2>& at) {
            for (std::int64_t i = 0; i < n; ++i) {
                const std::int64_t to = at[0] + i * step, position = at[1] + i * (1 - step);
                if (position != 0 && !(static_cast<float>(px[first + i]) > static_cast<float>(py[to]))) continue;
                py[to] = px[first + i];
                if (where) where[to] = static_cast<std::int32_t>(position);
            }
        });
    });
}

void reduce_max_backward(std::uint32_t reduced, const Tensor& dy, const Tensor& argmax, Tensor& dx) {
    constexpr std::string_view who = "reduce_max_backward";
    const std::int32_t* where = argmax.read<std::int32_t>();
    const MergedAxes<2> axes = reduction_axes(dx.shape(), reduced);
    const std::int64_t n = axes.inner_size();
    const std::int64_t step = axes.inner_strides()[0];
    dispatch_storage(dy, [&](auto zero) {
        using T = decltype(zero);
        const T* pdy = input<T>(dy, who);
        T* pdx = output<T>(dx, who);
        for_each_run(axes, [&](std::int64_t first, const std::array<std::int64_t, 2>& at) {
            for (std::int64_t i = 0; i < n; ++i) {
                const std::int64_t to = at[0] + i * step, position = at[1] + i * (1 - step);
                pdx[first + i] = position == where[to] ? pdy[to] : T{};
            }
        });
    });
}

}  // namespace bitloom::ops::cpu
