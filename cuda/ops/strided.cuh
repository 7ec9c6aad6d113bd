#pragma once
// Row-major walks over an index space with two strided offsets: broadcasting, reductions and strided copies are made of
// them. The host merges axes where it can (Walk); the device turns a running number into offsets (Odometer).

#include <array>
#include <cstdint>
#include <limits>

#include "cuda/common.h"
#include "engine/shape.h"
#include "ops/strided.h"

namespace bitloom::cuda {

struct WalkAxis {
    std::int64_t size, first_stride, second_stride;
};

/// Axes from the outermost to the innermost. Axes of extent 1 are dropped, neighbours merged where both strides allow.
struct Walk {
    std::array<WalkAxis, Shape::max_rank> axes{};
    int rank = 0;

    void append(std::int64_t size, std::int64_t first_stride, std::int64_t second_stride) {
        if (size == 1) return;
        if (rank > 0) {
            WalkAxis& last = axes[static_cast<std::size_t>(rank - 1)];
            if (last.first_stride == size * first_stride && last.second_stride == size * second_stride) {
                last = {last.size * size, first_stride, second_stride};
                return;
            }
        }
        axes[static_cast<std::size_t>(rank++)] = {size, first_stride, second_stride};
    }
    void append(const Shape& sizes, const ops::Strides& first, const ops::Strides& second) {
        for (int axis = 0; axis < sizes.rank(); ++axis)
            append(sizes[axis], first[static_cast<std::size_t>(axis)], second[static_cast<std::size_t>(axis)]);
    }
    std::int64_t count() const {
        std::int64_t n = 1;
        for (int axis = 0; axis < rank; ++axis) n *= axes[static_cast<std::size_t>(axis)].size;
        return n;
    }
    /// The largest offset, count included: what an index type must hold.
    std::int64_t reach() const {
        std::int64_t first = 0, second = 0;
        for (int axis = 0; axis < rank; ++axis) {
            const WalkAxis& a = axes[static_cast<std::size_t>(axis)];
            first += (a.size - 1) * a.first_stride;
            second += (a.size - 1) * a.second_stride;
        }
        return std::max({first, second, count()});
    }
};

/// A Walk on the device.
template <class Index>
struct Odometer {
    using Offset = Index;
    std::int64_t count = 1;
    int rank = 0;
    Index sizes[Shape::max_rank] = {}, first[Shape::max_rank] = {}, second[Shape::max_rank] = {};

    explicit Odometer(const Walk& walk) : count(walk.count()), rank(walk.rank) {
        for (int axis = 0; axis < rank; ++axis) {
            const WalkAxis& a = walk.axes[static_cast<std::size_t>(axis)];
            sizes[axis] = static_cast<Index>(a.size);
            first[axis] = static_cast<Index>(a.first_stride);
            second[axis] = static_cast<Index>(a.second_stride);
        }
    }
    /// The two offsets of index number i.
    __device__ void offsets(Index i, Index& at_first, Index& at_second) const {
        at_first = 0;
        at_second = 0;
        for (int axis = rank - 1; axis > 0; --axis) {
            const Index quotient = i / sizes[axis], k = i - quotient * sizes[axis];
            at_first += k * first[axis];
            at_second += k * second[axis];
            i = quotient;
        }
        if (rank > 0) {
            at_first += i * first[0];
            at_second += i * second[0];
        }
    }
};

/// Calls f with the walk's odometer, in 32-bit arithmetic where that suffices: 64-bit divisions are slow.
template <class F>
void dispatch_odometer(const Walk& walk, F&& f) {
    if (walk.reach() <= std::numeric_limits<std::int32_t>::max())
        f(Odometer<std::uint32_t>(walk));
    else
        f(Odometer<std::uint64_t>(walk));
}

/// Strides of `from` as seen from `to`'s axes: 0 where it is broadcast.
inline ops::Strides broadcast_strides(const Shape& from, const Shape& to) {
    const ops::Strides own = ops::row_major_strides(from);
    const int shift = to.rank() - from.rank();
    ops::Strides strides{};
    for (int axis = shift; axis < to.rank(); ++axis)
        strides[static_cast<std::size_t>(axis)] = from[axis - shift] == 1 ? 0 : own[static_cast<std::size_t>(axis - shift)];
    return strides;
}

}  // namespace bitloom::cuda
