#pragma once
// A lane: one stream of a GPU with what belongs to it. Threads that train side by side take a lane each (DeviceLane).

#include <cublasLt.h>
#include <cublas_v2.h>

#include <array>
#include <memory>

#include "cuda/common.h"
#include "cuda/memory.h"
#include "engine/training_kernels.h"

namespace bitloom::cuda {

/// Two blocks of pinned memory through which large copies between host and device go: one is filled or emptied by the
/// host while the other is on its way.
class Staging {
   public:
    /// Copies in the order of the stream. The source may be changed as soon as the call returns.
    void to_device(void* target, const void* source, std::size_t bytes, cudaStream_t stream);
    /// Copies, and waits for it.
    void to_host(void* target, const void* source, std::size_t bytes, cudaStream_t stream);

   private:
    static constexpr std::size_t block_bytes = 4 << 20;
    void prepare();
    struct Block {
        void* memory = nullptr;
        cudaEvent_t done = nullptr;  // the last copy through the block
    };
    std::array<Block, 2> blocks_;
};

struct Lane {
    explicit Lane(Device gpu);
    Lane(const Lane&) = delete;
    Lane& operator=(const Lane&) = delete;

    Device device;
    cudaStream_t stream = nullptr;
    GpuMemory memory;
    bool capturing = false;
    Staging staging;
    // Made when they are first asked for.
    cublasHandle_t cublas = nullptr;
    cublasLtHandle_t cublas_lt = nullptr;
    void* cublas_memory = nullptr;
    bool cublas_tf32 = false;
    void* cudnn = nullptr;  // cudnnHandle_t, where the build has cuDNN
};

/// The calling thread's lane of that GPU, which becomes the thread's current one. Throws Error for a GPU that is not
/// installed.
Lane& lane(Device device);
/// Makes a GPU known, and its memory to the engine. Called once, by cuda::install.
void add_gpu(Device device, const Properties& properties);
/// A lane of its own for the calling thread, until what is returned dies; lanes are used again.
std::unique_ptr<DeviceLane> open_lane(Device device);

}  // namespace bitloom::cuda
