#pragma once
// `digits`: a procedural data set of house-number-like digits. Vector skeletons in three type faces a digit, bent,
// slanted, rotated and seen in perspective, drawn as strokes in two colours over a shaded and noisy background, with
// the neighbours of the number cut off at the borders. The middle digit is the label. Ink may be darker or lighter than
// its ground, so a linear classifier of the pixels stays below 20 %, while the SVHN network (14,222 parameters) reaches
// 95 to 96 % after 10 epochs at batch 1024 (measured with PyTorch, Adam 3e-3).

#include <cstdint>
#include <memory>

#include "engine/data/dataset.h"

namespace bitloom {

enum class DigitsSplit { train, test, extra };

struct DigitsOptions {
    std::uint64_t seed = 1;
    DigitsSplit split = DigitsSplit::train;
    std::int64_t size = 60000;
    bool grey = false;  ///< 28x28x1 instead of 32x32x3
    int threads = 0;    ///< 0: thread_count() of the caller
};

/// Image i depends on (seed, split, i) alone: splits never share an image, a smaller set is the beginning of a larger
/// one, and the number of threads changes nothing. Labels are drawn uniformly. Throws Error where size < 1.
std::shared_ptr<MemoryDataset> generate_digits(const DigitsOptions& options);

}  // namespace bitloom
