#pragma once
// k-fold cross-validation by percent boundaries (svhn-qkeras.md, section 3).

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/data/dataset.h"

namespace bitloom {

/// fold * count / folds rounded to nearest, halves to even: of ten folds, the boundary at 10 * fold percent.
std::int64_t fold_boundary(int fold, int folds, std::int64_t count);

/// A fixed permutation of 0..count-1: Fisher-Yates from the back (i = count-1 .. 1), j = high 64 bits of next() * (i +
/// 1), where next() is SplitMix64 (state += 0x9E3779B97F4A7C15, then its finaliser) started at `seed`.
std::vector<std::int64_t> splitmix_permutation(std::int64_t count, std::uint64_t seed);

enum class FoldOrder {
    file,     ///< images as the files hold them
    permuted  ///< each split permuted by splitmix_permutation(size, 1337)
};

struct Fold {
    std::shared_ptr<const Dataset> train, validation;
};

/// Fold `fold` (from 0) of `folds`: with boundaries a and b, validation = train[a:b] + extra[a:b] and
/// train = train[:a] + train[b:] + extra[:a] + extra[b:], in that order; `extra` may be null. Throws Error where fold
/// is not in [0, folds), folds < 2, or a part would be empty.
Fold make_fold(const DataSplits& splits, int fold, int folds = 10, FoldOrder order = FoldOrder::permuted);

}  // namespace bitloom
