#include "emulation.h"

#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "device_memory.h"
#include "engine/error.h"
#include "tests/sanitizers.h"

namespace emulation {

Index thread_index, block_index, block_extent, grid_extent;

namespace {

constexpr std::size_t stack_bytes = 256 * 1024;
constexpr std::size_t slot_bytes = 64;
constexpr unsigned warp_size = 32;

enum class State { ready, at_block_barrier, at_warp_collective, done };

/// A place to go on from, on one of the stacks. Stacks are entered the first time by setcontext, and from then on by
/// longjmp, which asks the system for nothing; sanitizers follow swapcontext alone.
struct Place {
    ucontext_t context{};
    jmp_buf point{};
    bool entered = false;
};

#if BITLOOM_SANITIZED
void go(Place& from, Place& to) { swapcontext(&from.context, &to.context); }
#else
void go(Place& from, Place& to) {
    from.entered = true;
    if (_setjmp(from.point) != 0) return;
    if (to.entered) _longjmp(to.point, 1);
    to.entered = true;
    setcontext(&to.context);
}
#endif

/// A stack on which threads run, one after the other; it belongs to a thread that waits.
struct Fiber {
    Place place;
    std::unique_ptr<std::byte[]> stack;
};

struct Thread {
    Index index;
    State state = State::done;
    Fiber* fiber = nullptr;  // where it waits; null before it starts
    unsigned mask = 0;
    unsigned collectives = 0;  // of this thread in this block: lanes write to two sets of slots in turn
    alignas(16) std::byte slots[2][slot_bytes];
};

struct Machine {
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Fiber*> idle;
    std::vector<Thread> thread;
    Place scheduler;
    Fiber* running = nullptr;
    const std::function<void()>* body = nullptr;
    unsigned current = 0, threads = 0;
    Order order = Order::forward;
    std::vector<std::byte> shared;
    std::uint64_t launches = 0;
};
Machine& machine() {
    static Machine m;
    return m;
}

void become(unsigned thread) {
    Machine& m = machine();
    m.current = thread;
    thread_index = m.thread[thread].index;
}

/// Runs the current thread, then those behind it in the order of the block that have not started: a kernel without barriers
/// changes no stacks.
void fiber_main() {
    Machine& m = machine();
    for (;;) {
        (*m.body)();
        m.thread[m.current].state = State::done;
        const unsigned next = m.order == Order::forward ? m.current + 1 : m.current - 1;  // wraps below 0
        if (next < m.threads && m.thread[next].state == State::ready && !m.thread[next].fiber) {
            become(next);
            continue;
        }
        m.idle.push_back(m.running);
        go(m.running->place, m.scheduler);
    }
}

void give_way(State state) {
    Machine& m = machine();
    Thread& self = m.thread[m.current];
    self.state = state;
    self.fiber = m.running;
    go(self.fiber->place, m.scheduler);
}

Fiber* idle_fiber() {
    Machine& m = machine();
    if (m.idle.empty()) {
        auto fiber = std::make_unique<Fiber>();
        fiber->stack = std::make_unique<std::byte[]>(stack_bytes);
        ucontext_t& context = fiber->place.context;
        getcontext(&context);
        context.uc_stack.ss_sp = fiber->stack.get();
        context.uc_stack.ss_size = stack_bytes;
        context.uc_link = nullptr;
        makecontext(&context, fiber_main, 0);
        m.idle.push_back(fiber.get());
        m.fibers.push_back(std::move(fiber));
    }
    Fiber* fiber = m.idle.back();
    m.idle.pop_back();
    return fiber;
}

void resume(unsigned thread) {
    Machine& m = machine();
    become(thread);
    m.running = m.thread[thread].fiber ? m.thread[thread].fiber : idle_fiber();
    go(m.scheduler, m.running->place);
}

/// Lets the warps go on whose lanes stand at the same collective. True where there was one.
bool release_warps() {
    Machine& m = machine();
    bool released = false;
    for (unsigned first = 0; first < m.threads; first += warp_size) {
        const unsigned lanes = std::min(warp_size, m.threads - first);
        unsigned waiting = 0;
        for (unsigned l = 0; l < lanes; ++l)
            if (m.thread[first + l].state == State::at_warp_collective) waiting |= 1u << l;
        for (unsigned l = 0; l < lanes; ++l) {
            Thread& lane = m.thread[first + l];
            if (lane.state != State::at_warp_collective) continue;
            const unsigned mask = lanes == warp_size ? lane.mask : lane.mask & ((1u << lanes) - 1);
            if ((waiting & mask) != mask) continue;
            for (unsigned k = 0; k < lanes; ++k) {
                if (!(mask >> k & 1)) continue;
                bitloom::require(m.thread[first + k].mask == lane.mask && m.thread[first + k].collectives == lane.collectives,
                                 "emulation: lanes of a warp meet at different collectives");
                m.thread[first + k].state = State::ready;
            }
            released = true;
        }
    }
    return released;
}

void run_block() {
    Machine& m = machine();
    for (unsigned t = 0; t < m.threads; ++t) {
        Thread& thread = m.thread[t];
        thread.index = {t % block_extent.x, t / block_extent.x % block_extent.y, t / (block_extent.x * block_extent.y)};
        thread.state = State::ready;
        thread.fiber = nullptr;
        thread.collectives = 0;
    }
    for (;;) {
        for (unsigned k = 0; k < m.threads; ++k) {
            const unsigned t = m.order == Order::forward ? k : m.threads - 1 - k;
            if (m.thread[t].state == State::ready) resume(t);
        }
        unsigned done = 0, at_barrier = 0;
        for (unsigned t = 0; t < m.threads; ++t) {
            done += m.thread[t].state == State::done;
            at_barrier += m.thread[t].state == State::at_block_barrier;
        }
        if (done == m.threads) return;
        if (release_warps()) continue;
        bitloom::require(at_barrier == m.threads, "emulation: ", at_barrier, " of ", m.threads,
                         " threads reached a barrier, ", done, " have ended, the others wait for lanes that never come");
        for (unsigned t = 0; t < m.threads; ++t) m.thread[t].state = State::ready;
    }
}

}  // namespace

namespace {
thread_local std::vector<std::function<void()>>* captured = nullptr;
}

void submit(std::function<void()> work) {
    if (captured) {
        captured->push_back(std::move(work));
        return;
    }
    const DeviceAccess access;
    work();
}
void capture_into(std::vector<std::function<void()>>* list) {
    bitloom::require(!list || !captured, "emulation: a step is captured within a captured step");
    captured = list;
}
bool capturing() { return captured != nullptr; }

void set_order(Order order) { machine().order = order; }
std::uint64_t launches() { return machine().launches; }

void run(Index grid, Index block, std::size_t shared_bytes, const std::function<void()>& thread) {
    static std::mutex one_at_a_time;
    std::lock_guard lock(one_at_a_time);
    Machine& m = machine();
    bitloom::require(block.x * block.y * block.z >= 1 && block.x * block.y * block.z <= 1024, "emulation: a block of ",
                     block.x, " x ", block.y, " x ", block.z, " threads");
    bitloom::require(grid.y <= 65535 && grid.z <= 65535, "emulation: a grid of ", grid.x, " x ", grid.y, " x ", grid.z);
    bitloom::require(shared_bytes <= 160 * 1024, "emulation: ", shared_bytes, " bytes of shared memory");
    m.threads = block.x * block.y * block.z;
    if (m.thread.size() < m.threads) m.thread.resize(m.threads);
    m.body = &thread;
    ++m.launches;
    block_extent = block;
    grid_extent = grid;
    const std::uint64_t blocks = static_cast<std::uint64_t>(grid.x) * grid.y * grid.z;
    for (std::uint64_t k = 0; k < blocks; ++k) {
        const std::uint64_t b = m.order == Order::forward ? k : blocks - 1 - k;
        block_index = {static_cast<unsigned>(b % grid.x), static_cast<unsigned>(b / grid.x % grid.y),
                       static_cast<unsigned>(b / grid.x / grid.y)};
        m.shared = std::vector<std::byte>(shared_bytes, std::byte{0xff});
        try {
            run_block();
        } catch (...) {
            m.fibers.clear();  // they stand in the middle of a kernel
            m.idle.clear();
            throw;
        }
    }
}

void wait_for_block() { give_way(State::at_block_barrier); }
unsigned lane() { return machine().current % warp_size; }
void* dynamic_shared() { return machine().shared.data(); }

namespace {
/// Puts data into the lane's slot and waits for the lanes of the mask. Returns the slots' set.
unsigned meet(unsigned mask, const void* data, std::size_t bytes) {
    Machine& m = machine();
    Thread& self = m.thread[m.current];
    bitloom::require(bytes <= slot_bytes, "emulation: ", bytes, " bytes for a warp collective");
    const unsigned set = self.collectives++ % 2;
    std::memcpy(self.slots[set], data, bytes);
    self.mask = mask;
    give_way(State::at_warp_collective);
    return set;
}
}  // namespace

std::uint64_t exchange(unsigned mask, std::uint64_t value, unsigned from) {
    Machine& m = machine();
    const unsigned self = m.current, first = self / warp_size * warp_size;
    const unsigned set = meet(mask, &value, sizeof value);
    if (first + from < m.threads) std::memcpy(&value, m.thread[first + from].slots[set], sizeof value);
    return value;
}

Gathered gather(const void* data, std::size_t bytes) {
    Machine& m = machine();
    const unsigned first = m.current / warp_size * warp_size;
    bitloom::require(first + warp_size <= m.threads, "emulation: a matrix product of part of a warp");
    const unsigned set = meet(0xffffffffu, data, bytes);
    Gathered gathered;
    for (unsigned l = 0; l < warp_size; ++l) gathered.data[l] = m.thread[first + l].slots[set];
    return gathered;
}

}  // namespace emulation
