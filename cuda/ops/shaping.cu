// Copies between strided layouts, of elements of any type.

#include "cuda/ops/elements.cuh"
#include "cuda/ops/kernels.h"
#include "cuda/ops/strided.cuh"

namespace bitloom::cuda {

namespace {

struct alignas(16) Bytes16 {
    std::uint64_t at[2];
};

template <class Index, class T>
__global__ void strided_copy_kernel(Odometer<Index> odometer, const T* source, T* target) {
    for (std::int64_t i = first_element(); i < odometer.count; i += element_stride()) {
        Index from, to;
        odometer.offsets(static_cast<Index>(i), from, to);
        target[to] = source[from];
    }
}

/// The walk with pairs of neighbours as elements, where it has such pairs.
bool widen_elements(Walk& walk, std::size_t& size, const char* source, const char* target) {
    const std::size_t wide = 2 * size;
    if (walk.rank == 0 || wide > sizeof(Bytes16) || !aligned_to(wide, source, target)) return false;
    Walk pairs = walk;
    WalkAxis& inner = pairs.axes[static_cast<std::size_t>(walk.rank - 1)];
    if (inner.first_stride != 1 || inner.second_stride != 1 || inner.size % 2 != 0) return false;
    inner.size /= 2;
    for (int axis = 0; axis + 1 < walk.rank; ++axis) {
        WalkAxis& a = pairs.axes[static_cast<std::size_t>(axis)];
        if (a.first_stride % 2 != 0 || a.second_stride % 2 != 0) return false;
        a.first_stride /= 2;
        a.second_stride /= 2;
    }
    walk = pairs;
    size = wide;
    return true;
}

template <class T>
void copy(Device device, const Walk& walk, const char* source, char* target) {
    dispatch_odometer(walk, [&](const auto& odometer) {
        using Index = typename std::remove_cvref_t<decltype(odometer)>::Offset;
        launch(device, strided_copy_kernel<Index, T>, blocks_for(device, odometer.count, threads_per_block),
               threads_per_block, 0, odometer, reinterpret_cast<const T*>(source), reinterpret_cast<T*>(target));
    });
}

}  // namespace

void strided_copy(const StridedCopy& c, const Tensor& source, Tensor& target) {
    std::size_t size = size_of(source.dtype());
    const char* from = static_cast<const char*>(source.raw()) + static_cast<std::size_t>(c.source_offset) * size;
    char* to = static_cast<char*>(target.raw_write()) + static_cast<std::size_t>(c.target_offset) * size;
    Walk walk;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(c.rank); ++axis)
        walk.append(c.sizes[axis], c.source_strides[axis], c.target_strides[axis]);
    while (widen_elements(walk, size, from, to)) {
    }
    switch (size) {
        case 1: return copy<std::uint8_t>(target.device(), walk, from, to);
        case 2: return copy<std::uint16_t>(target.device(), walk, from, to);
        case 4: return copy<std::uint32_t>(target.device(), walk, from, to);
        case 8: return copy<std::uint64_t>(target.device(), walk, from, to);
        default: return copy<Bytes16>(target.device(), walk, from, to);
    }
}

}  // namespace bitloom::cuda
