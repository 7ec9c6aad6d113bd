#pragma once
// What the files of the CUDA backend share: checks that name the call, the thread's stream on a GPU, kernel launches,
// library handles. Included by cuda/ only. Kernels and their launches stand in .cu files, all else in .cpp files.
//
// Rules of the backend:
// - Work goes to `stream(device)` of the calling thread, in order; nobody waits for it but those who bring values to
// the
//   host. Memory that a Tensor gives back is reused in the same order, so a kernel's inputs may die at once.
// - A step may be captured into a graph (cuda/graph.h): kernels of a step take what changes from step to step from
// device
//   memory, do not copy to or from the host, and do not wait.
// - Two runs give the same bits: no atomic additions of floating-point numbers.

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "engine/device.h"
#include "engine/error.h"
#include "engine/tensor.h"

namespace bitloom::cuda {

/// Throws Error where `status` is none of success: "cuda: <call>: <what the runtime says> (<its name>)".
void check(cudaError_t status, std::string_view call);

/// What kernels want to know about a GPU.
struct Properties {
    int multiprocessors = 0;
    int major = 0, minor = 0;          ///< compute capability
    std::size_t shared_per_block = 0;  ///< bytes of shared memory a block can have when it asks for it
    std::size_t shared_per_multiprocessor = 0;
    std::size_t l2_bytes = 0;
    std::size_t memory_bytes = 0;
};
const Properties& properties(Device device);

/// The stream of the calling thread on that GPU, which becomes the thread's current one. All work of the backend goes
/// there. Throws Error for a GPU that is not installed.
cudaStream_t stream(Device device);
/// Waits until all work of the calling thread's stream is done. Throws Error where some of it failed.
void synchronize(Device device);
/// True while a graph is being captured from the calling thread's stream (cuda/graph.h).
bool capturing(Device device);

/// The non-template part of `launch`.
void launch_kernel(Device device, const void* kernel, dim3 grid, dim3 block, std::size_t shared_bytes,
                   void** arguments);

/// Runs a kernel on the calling thread's stream. Arguments are converted to the kernel's parameter types. More than 48
/// KB of dynamic shared memory is asked for where needed. An empty grid is no launch. Throws Error naming the kernel.
/// With BITLOOM_CUDA_SYNC=1 in the environment every launch is waited for, so that a failing kernel is the one named.
template <class... Parameters, class... Arguments>
void launch(Device device, void (*kernel)(Parameters...), dim3 grid, dim3 block, std::size_t shared_bytes,
            Arguments&&... arguments) {
    static_assert(sizeof...(Parameters) == sizeof...(Arguments), "the kernel has another number of parameters");
    static_assert((std::is_trivially_copyable_v<Parameters> && ...), "a kernel's parameters are copied to the device");
    std::tuple<std::remove_cv_t<Parameters>...> values{std::forward<Arguments>(arguments)...};
    std::apply(
        [&](auto&... value) {
            void* pointers[] = {static_cast<void*>(&value)..., nullptr};
            launch_kernel(device, reinterpret_cast<const void*>(kernel), grid, block, shared_bytes, pointers);
        },
        values);
}

/// Blocks for a grid-stride loop over n elements, `per_block` at a time: enough to fill the GPU, not more than the
/// work.
inline unsigned blocks_for(Device device, std::int64_t n, std::int64_t per_block) {
    const std::int64_t resident = 16 * static_cast<std::int64_t>(properties(device).multiprocessors);
    return static_cast<unsigned>(std::min((n + per_block - 1) / per_block, resident));
}

/// Uninitialised scratch of a kernel, from the caching allocator; given back when it goes out of scope, while the
/// kernel may still run (see the rules above).
inline Tensor scratch(Device device, std::int64_t bytes) { return Tensor::empty({bytes}, DType::u8, device); }

}  // namespace bitloom::cuda
