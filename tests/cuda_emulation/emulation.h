#pragma once
// Runs a CUDA kernel on the host: blocks one after the other, the threads of a block as fibers that change places at
// barriers and warp collectives only. Each thread so runs as far ahead of the others as the kernel lets it, the order
// that a missing barrier survives least; with `Order::backward` the last thread goes first, which catches the other half.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

struct dim3;

namespace emulation {

struct Index {
    unsigned x = 0, y = 0, z = 0;
};
extern Index thread_index, block_index, block_extent, grid_extent;

/// Which thread of a block, and which block of a grid, goes first.
enum class Order { forward, backward };
void set_order(Order order);

/// Runs `thread` for every thread of every block. Dynamic shared memory is allocated for each block anew, of exactly so
/// many bytes, filled with NaN. Throws Error where a barrier is not reached by all threads of its block, or a warp
/// collective not by the lanes that its mask names.
void run(Index grid, Index block, std::size_t shared_bytes, const std::function<void()>& thread);

/// Does a piece of the device's work, or, while a step is captured, puts it down to be done at every replay.
void submit(std::function<void()> work);
/// Captures from here on into `list`, until it is called with null. Throws Error within a capture.
void capture_into(std::vector<std::function<void()>>* list);
bool capturing();

/// Kernel launches so far.
std::uint64_t launches();

// For the headers that stand in for CUDA's.
void wait_for_block();                                                             // __syncthreads
unsigned lane();                                                                   // in the warp
std::uint64_t exchange(unsigned mask, std::uint64_t value, unsigned from);         // gives `value`, returns lane `from`'s
/// Gives `bytes` of data to the warp and returns where those of lane 0 to 31 stand, until the lane's next collective.
struct Gathered {
    const std::byte* data[32];
};
Gathered gather(const void* data, std::size_t bytes);
void* dynamic_shared();

}  // namespace emulation
