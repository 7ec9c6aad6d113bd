#pragma once
// Row-major iteration with two strided offsets: broadcasting, reductions and strided copies are loops over it.

#include <array>
#include <cstdint>
#include <span>

#include "engine/shape.h"

namespace bitloom::ops::reference {

/// Calls f(i, first, second) for every index of `sizes` in row-major order: i counts, `first` and `second` are the
/// index's offsets under the two sets of strides.
template <class F>
void for_each_index(std::span<const std::int64_t> sizes, std::span<const std::int64_t> first_strides,
                    std::span<const std::int64_t> second_strides, F&& f) {
    const int rank = static_cast<int>(sizes.size());
    std::int64_t count = 1;
    for (const std::int64_t size : sizes) count *= size;
    std::array<std::int64_t, Shape::max_rank> index{};
    std::int64_t first = 0, second = 0;
    for (std::int64_t i = 0; i < count; ++i) {
        f(i, first, second);
        for (int axis = rank - 1; axis >= 0; --axis) {
            first += first_strides[axis];
            second += second_strides[axis];
            if (++index[axis] < sizes[axis]) break;
            first -= first_strides[axis] * sizes[axis];
            second -= second_strides[axis] * sizes[axis];
            index[axis] = 0;
        }
    }
}

}  // namespace bitloom::ops::reference
