#pragma once
// Caching allocator: blocks return to a free list by size class, so a steady-state step asks the system for nothing.

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "engine/device.h"

namespace bitloom {

struct AllocatorStats {
    std::uint64_t system_allocations = 0;  ///< blocks ever asked of the system
    std::uint64_t requests = 0;            ///< allocate() calls
    std::size_t bytes_reserved = 0;        ///< held from the system, used or cached
    std::size_t bytes_in_use = 0;
    std::size_t peak_bytes_in_use = 0;
};

/// Raw memory of one device, from the system.
class MemorySource {
   public:
    virtual ~MemorySource() = default;
    /// Returns memory aligned to 64 bytes, or nullptr when there is none.
    virtual void* allocate(std::size_t bytes) = 0;
    virtual void release(void* pointer) = 0;
    /// A block comes back to the cache, to be handed out again: waits, where needed, until the calling thread's work on
    /// it cannot collide with what the next owner does.
    virtual void before_reuse() {}
};

/// Thread-safe. Sizes are rounded up to four classes an octave, so at most a fifth of a block is unused.
class CachingAllocator {
   public:
    explicit CachingAllocator(MemorySource& source, std::string label) : source_(source), label_(std::move(label)) {}
    CachingAllocator(const CachingAllocator&) = delete;
    CachingAllocator& operator=(const CachingAllocator&) = delete;

    /// Throws Error naming the device and the request when memory runs out, after giving back what was cached.
    void* allocate(std::size_t bytes);
    void release(void* pointer, std::size_t bytes);
    /// Gives every cached block back to the system.
    void trim();
    AllocatorStats stats() const;
    static std::size_t size_class(std::size_t bytes);

   private:
    void trim_locked();
    MemorySource& source_;
    std::string label_;
    mutable std::mutex mutex_;
    /// The blocks of one size. `free` has room for all of them, so that giving one back allocates nothing.
    struct Blocks {
        std::vector<void*> free;
        std::size_t held = 0;  // from the system, used or free
    };
    std::unordered_map<std::size_t, Blocks> by_size_;
    AllocatorStats stats_;
};

/// The allocator of a device for the calling thread. `reference` shares the one of `cpu`. Throws Error for a CUDA device without a backend.
CachingAllocator& allocator_of(Device device);
/// A backend (cuda/) registers its memory here when it is installed.
void register_memory_source(Device device, MemorySource& source);

/// While it lives, the calling thread's tensors on that device come from another allocator (and go back to it, whenever
/// and by whatever thread they are given back). Scopes nest.
class AllocatorScope {
   public:
    AllocatorScope(Device device, CachingAllocator& allocator);
    ~AllocatorScope();
    AllocatorScope(const AllocatorScope&) = delete;
    AllocatorScope& operator=(const AllocatorScope&) = delete;

   private:
    friend CachingAllocator& allocator_of(Device device);
    Device device_;
    CachingAllocator& allocator_;
    AllocatorScope* outer_;
};

}  // namespace bitloom
