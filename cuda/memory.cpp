#include "cuda/memory.h"

namespace bitloom::cuda {

namespace {

/// While a graph is captured the runtime refuses calls that may wait; those for memory do not touch the captured
/// stream.
class OutsideCapture {
   public:
    OutsideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
    ~OutsideCapture() { cudaThreadExchangeStreamCaptureMode(&mode_); }
    OutsideCapture(const OutsideCapture&) = delete;
    OutsideCapture& operator=(const OutsideCapture&) = delete;

   private:
    cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

}  // namespace

void* GpuMemory::allocate(std::size_t bytes) {
    stream(device_);  // makes the GPU the thread's current one
    const OutsideCapture outside;
    void* pointer = nullptr;
    const cudaError_t status = cudaMalloc(&pointer, bytes);
    if (status == cudaSuccess) return pointer;
    cudaGetLastError();
    // The allocator above frees its cache, asks again, and then says how much was in use.
    if (status == cudaErrorMemoryAllocation) return nullptr;
    check(status, "cudaMalloc");
    return nullptr;
}

void GpuMemory::release(void* pointer) {
    stream(device_);
    const OutsideCapture outside;
    cudaFree(pointer);  // waits for the work that uses it
}

}  // namespace bitloom::cuda
