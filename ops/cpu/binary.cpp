// Broadcasting arithmetic of two operands.

#include "ops/cpu/broadcast.h"
#include "ops/cpu/columns.h"
#include "ops/cpu/kernels.h"
#include "ops/strided.h"

namespace bitloom::ops::cpu {

namespace {

/// Element strides of the operands a, b and y.
using Steps = std::array<std::int64_t, 3>;

/// `rows` runs of n elements; an operand of stride 0 is one value for a whole run.
template <int a_stride, int b_stride, class A, class B, class T, class F>
[[gnu::always_inline]] inline void run(std::int64_t rows, const Steps& row, std::int64_t n, const A* a, const B* b,
                                       T* y, const F& f) {
    for (std::int64_t r = 0; r < rows; ++r, a += row[0], b += row[1], y += row[2]) {
        for_lanes(n, [&]<int N>(std::int64_t i) {
            using V = typename Pack<N>::Float;
            const V left = a_stride ? load<V>(a + i) : splat<V>(static_cast<float>(*a)),
                    right = b_stride ? load<V>(b + i) : splat<V>(static_cast<float>(*b));
            store<V>(y + i, f(left, right));
        });
    }
}

template <class T, class F>
void run(std::int64_t rows, const Steps& row, std::int64_t n, const Steps& step, const T* a, const T* b, T* y,
         const F& f) {
    if (step[0] && step[1])
        run<1, 1>(rows, row, n, a, b, y, f);
    else if (step[0])
        run<1, 0>(rows, row, n, a, b, y, f);
    else if (step[1])
        run<0, 1>(rows, row, n, a, b, y, f);
    else
        run<0, 0>(rows, row, n, a, b, y, f);
}

/// [rows, n] with the operand `vector` [n] the same in every row: a few short rows at a time.
template <class T, class F>
void run_rows(std::int64_t rows, std::int64_t n, const T* matrix, const T* vector, T* y, const F& f) {
    PeriodicConstants constants(n, 256, 1);
    constants.set(0, [&](std::int64_t c) { return static_cast<float>(vector[c]); });
    const float* repeated = constants[0];
    constants.for_each_run(rows, [&](std::int64_t first, std::int64_t count) {
        run<1, 1>(1, {}, count, matrix + first, repeated, y + first, f);
    });
}

template <class T, class F>
void apply(const MergedAxes<3>& axes, const T* a, const T* b, T* y, const F& f) {
    const std::int64_t n = axes.inner_size();
    const Steps step = axes.inner_strides();
    if (axes.rank <= 1) {
        return parallel_items(n, 1, [&](std::int64_t begin, std::int64_t end) {
            run(1, {}, end - begin, step, a + begin * step[0], b + begin * step[1], y + begin, f);
        });
    }
    const std::int64_t rows = axes.sizes[axes.rank - 2];
    const Steps& row = axes.strides[axes.rank - 2];
    if (axes.rank == 2) {
        if (step == Steps{1, 1, 1} && row == Steps{n, 0, n}) return run_rows(rows, n, a, b, y, f);
        if (step == Steps{1, 1, 1} && row == Steps{0, n, n})
            return run_rows(rows, n, b, a, y, [&](auto right, auto left) { return f(left, right); });
        return parallel_items(rows, n, [&](std::int64_t begin, std::int64_t end) {
            run(end - begin, row, n, step, a + begin * row[0], b + begin * row[1], y + begin * row[2], f);
        });
    }
    parallel_items(axes.runs(2), rows * n, [&](std::int64_t begin, std::int64_t end) {
        axes.for_each_run(
            begin, end, [&](const Steps& at) { run(rows, row, n, step, a + at[0], b + at[1], y + at[2], f); }, 2);
    });
}

}  // namespace

void binary_forward(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
    constexpr std::string_view who = "binary_forward";
    if (y.numel() == 0) return;
    const Strides a_own = row_major_strides(a.shape()), b_own = row_major_strides(b.shape());
    const Strides y_own = row_major_strides(y.shape());
    MergedAxes<3> axes;
    for (int axis = 0; axis < y.rank(); ++axis) {
        const int at_a = axis - y.rank() + a.rank(), at_b = axis - y.rank() + b.rank();
        axes.append(y.dim(axis), {at_a < 0 || a.dim(at_a) == 1 ? 0 : a_own[at_a],
                                  at_b < 0 || b.dim(at_b) == 1 ? 0 : b_own[at_b], y_own[axis]});
    }
    const auto with = [&](const auto& f) {
        dispatch_storage(y, [&](auto zero) {
            using T = decltype(zero);
            apply(axes, input<T>(a, who), input<T>(b, who), output<T>(y, who), f);
        });
    };
    switch (op) {
        case BinaryOp::add:
            return with([]<class V>(V l, V r) { return l + r; });
        case BinaryOp::subtract:
            return with([]<class V>(V l, V r) { return l - r; });
        case BinaryOp::multiply:
            return with([]<class V>(V l, V r) { return l * r; });
        case BinaryOp::divide:
            return with([]<class V>(V l, V r) { return l / r; });
        case BinaryOp::maximum:
            return with([]<class V>(V l, V r) { return l < r ? r : l; });
        case BinaryOp::minimum:
            return with([]<class V>(V l, V r) { return l > r ? r : l; });
        case BinaryOp::count:
            break;
    }
    fail(who, ": no such function, ", static_cast<int>(op));
}

}  // namespace bitloom::ops::cpu
