#pragma once
// Division of numbers below 2^31 by a divisor that the host knows: a multiplication and a shift (Granlund and Montgomery,
// "Division by invariant integers using multiplication", 1994).

#include <bit>
#include <cstdint>

#include "cuda/common.h"

namespace bitloom::cuda {

struct FastDivisor {
    std::uint32_t divisor = 1, multiplier = 0, shift = 0;

    FastDivisor() = default;
    explicit FastDivisor(std::int64_t by) : divisor(static_cast<std::uint32_t>(by)) {
        if (divisor <= 1) return;
        const unsigned power = 31 + static_cast<unsigned>(std::bit_width(divisor - 1));
        multiplier = static_cast<std::uint32_t>(((std::uint64_t{1} << power) + divisor - 1) / divisor);
        shift = power - 32;
    }
    __device__ __forceinline__ int quotient(int n) const {
        return divisor <= 1 ? n : static_cast<int>(__umulhi(static_cast<std::uint32_t>(n), multiplier) >> shift);
    }
    /// The quotient; n becomes the rest.
    __device__ __forceinline__ int divide(int& n) const {
        const int q = quotient(n);
        n -= q * static_cast<int>(divisor);
        return q;
    }
};

}  // namespace bitloom::cuda
