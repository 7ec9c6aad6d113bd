#include "engine/data/order.h"

#include <algorithm>
#include <numeric>

namespace bitloom {

void fill_order(Shuffle shuffle, std::int64_t count, std::int64_t reservoir, Rng& rng,
                std::vector<std::int64_t>& order) {
    order.resize(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    if (shuffle == Shuffle::full) rng.shuffle(order);
    if (shuffle != Shuffle::reservoir) return;
    require(reservoir > 0, "shuffle: a reservoir of ", reservoir, " elements");
    std::vector<std::int64_t> buffer(order.begin(), order.begin() + std::min(reservoir, count));
    std::int64_t next = static_cast<std::int64_t>(buffer.size());
    for (std::int64_t& emitted : order) {
        const std::size_t drawn = rng.below(buffer.size());
        emitted = buffer[drawn];
        if (next < count) {
            buffer[drawn] = next++;
        } else {
            buffer[drawn] = buffer.back();
            buffer.pop_back();
        }
    }
}

}  // namespace bitloom
