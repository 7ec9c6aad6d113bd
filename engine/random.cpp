#include "engine/random.h"

#include <cmath>
#include <numbers>

namespace bitloom {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
    constexpr std::uint32_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, w0 = 0x9E3779B9u, w1 = 0xBB67AE85u;
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t p0 = static_cast<std::uint64_t>(m0) * c[0];
        const std::uint64_t p1 = static_cast<std::uint64_t>(m1) * c[2];
        c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
             static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
        k = {k[0] + w0, k[1] + w1};
    }
    return c;
}

namespace {
std::array<std::uint32_t, 4> block_of(PhiloxStream s, std::uint64_t block) {
    return philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32),
                       static_cast<std::uint32_t>(s.counter), static_cast<std::uint32_t>(s.counter >> 32)},
                      {static_cast<std::uint32_t>(s.key), static_cast<std::uint32_t>(s.key >> 32)});
}
}  // namespace

std::uint32_t PhiloxStream::word(std::uint64_t i) const { return block_of(*this, i / 4)[i % 4]; }

std::uint64_t stream_key(std::uint64_t seed, std::string_view name) {
    std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a, 64 bits
    for (const char ch : name) hash = (hash ^ static_cast<unsigned char>(ch)) * 0x100000001b3u;
    std::uint64_t z = seed + hash + 0x9E3779B97F4A7C15u;  // SplitMix64 finaliser
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

std::uint32_t Rng::next_u32() {
    if (index_ % 4 == 0) block_ = block_of(stream_, index_ / 4);
    return block_[index_++ % 4];
}

double Rng::normal() {
    if (has_spare_) {
        has_spare_ = false;
        return spare_;
    }
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform()));  // 1 - u lies in (0, 1]
    const double angle = 2.0 * std::numbers::pi * uniform();
    spare_ = radius * std::sin(angle);
    has_spare_ = true;
    return radius * std::cos(angle);
}

std::uint64_t Rng::below(std::uint64_t bound) {
    require(bound > 0, "random: an integer below 0 was asked for");
    using Wide = unsigned __int128;
    const std::uint64_t threshold = (0 - bound) % bound;
    for (;;) {
        const std::uint64_t high = next_u32();
        const Wide product = static_cast<Wide>((high << 32) | next_u32()) * bound;
        if (static_cast<std::uint64_t>(product) >= threshold) return static_cast<std::uint64_t>(product >> 64);
    }
}

namespace {
template <class Draw>
void fill_with(Tensor& target, Draw draw) {
    if (!target.device().is_host()) {
        Tensor host = Tensor::empty(target.shape(), target.dtype());
        fill_with(host, draw);
        target.copy_from(host);
        return;
    }
    dispatch_float(target.dtype(), "random fill", [&](auto zero) {
        using T = decltype(zero);
        T* out = target.write<T>();
        for (std::int64_t i = 0; i < target.numel(); ++i) out[i] = static_cast<T>(draw());
    });
}
}  // namespace

void fill_uniform(Tensor& target, double low, double high, Rng& rng) {
    fill_with(target, [&] { return rng.uniform(low, high); });
}
void fill_normal(Tensor& target, double mean, double stddev, Rng& rng) {
    fill_with(target, [&] { return mean + stddev * rng.normal(); });
}

}  // namespace bitloom
