#include "tests/steady/host_allocations.h"

#include <execinfo.h>
#include <link.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <new>
#include <sstream>

namespace bitloom {

namespace {

/// Where libdnnl's code lies in memory; empty where it is not loaded.
struct Range {
    std::uintptr_t begin = 0, end = 0;
    bool contains(const void* address) const {
        const auto a = reinterpret_cast<std::uintptr_t>(address);
        return begin <= a && a < end;
    }
};

Range find_onednn() {
    Range range;
    dl_iterate_phdr(
        [](dl_phdr_info* object, std::size_t, void* out) {
            if (!object->dlpi_name || !std::strstr(object->dlpi_name, "libdnnl")) return 0;
            auto& found = *static_cast<Range*>(out);
            for (int i = 0; i < object->dlpi_phnum; ++i) {
                const auto& segment = object->dlpi_phdr[i];
                if (segment.p_type != PT_LOAD || !(segment.p_flags & PF_X)) continue;
                found.begin = object->dlpi_addr + segment.p_vaddr;
                found.end = found.begin + segment.p_memsz;
            }
            return 1;
        },
        &range);
    return range;
}

constexpr int stack_depth = 24, stack_count = 4;
struct Stack {
    std::array<void*, stack_depth> frames;
    int depth = 0;
};

// Plain statics: operator new runs before main and after it.
Range onednn_code;
std::atomic<bool> counting{false};
std::atomic<std::uint64_t> from_onednn{0}, from_others{0};
std::array<Stack, stack_count> stacks;

/// Counts one call whose return address is `caller`.
void count(const void* caller) {
    if (onednn_code.contains(caller)) {
        from_onednn.fetch_add(1, std::memory_order_relaxed);
        return;
    }
    const std::uint64_t before = from_others.fetch_add(1, std::memory_order_relaxed);
    if (before < stack_count) {
        Stack& stack = stacks[before];
        stack.depth = backtrace(stack.frames.data(), stack_depth);
    }
}

void* allocate(std::size_t bytes, std::size_t alignment, const void* caller) {
    if (counting.load(std::memory_order_relaxed)) count(caller);
    if (bytes == 0) bytes = 1;
    if (alignment <= __STDCPP_DEFAULT_NEW_ALIGNMENT__) return std::malloc(bytes);
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void* allocate_or_throw(std::size_t bytes, std::size_t alignment, const void* caller) {
    void* memory = allocate(bytes, alignment, caller);
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace

void start_counting_allocations() {
    onednn_code = find_onednn();
    void* frame[1];
    backtrace(frame, 1);  // its first call loads a library
    from_onednn = from_others = 0;
    for (Stack& stack : stacks) stack.depth = 0;
    counting = true;
}

HostAllocations stop_counting_allocations() {
    counting = false;
    return {from_onednn, from_others};
}

std::string describe_allocations() {
    std::ostringstream text;
    for (const Stack& stack : stacks) {
        if (stack.depth == 0) continue;
        char** names = backtrace_symbols(stack.frames.data(), stack.depth);
        text << "operator new called by";
        for (int i = 2; names && i < stack.depth; ++i) text << "\n    " << names[i];
        text << '\n';
        std::free(names);
    }
    return text.str();
}

}  // namespace bitloom

// Not inlined: the return address must lie in the caller of operator new.

using bitloom::allocate;
using bitloom::allocate_or_throw;

void* operator new(std::size_t n) { return allocate_or_throw(n, 1, __builtin_return_address(0)); }
void* operator new[](std::size_t n) { return allocate_or_throw(n, 1, __builtin_return_address(0)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    return allocate(n, 1, __builtin_return_address(0));
}
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept {
    return allocate(n, 1, __builtin_return_address(0));
}
void* operator new(std::size_t n, std::align_val_t a) {
    return allocate_or_throw(n, static_cast<std::size_t>(a), __builtin_return_address(0));
}
void* operator new[](std::size_t n, std::align_val_t a) {
    return allocate_or_throw(n, static_cast<std::size_t>(a), __builtin_return_address(0));
}
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(n, static_cast<std::size_t>(a), __builtin_return_address(0));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(n, static_cast<std::size_t>(a), __builtin_return_address(0));
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { std::free(p); }
