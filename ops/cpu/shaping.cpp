// Strided copies: whole runs where both sides are contiguous.

#include <cstring>

#include "ops/cpu/broadcast.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/parallel.h"

namespace bitloom::ops::cpu {

namespace {

/// `Element` is an unsigned integer of the element's size: only bits move.
template <class Element>
void copy(const MergedAxes<2>& axes, const Element* source, Element* target) {
    const std::int64_t n = axes.inner_size();
    const auto [from_stride, to_stride] = axes.inner_strides();
    parallel_items(axes.runs(), n,
                   [&, from_stride = from_stride, to_stride = to_stride](std::int64_t begin, std::int64_t end) {
                       axes.for_each_run(begin, end, [&](const std::array<std::int64_t, 2>& at) {
                           const Element* from = source + at[0];
                           Element* to = target + at[1];
                           if (from_stride == 1 && to_stride == 1) {
                               std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(Element));
                           } else if (to_stride == 1) {
                               for (std::int64_t i = 0; i < n; ++i) to[i] = from[i * from_stride];
                           } else {
                               for (std::int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
                           }
                       });
                   });
}

}  // namespace

void strided_copy(const StridedCopy& c, const Tensor& source, Tensor& target) {
    std::array<int, 6> order{};
    for (int axis = 0; axis < c.rank; ++axis) {
        if (c.sizes[axis] == 0) return;
        order[axis] = axis;
    }
    // Elements may be copied in any order: the target's own is the kindest to memory.
    std::stable_sort(order.begin(), order.begin() + c.rank,
                     [&](int a, int b) { return c.target_strides[a] > c.target_strides[b]; });
    MergedAxes<2> axes;
    for (int i = 0; i < c.rank; ++i)
        axes.append(c.sizes[order[i]], {c.source_strides[order[i]], c.target_strides[order[i]]});

    const auto run = [&](auto element) {
        using Element = decltype(element);
        copy(axes, static_cast<const Element*>(source.raw()) + c.source_offset,
             static_cast<Element*>(target.raw_write()) + c.target_offset);
    };
    switch (size_of(source.dtype())) {
        case 1:
            return run(std::uint8_t{});
        case 2:
            return run(std::uint16_t{});
        case 4:
            return run(std::uint32_t{});
        case 8:
            return run(std::uint64_t{});
    }
}

}  // namespace bitloom::ops::cpu
