#pragma once
// In which order an epoch visits the images.

#include <cstdint>
#include <vector>

#include "engine/data/loader.h"
#include "engine/random.h"

namespace bitloom {

/// Writes the order of `count` images into `order`. none: ascending. full: a Fisher-Yates permutation. reservoir: a
/// buffer takes the first `reservoir` images; each draw emits a random element of the buffer, whose place the next
/// image of the stream takes; at the end of the stream the buffer empties in random order (tf.data's Dataset.shuffle).
/// All draws are from `rng`.
void fill_order(Shuffle shuffle, std::int64_t count, std::int64_t reservoir, Rng& rng,
                std::vector<std::int64_t>& order);

}  // namespace bitloom
