#pragma once
// Counts calls of operator new. Linking host_allocations.cpp replaces the global operators of the whole process.

#include <cstdint>
#include <string>

namespace bitloom {

/// Calls of operator new since start_counting_allocations, by the shared object that made the call. libdnnl allocates a
/// few small blocks each time a primitive is executed, which no caller of it can avoid: they are counted apart.
struct HostAllocations {
    std::uint64_t onednn = 0;  ///< called from libdnnl's own code
    std::uint64_t other = 0;   ///< from everything else: bitloom, the C++ library, the test itself
};

/// Starts from zero; every thread of the process counts.
void start_counting_allocations();
HostAllocations stop_counting_allocations();
/// The calls of the last count that did not come from libdnnl, one call stack a line, the first few.
std::string describe_allocations();

}  // namespace bitloom
