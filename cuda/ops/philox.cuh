#pragma once
// Philox 4x32-10 on the device: the numbers of engine/random.h, bit for bit.

#include <cstdint>

#include "cuda/intrinsics.cuh"
#include "engine/random.h"

namespace bitloom::cuda {

struct PhiloxBlock {
    std::uint32_t word[4];
};

__device__ __forceinline__ PhiloxBlock philox4x32(PhiloxBlock c, std::uint32_t key0, std::uint32_t key1) {
    constexpr std::uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        c = {{__umulhi(m1, c.word[2]) ^ c.word[1] ^ key0, m1 * c.word[2], __umulhi(m0, c.word[0]) ^ c.word[3] ^ key1,
              m0 * c.word[0]}};
        key0 += w0;
        key1 += w1;
    }
    return c;
}

/// to_unit_float of engine/random.h.
__device__ __forceinline__ float unit_float(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1.0p-24f; }

/// Words 4 * block to 4 * block + 3 of the stream.
__device__ __forceinline__ PhiloxBlock draw(const PhiloxStream& stream, std::uint64_t block) {
    const std::uint64_t counter = stream.counter + (stream.device_counter ? *stream.device_counter : 0);
    return philox4x32({{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                        static_cast<std::uint32_t>(counter), static_cast<std::uint32_t>(counter >> 32)}},
                      static_cast<std::uint32_t>(stream.key), static_cast<std::uint32_t>(stream.key >> 32));
}

}  // namespace bitloom::cuda
