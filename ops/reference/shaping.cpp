#include <cstring>

#include "ops/reference/kernels.h"
#include "ops/reference/odometer.h"

namespace bitloom::ops::reference {

void strided_copy(const StridedCopy& copy, const Tensor& source, Tensor& target) {
    const std::size_t size = size_of(source.dtype());
    const std::size_t rank = static_cast<std::size_t>(copy.rank);
    const char* in = static_cast<const char*>(source.raw()) + static_cast<std::size_t>(copy.source_offset) * size;
    char* out = static_cast<char*>(target.raw_write()) + static_cast<std::size_t>(copy.target_offset) * size;
    for_each_index({copy.sizes.data(), rank}, {copy.source_strides.data(), rank}, {copy.target_strides.data(), rank},
                   [&](std::int64_t, std::int64_t from, std::int64_t to) {
                       std::memcpy(out + to * static_cast<std::int64_t>(size),
                                   in + from * static_cast<std::int64_t>(size), size);
                   });
}

}  // namespace bitloom::ops::reference
