#include "engine/allocator.h"

#include <bit>
#include <cstdlib>
#include <map>
#include <memory>

#include "engine/error.h"

namespace bitloom {

namespace {

constexpr std::size_t alignment = 64;  // a cache line, and a full AVX-512 register

class HostMemory final : public MemorySource {
   public:
    void* allocate(std::size_t bytes) override { return std::aligned_alloc(alignment, bytes); }
    void release(void* pointer) override { std::free(pointer); }
};

struct Registry {
    std::mutex mutex;
    std::map<Device, std::unique_ptr<CachingAllocator>> by_device;
};

Registry& registry() {
    static Registry* instance = new Registry;  // never destroyed: tensors in static objects may outlive main
    return *instance;
}

thread_local AllocatorScope* innermost = nullptr;

}  // namespace

AllocatorScope::AllocatorScope(Device device, CachingAllocator& allocator)
    : device_(device), allocator_(allocator), outer_(innermost) {
    innermost = this;
}
AllocatorScope::~AllocatorScope() { innermost = outer_; }

std::size_t CachingAllocator::size_class(std::size_t bytes) {
    constexpr std::size_t smallest = 256;
    if (bytes <= smallest) return smallest;
    const std::size_t quarter = std::bit_floor(bytes - 1) / 4;
    return (bytes + quarter - 1) / quarter * quarter;
}

void* CachingAllocator::allocate(std::size_t bytes) {
    const std::size_t size = size_class(bytes);
    std::lock_guard lock(mutex_);
    ++stats_.requests;
    void* pointer = nullptr;
    Blocks& blocks = by_size_[size];
    if (!blocks.free.empty()) {
        pointer = blocks.free.back();
        blocks.free.pop_back();
    } else {
        if (blocks.free.capacity() <= blocks.held) blocks.free.reserve(2 * blocks.held + 1);
        pointer = source_.allocate(size);
        if (!pointer) {
            trim_locked();
            pointer = source_.allocate(size);
        }
        if (!pointer)
            fail("out of memory on ", label_, ": asked for ", bytes, " bytes with ", stats_.bytes_in_use, " in use");
        ++blocks.held;
        ++stats_.system_allocations;
        stats_.bytes_reserved += size;
    }
    stats_.bytes_in_use += size;
    stats_.peak_bytes_in_use = std::max(stats_.peak_bytes_in_use, stats_.bytes_in_use);
    return pointer;
}

void CachingAllocator::release(void* pointer, std::size_t bytes) {
    const std::size_t size = size_class(bytes);
    source_.before_reuse();
    std::lock_guard lock(mutex_);
    by_size_[size].free.push_back(pointer);
    stats_.bytes_in_use -= size;
}

void CachingAllocator::trim() {
    std::lock_guard lock(mutex_);
    trim_locked();
}

void CachingAllocator::trim_locked() {
    for (auto& [size, blocks] : by_size_) {
        for (void* block : blocks.free) source_.release(block);
        stats_.bytes_reserved -= size * blocks.free.size();
        blocks.held -= blocks.free.size();
        blocks.free.clear();
    }
}

AllocatorStats CachingAllocator::stats() const {
    std::lock_guard lock(mutex_);
    return stats_;
}

CachingAllocator& allocator_of(Device device) {
    if (device.is_host()) {
        static HostMemory memory;
        static auto* host = new CachingAllocator(memory, "the host");
        return *host;
    }
    for (const AllocatorScope* scope = innermost; scope; scope = scope->outer_)
        if (scope->device_ == device) return scope->allocator_;
    Registry& r = registry();
    std::lock_guard lock(r.mutex);
    const auto found = r.by_device.find(device);
    require(found != r.by_device.end(), "device ", device, ": no such device is available");
    return *found->second;
}

void register_memory_source(Device device, MemorySource& source) {
    Registry& r = registry();
    std::lock_guard lock(r.mutex);
    r.by_device[device] = std::make_unique<CachingAllocator>(source, to_string(device));
}

}  // namespace bitloom
