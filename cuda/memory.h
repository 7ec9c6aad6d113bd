#pragma once
// The memory of a GPU, as the engine's caching allocators ask for it.

#include "cuda/common.h"
#include "engine/allocator.h"

namespace bitloom::cuda {

struct Lane;

/// cudaMalloc and cudaFree for the work of one lane. The caching allocator above keeps what it got, so a steady-state
/// step comes here never; blocks keep their addresses until they are given back to the driver.
class GpuMemory final : public MemorySource {
   public:
    explicit GpuMemory(Lane& lane) : lane_(lane) {}
    void* allocate(std::size_t bytes) override;
    void release(void* pointer) override;
    /// A block given back by a thread of another lane waits for that lane's work; within a lane the order does.
    void before_reuse() override;

   private:
    Lane& lane_;
};

/// While a graph is captured the runtime refuses calls that may wait. Those that do not touch the captured stream are
/// allowed while this lives.
class OutsideCapture {
   public:
    OutsideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
    ~OutsideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
    OutsideCapture(const OutsideCapture&) = delete;
    OutsideCapture& operator=(const OutsideCapture&) = delete;

   private:
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace bitloom::cuda
