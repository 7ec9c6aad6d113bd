#include "cuda/memory.h"

#include "cuda/lane.h"

namespace bitloom::cuda {

void* GpuMemory::allocate(std::size_t bytes) {
    lane(lane_.device);  // makes the GPU the thread's current one
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

// The next two run in destructors, also after the GPU has failed: what they meet was or will be reported elsewhere.

void GpuMemory::release(void* pointer) {
    const OutsideCapture outside;
    cudaFree(pointer);  // waits for the work that uses it
}

void GpuMemory::before_reuse() {
    const Lane& here = lane(lane_.device);
    if (&here != &lane_ && !here.capturing) cudaStreamSynchronize(here.stream);
}

}  // namespace bitloom::cuda
