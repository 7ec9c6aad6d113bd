#pragma once
// Counter-based random numbers: Philox 4x32-10 (Salmon et al., SC 2011). The same (seed, stream, counter, index) gives the
// same number on every device and in any order, so a resumed run draws what an uninterrupted one would have drawn.

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "engine/tensor.h"

namespace bitloom {

/// One block of Philox 4x32-10: four words from a 128-bit counter and a 64-bit key.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// Uniform in [0, 1) with 24 bits, exact in float32.
inline float to_unit_float(std::uint32_t word) { return static_cast<float>(word >> 8) * 0x1.0p-24f; }
/// Uniform in [0, 1) with 53 bits.
inline double to_unit_double(std::uint32_t high, std::uint32_t low) {
    return static_cast<double>(((static_cast<std::uint64_t>(high) << 32) | low) >> 11) * 0x1.0p-53;
}

/// Names one stream of numbers; plain data, passed to kernels. Element i of draw `counter` is word i % 4 of the block
/// with counter words (i / 4 low, i / 4 high, counter low, counter high) and key `key`.
struct PhiloxStream {
    std::uint64_t key = 0;
    std::uint64_t counter = 0;
    /// Not null: the draw is counter + *device_counter, a number in the memory of the device whose kernel draws. A
    /// captured step holds the address, so that its replays draw anew. Host code takes only streams without it.
    const std::uint64_t* device_counter = nullptr;
    /// The word of element i.
    std::uint32_t word(std::uint64_t i) const;
};

/// Key of the stream `name` under `seed`: SplitMix64 of the seed mixed with FNV-1a of the name.
std::uint64_t stream_key(std::uint64_t seed, std::string_view name);
inline PhiloxStream stream(std::uint64_t seed, std::string_view name, std::uint64_t counter) {
    return {stream_key(seed, name), counter, nullptr};
}

/// Sequential draws from one stream, for host code (shuffles, augmentation, initialisers).
class Rng {
   public:
    explicit Rng(PhiloxStream stream) : stream_(stream) {}
    Rng(std::uint64_t seed, std::string_view name, std::uint64_t counter = 0) : stream_(bitloom::stream(seed, name, counter)) {}
    std::uint32_t next_u32();
    double uniform() {
        const std::uint32_t high = next_u32();
        return to_unit_double(high, next_u32());
    }
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    /// Standard normal, Box-Muller on two uniforms a pair.
    double normal();
    /// Uniform integer in [0, bound), without bias (Lemire's rejection).
    std::uint64_t below(std::uint64_t bound);
    bool coin(double probability = 0.5) { return uniform() < probability; }
    /// Fisher-Yates.
    template <class T>
    void shuffle(std::vector<T>& values) {
        for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
    }

   private:
    PhiloxStream stream_;
    std::uint64_t index_ = 0;
    std::array<std::uint32_t, 4> block_{};
    bool has_spare_ = false;
    double spare_ = 0;
};

void fill_uniform(Tensor& target, double low, double high, Rng& rng);    ///< f32 or f64, any device
void fill_normal(Tensor& target, double mean, double stddev, Rng& rng);  ///< f32 or f64, any device

}  // namespace bitloom
