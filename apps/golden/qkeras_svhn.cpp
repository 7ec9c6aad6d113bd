// svhn/*: the SVHN network, its folds and its flops.

#include "apps/golden/families.h"
#include "engine/data/kfold.h"

namespace bitloom::golden {

namespace {

constexpr int fold_count = 10;
constexpr std::int64_t train_images = 73257, extra_images = 531131;

Tensor fold_bounds(std::int64_t count, int folds) {
    std::vector<std::int32_t> bounds;
    for (int fold = 0; fold <= folds; ++fold)
        bounds.push_back(static_cast<std::int32_t>(fold_boundary(fold, folds, count)));
    return Tensor::from({folds + 1}, bounds);
}

void kfold(const Case& c) {
    const int folds = static_cast<int>(c.integer_or("folds", fold_count));
    expect_equal("train_bounds", fold_bounds(c.integer("train"), folds), c.tensor("train_bounds", DType::f64));
    expect_equal("extra_bounds", fold_bounds(c.integer("extra"), folds), c.tensor("extra_bounds", DType::f64));
}

/// Images of the training and the validation part of every fold, extra ones included.
void kfold_sizes(const Case& c) {
    std::vector<std::int32_t> train, validation;
    for (int fold = 0; fold < fold_count; ++fold) {
        std::int64_t held_out = 0;
        for (const std::int64_t count : {train_images, extra_images})
            held_out += fold_boundary(fold + 1, fold_count, count) - fold_boundary(fold, fold_count, count);
        validation.push_back(static_cast<std::int32_t>(held_out));
        train.push_back(static_cast<std::int32_t>(train_images + extra_images - held_out));
    }
    expect_equal("train", Tensor::from({fold_count}, train), c.tensor("train", DType::f64));
    expect_equal("val", Tensor::from({fold_count}, validation), c.tensor("val", DType::f64));
}

}  // namespace

void add_qkeras_svhn(Families& families) {
    families.add("svhn/kfold", kfold);
    families.add("svhn/kfold_sizes", kfold_sizes);
}

}  // namespace bitloom::golden
