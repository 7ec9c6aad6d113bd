#include "fuzz/harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <sanitizer/allocator_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "engine/allocator.h"
#include "engine/error.h"

namespace bitloom::fuzz {

namespace {

[[noreturn]] void give_up(const char* why, const char* detail) {
    std::fprintf(stderr, "fuzz: %s: %s\n", why, detail);
    std::abort();
}

std::atomic<std::int64_t> in_use{0}, most{0};

void count_allocation(const volatile void* pointer, std::size_t) {
    const auto bytes = static_cast<std::int64_t>(__sanitizer_get_allocated_size(const_cast<const void*>(pointer)));
    const std::int64_t now = in_use += bytes;
    if (now > most) most = now;
}

void count_release(const volatile void* pointer) {
    const void* block = const_cast<const void*>(pointer);
    if (block && __sanitizer_get_ownership(block))
        in_use -= static_cast<std::int64_t>(__sanitizer_get_allocated_size(block));
}

/// A crash in a child that a reader let go first is that reader's affair, not a finding: no report, no artifact.
void crash_quietly() {
    __sanitizer_set_death_callback([] { ::_exit(1); });
    const int nowhere = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    ::dup2(nowhere, STDERR_FILENO);
}

}  // namespace

// No memfd: HDF5 asks for the real path of what it opens, and such a file has none.
InputFile::InputFile(const std::uint8_t* data, std::size_t size) {
    static const bool in_memory = ::access("/dev/shm", W_OK) == 0;
    path_ = (in_memory ? "/dev/shm" : "/tmp") + std::string("/bitloom-fuzz-XXXXXX");
    const int descriptor = ::mkstemp(path_.data());
    if (descriptor < 0) give_up("mkstemp", std::strerror(errno));
    for (std::size_t done = 0; done < size;) {
        const ssize_t written = ::write(descriptor, data + done, size - done);
        if (written <= 0) give_up("write", std::strerror(errno));
        done += static_cast<std::size_t>(written);
    }
    ::close(descriptor);
}

InputFile::~InputFile() { ::unlink(path_.c_str()); }

void check_reader(std::size_t size, const std::function<void()>& reader) {
    static const int children = ::pthread_atfork(nullptr, nullptr, crash_quietly);
    if (children != 0) give_up("pthread_atfork", std::strerror(children));
    static const int hooks = __sanitizer_install_malloc_and_free_hooks(count_allocation, count_release);
    if (hooks == 0) give_up("memory", "the sanitizer takes no more hooks");
    const std::int64_t before = in_use;
    most = before;
    try {
        reader();
    } catch (const Error& error) {
        if (std::strchr(error.what(), '\n') || !*error.what()) give_up("a message is not one line", error.what());
    } catch (const std::bad_alloc& error) {
        give_up("memory", error.what());
    }
    // What the caching allocator keeps for the next tensor is not the reader's.
    allocator_of(cpu_device).trim();
    const std::int64_t limit = 2 * static_cast<std::int64_t>(size) + (std::int64_t{64} << 20);
    if (most - before > limit) give_up("memory", cat(most - before, " bytes for an input of ", size).c_str());
}

}  // namespace bitloom::fuzz
