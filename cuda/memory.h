#pragma once
// The memory of a GPU, as the engine's caching allocator asks for it.

#include "cuda/common.h"
#include "engine/allocator.h"

namespace bitloom::cuda {

/// cudaMalloc and cudaFree. The caching allocator above keeps what it got, so a steady-state step comes here never, and
/// a captured step may: blocks keep their addresses until they are given back to the driver.
class GpuMemory final : public MemorySource {
   public:
    explicit GpuMemory(Device device) : device_(device) {}
    void* allocate(std::size_t bytes) override;
    void release(void* pointer) override;

   private:
    Device device_;
};

}  // namespace bitloom::cuda
