#pragma once
// Stands in for cuda/common.h: the same functions, on host memory and emulated threads.

#include <cuda_runtime.h>

#include <algorithm>
#include <tuple>
#include <type_traits>
#include <utility>

#include "engine/device.h"
#include "engine/error.h"
#include "engine/tensor.h"

namespace bitloom::cuda {

struct Properties {
    int multiprocessors = 4;
    int major = 9, minor = 0;
    std::size_t shared_per_block = 160 * 1024;
    std::size_t shared_per_multiprocessor = 164 * 1024;
    std::size_t l2_bytes = 40 << 20;
    std::size_t memory_bytes = std::size_t{1} << 30;
};
inline const Properties& properties(Device) {
    static const Properties properties;
    return properties;
}
inline bool capturing(Device) { return emulation::capturing(); }

template <class... Parameters, class... Arguments>
void launch(Device, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            Arguments&&... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "the kernel has another number of parameters");
    static_assert((std::is_trivially_copyable_v<Parameters> && ...), "a kernel's parameters are copied to the device");
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    const std::tuple<std::remove_cv_t<Parameters>...> values{std::forward<Arguments>(arguments)...};
    emulation::submit([=] {
        emulation::run({grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes,
                       [&] { std::apply(kernel, values); });
    });
}

inline unsigned blocks_for(Device device, std::int64_t n, std::int64_t per_block) {
    const std::int64_t resident = 16 * static_cast<std::int64_t>(properties(device).multiprocessors);
    return static_cast<unsigned>(std::min((n + per_block - 1) / per_block, resident));
}

inline Tensor scratch(Device device, std::int64_t bytes) { return Tensor::empty({bytes}, DType::u8, device); }

}  // namespace bitloom::cuda
