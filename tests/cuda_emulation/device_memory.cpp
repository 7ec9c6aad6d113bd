#include "device_memory.h"

#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>

namespace emulation {

namespace {

thread_local int open_scopes = 0;

void explain(int, siginfo_t* info, void*) {
    constexpr int protection_key = 4;  // SEGV_PKUERR
    if (info->si_code == protection_key) {
        const char text[] = "\nemulation: the host touches the memory of the device; it got there by\n";
        static_cast<void>(!write(STDERR_FILENO, text, sizeof text - 1));
        void* frames[40];
        backtrace_symbols_fd(frames, backtrace(frames, 40), STDERR_FILENO);
    }
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

/// The key of the device's memory; -1 where the processor has none.
int key() {
    static const int allocated = [] {
        const int found = pkey_alloc(0, PKEY_DISABLE_ACCESS);
        if (found >= 0) {
            struct sigaction action {};
            action.sa_sigaction = explain;
            action.sa_flags = SA_SIGINFO;
            sigaction(SIGSEGV, &action, nullptr);
        }
        return found;
    }();
    return allocated;
}

std::mutex mutex;
std::map<void*, std::size_t>& sizes() {
    static std::map<void*, std::size_t> all;
    return all;
}

}  // namespace

void* DeviceMemory::allocate(std::size_t bytes) {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    std::memset(memory, 0xff, bytes);
    if (key() >= 0) pkey_mprotect(memory, bytes, PROT_READ | PROT_WRITE, key());
    const std::lock_guard lock(mutex);
    sizes()[memory] = bytes;
    return memory;
}

void DeviceMemory::release(void* memory) {
    const std::lock_guard lock(mutex);
    const auto found = sizes().find(memory);
    munmap(memory, found->second);
    sizes().erase(found);
}

DeviceAccess::DeviceAccess() {
    if (key() >= 0 && open_scopes++ == 0) pkey_set(key(), 0);
}
DeviceAccess::~DeviceAccess() {
    if (key() >= 0 && --open_scopes == 0) pkey_set(key(), PKEY_DISABLE_ACCESS);
}

bool memory_is_protected() { return key() >= 0; }

}  // namespace emulation
