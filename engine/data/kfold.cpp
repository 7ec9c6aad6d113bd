#include "engine/data/kfold.h"

#include <numeric>
#include <utility>

namespace bitloom {

std::int64_t fold_boundary(int fold, int folds, std::int64_t count) {
    require(folds >= 1 && fold >= 0 && fold <= folds, "folds: boundary ", fold, " of ", folds);
    const std::int64_t product = fold * count, quotient = product / folds, rest = product % folds;
    const bool up = 2 * rest > folds || (2 * rest == folds && quotient % 2 == 1);
    return quotient + (up ? 1 : 0);
}

std::vector<std::int64_t> splitmix_permutation(std::int64_t count, std::uint64_t seed) {
    std::vector<std::int64_t> order(static_cast<std::size_t>(count));
    std::iota(order.begin(), order.end(), std::int64_t{0});
    std::uint64_t state = seed;
    for (std::size_t i = order.size(); i > 1; --i) {
        std::uint64_t z = state += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        z ^= z >> 31;
        const auto j = static_cast<std::size_t>((static_cast<unsigned __int128>(z) * i) >> 64);
        std::swap(order[i - 1], order[j]);
    }
    return order;
}

namespace {

/// Appends positions [first, last) of a split's order to the parts.
void append(std::vector<std::shared_ptr<const Dataset>>& parts, const std::shared_ptr<const Dataset>& split,
            const std::vector<std::int64_t>& order, std::int64_t first, std::int64_t last) {
    if (first < last)
        parts.push_back(
            std::make_shared<Subset>(split, std::vector<std::int64_t>(order.begin() + first, order.begin() + last)));
}

std::shared_ptr<const Dataset> joined(std::vector<std::shared_ptr<const Dataset>> parts) {
    return parts.size() == 1 ? parts[0] : std::make_shared<ConcatDataset>(std::move(parts));
}

}  // namespace

Fold make_fold(const DataSplits& splits, int fold, int folds, FoldOrder order) {
    require(folds >= 2, "folds: cross-validation needs at least 2, got ", folds);
    require(fold >= 0 && fold < folds, "folds: fold ", fold, " of ", folds);
    require(splits.train != nullptr, "folds: no training images given");
    constexpr std::uint64_t permutation_seed = 1337;
    std::vector<std::shared_ptr<const Dataset>> train, validation;
    for (const auto& split : {splits.train, splits.extra}) {
        if (!split) continue;
        const std::int64_t count = split->size();
        std::vector<std::int64_t> positions;
        if (order == FoldOrder::permuted) {
            positions = splitmix_permutation(count, permutation_seed);
        } else {
            positions.resize(static_cast<std::size_t>(count));
            std::iota(positions.begin(), positions.end(), std::int64_t{0});
        }
        const std::int64_t low = fold_boundary(fold, folds, count), high = fold_boundary(fold + 1, folds, count);
        append(train, split, positions, 0, low);
        append(train, split, positions, high, count);
        append(validation, split, positions, low, high);
    }
    require(!train.empty() && !validation.empty(), "folds: too few images for ", folds, " folds");
    return {joined(std::move(train)), joined(std::move(validation))};
}

}  // namespace bitloom
