#include <algorithm>

#include "ops/reference/kernels.h"
#include "ops/reference/odometer.h"
#include "ops/strided.h"

namespace bitloom::ops::reference {

namespace {

/// Calls f(i, output, position) for every element i of `shape` in row-major order: `output` is the element of the
/// reduced tensor it falls on, `position` its row-major rank among the elements that fall there.
template <class F>
void for_each_reduced(const Shape& shape, std::uint32_t axes, F&& f) {
    Strides output{}, position{};
    std::int64_t kept = 1, reduced = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
        const bool reduce = (axes >> axis & 1u) != 0;
        std::int64_t& stride = reduce ? reduced : kept;
        (reduce ? position : output)[axis] = stride;
        stride *= shape[axis];
    }
    for_each_index(shape.extents(), output, position, f);
}

}  // namespace

void reduce_sum(std::uint32_t axes, double factor, const Tensor& x, Tensor& y) {
    dispatch_float(x.dtype(), "reduce_sum", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        T* out = y.write<T>();
        std::fill_n(out, y.numel(), T(0));
        for_each_reduced(x.shape(), axes, [&](std::int64_t i, std::int64_t to, std::int64_t) { out[to] += in[i]; });
        for (std::int64_t i = 0; i < y.numel(); ++i) out[i] *= static_cast<T>(factor);
    });
}

void reduce_max(std::uint32_t axes, const Tensor& x, Tensor& y, Tensor* argmax) {
    dispatch_float(x.dtype(), "reduce_max", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        T* out = y.write<T>();
        std::int32_t* where = argmax ? argmax->write<std::int32_t>() : nullptr;
        for_each_reduced(x.shape(), axes, [&](std::int64_t i, std::int64_t to, std::int64_t position) {
            if (position != 0 && !(in[i] > out[to])) return;
            out[to] = in[i];
            if (where) where[to] = static_cast<std::int32_t>(position);
        });
    });
}

void reduce_max_backward(std::uint32_t axes, const Tensor& dy, const Tensor& argmax, Tensor& dx) {
    dispatch_float(dy.dtype(), "reduce_max", [&](auto zero) {
        using T = decltype(zero);
        const T* gradient = dy.read<T>();
        const std::int32_t* where = argmax.read<std::int32_t>();
        T* out = dx.write<T>();
        for_each_reduced(dx.shape(), axes, [&](std::int64_t i, std::int64_t to, std::int64_t position) {
            out[i] = position == where[to] ? gradient[to] : T(0);
        });
    });
}

}  // namespace bitloom::ops::reference
