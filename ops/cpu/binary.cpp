// Broadcasting arithmetic of two operands.

#include "ops/cpu/broadcast.h"
#include "ops/cpu/columns.h"
#include "ops/cpu/kernels.h"
#include "ops/strided.h"

namespace bitloom::ops::cpu {

namespace {

/// One run of n elements; an operand of stride 0 is one value for the whole run.
template <int a_stride, int b_stride, class F>
[[gnu::always_inline]] inline void run(std::int64_t n, const float* a, const float* b, float* y, const F& f) {
    for_lanes(n, [&]<int N>(std::int64_t i) {
        using V = typename Pack<N>::Float;
        const V left = a_stride ? load<V>(a + i) : splat<V>(*a), right = b_stride ? load<V>(b + i) : splat<V>(*b);
        store<V>(y + i, f(left, right));
    });
}

template <class F>
void run(std::int64_t n, std::array<std::int64_t, 3> strides, const float* a, const float* b, float* y, const F& f) {
    if (strides[0] && strides[1]) run<1, 1>(n, a, b, y, f);
    else if (strides[0]) run<1, 0>(n, a, b, y, f);
    else if (strides[1]) run<0, 1>(n, a, b, y, f);
    else run<0, 0>(n, a, b, y, f);
}

/// [rows, n] with the operand `vector` [n] the same in every row: a few short rows at a time.
template <class F>
void run_rows(std::int64_t rows, std::int64_t n, const float* matrix, const float* vector, float* y, const F& f) {
    PeriodicConstants constants(n, 256, 1);
    constants.set(0, [&](std::int64_t c) { return vector[c]; });
    const float* repeated = constants[0];
    constants.for_each_run(rows, [&](std::int64_t first, std::int64_t count) {
        run<1, 1>(count, matrix + first, repeated, y + first, f);
    });
}

template <class F>
void apply(const MergedAxes<3>& axes, const float* a, const float* b, float* y, const F& f) {
    using S = std::array<std::int64_t, 3>;
    const std::int64_t n = axes.inner_size();
    const S strides = axes.inner_strides();
    if (axes.rank <= 1) {
        return parallel_items(n, 1, [&](std::int64_t begin, std::int64_t end) {
            run(end - begin, strides, a + begin * strides[0], b + begin * strides[1], y + begin, f);
        });
    }
    if (axes.rank == 2 && strides == S{1, 1, 1} && axes.strides[0] == S{n, 0, n}) return run_rows(axes.sizes[0], n, a, b, y, f);
    if (axes.rank == 2 && strides == S{1, 1, 1} && axes.strides[0] == S{0, n, n})
        return run_rows(axes.sizes[0], n, b, a, y, [&](auto right, auto left) { return f(left, right); });
    parallel_items(axes.runs(), n, [&](std::int64_t begin, std::int64_t end) {
        axes.for_each_run(begin, end, [&](const S& at) { run(n, strides, a + at[0], b + at[1], y + at[2], f); });
    });
}

}  // namespace

void binary_forward(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
    constexpr std::string_view who = "binary_forward";
    const float *pa = input(a, who), *pb = input(b, who);
    float* py = output(y, who);
    if (y.numel() == 0) return;
    const Strides a_own = row_major_strides(a.shape()), b_own = row_major_strides(b.shape());
    const Strides y_own = row_major_strides(y.shape());
    MergedAxes<3> axes;
    for (int axis = 0; axis < y.rank(); ++axis) {
        const int at_a = axis - y.rank() + a.rank(), at_b = axis - y.rank() + b.rank();
        axes.append(y.dim(axis), {at_a < 0 || a.dim(at_a) == 1 ? 0 : a_own[at_a],
                                  at_b < 0 || b.dim(at_b) == 1 ? 0 : b_own[at_b], y_own[axis]});
    }
    switch (op) {
        case BinaryOp::add: return apply(axes, pa, pb, py, []<class V>(V l, V r) { return l + r; });
        case BinaryOp::subtract: return apply(axes, pa, pb, py, []<class V>(V l, V r) { return l - r; });
        case BinaryOp::multiply: return apply(axes, pa, pb, py, []<class V>(V l, V r) { return l * r; });
        case BinaryOp::divide: return apply(axes, pa, pb, py, []<class V>(V l, V r) { return l / r; });
        case BinaryOp::maximum: return apply(axes, pa, pb, py, []<class V>(V l, V r) { return l < r ? r : l; });
        case BinaryOp::minimum: return apply(axes, pa, pb, py, []<class V>(V l, V r) { return l > r ? r : l; });
        case BinaryOp::count: break;
    }
    fail(who, ": no such function, ", static_cast<int>(op));
}

}  // namespace bitloom::ops::cpu
