#pragma once
// Row-major strides, for the operations that move elements with `strided_copy`.

#include <array>
#include <string_view>

#include "ops/kernels.h"

namespace bitloom::ops {

using Strides = std::array<std::int64_t, Shape::max_rank>;

/// Elements from one index of an axis to the next in a contiguous tensor.
inline Strides row_major_strides(const Shape& shape) {
    Strides strides{};
    std::int64_t stride = 1;
    for (int axis = shape.rank() - 1; axis >= 0; --axis) {
        strides[axis] = stride;
        stride *= shape[axis];
    }
    return strides;
}

/// A copy of `sizes` elements with the given strides on either side. Throws Error, started by `who`, beyond rank 6.
inline StridedCopy make_strided_copy(std::string_view who, const Shape& sizes, const Strides& source,
                                     const Strides& target) {
    StridedCopy copy;
    require(sizes.rank() <= static_cast<int>(copy.sizes.size()), who, ": rank ", sizes.rank(), " exceeds ",
            copy.sizes.size());
    copy.rank = sizes.rank();
    for (int axis = 0; axis < copy.rank; ++axis) {
        copy.sizes[axis] = sizes[axis];
        copy.source_strides[axis] = source[axis];
        copy.target_strides[axis] = target[axis];
    }
    return copy;
}

}  // namespace bitloom::ops
