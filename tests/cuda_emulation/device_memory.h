#pragma once
// Memory of the emulated GPU: host memory that only the device's work may touch, where the processor has protection keys
// (pkeys(7)). A host function that reads or writes a device tensor, as nobody can on a GPU, then ends the test program with
// a message and the way it got there.

#include "engine/allocator.h"

namespace emulation {

/// Fresh memory holds NaN, so that what is read before it is written shows.
class DeviceMemory final : public bitloom::MemorySource {
   public:
    void* allocate(std::size_t bytes) override;
    void release(void* memory) override;
};

/// Opens the memory to the calling thread while it lives.
class DeviceAccess {
   public:
    DeviceAccess();
    ~DeviceAccess();
    DeviceAccess(const DeviceAccess&) = delete;
    DeviceAccess& operator=(const DeviceAccess&) = delete;
};

/// Whether the host is kept out.
bool memory_is_protected();

}  // namespace emulation
