// pruning/*: schedules, masks, and a pruned trajectory.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "apps/golden/families.h"
#include "engine/error.h"
#include "models/layers/dense.h"
#include "quant/pruning/pruner.h"

namespace bitloom::golden {

namespace {

using namespace quant::pruning;

constexpr double tolerance = 1e-6;

/// Attributes of a schedule; those that a constant one lacks keep their defaults.
SparsitySchedule schedule_of(const Case& c, SparsitySchedule::Kind kind) {
    SparsitySchedule schedule;
    schedule.kind = kind;
    schedule.final_sparsity = c.number(c.given("final_sparsity") ? "final_sparsity" : "target_sparsity");
    schedule.initial_sparsity = c.number_or("initial_sparsity", schedule.final_sparsity);
    schedule.begin = c.integer("begin_step");
    schedule.end = c.integer_or("end_step", -1);
    schedule.frequency = c.integer_or("frequency", schedule.frequency);
    schedule.power = c.number_or("power", schedule.power);
    return schedule;
}

void decay(const Case& c, SparsitySchedule::Kind kind) {
    const SparsitySchedule schedule = schedule_of(c, kind);
    const std::vector<double> steps = c.tensor("step", DType::f64).values<double>();
    std::vector<float> sparsity, due;
    for (const double step : steps) {
        sparsity.push_back(schedule.sparsity(static_cast<std::int64_t>(step)));
        due.push_back(schedule.due(static_cast<std::int64_t>(step)));
    }
    const Shape shape{std::ssize(steps)};
    expect_close("sparsity", Tensor::from(shape, sparsity), c.tensor("sparsity"), tolerance);
    expect_equal("should_prune", Tensor::from(shape, due), c.tensor("should_prune"));
}

void mask(const Case& c) {
    const std::vector<float> w = c.tensor("w").values<float>();
    std::vector<float> found(w.size()), scratch;
    const float threshold = element_mask<float>(w, static_cast<float>(c.number("sparsity")), found, scratch);
    const Tensor want = c.tensor("mask");
    expect_equal("mask", Tensor::from(want.shape(), found), want);
    expect_close("threshold", static_cast<double>(threshold), c.number("threshold"), tolerance);
    if (c.given("kept"))
        expect_equal("kept", static_cast<double>(std::count(found.begin(), found.end(), 1.F)), c.number("kept"));
}

void block_mask_case(const Case& c) {
    const Tensor w = c.tensor("w");
    require(w.rank() == 2, "w has rank ", w.rank());
    const auto block = nlohmann::json::parse(c.text("block")).get<std::vector<std::int64_t>>();
    require(block.size() == 2, "block has ", block.size(), " extents");
    MaskRule rule;
    rule.granularity = Granularity::block;
    rule.block_rows = block[0], rule.block_columns = block[1];
    const std::string pooling = c.text("pooling");
    require(pooling == "AVG" || pooling == "MAX", "unknown pooling ", pooling);
    rule.pooling = pooling == "AVG" ? BlockPooling::average : BlockPooling::maximum;

    const std::int64_t rows = w.dim(0), columns = w.dim(1);
    const MatrixView<const float> matrix{w.read<float>(), rows, columns, columns, 1};
    std::vector<float> pooled, scratch, found(static_cast<std::size_t>(rows * columns));
    pool_blocks(matrix, rule, pooled);
    const Tensor want_pooled = c.tensor("pooled");
    expect_close("pooled", Tensor::from(want_pooled.shape(), pooled), want_pooled, tolerance);
    const float threshold = block_mask<float>(matrix, rule, static_cast<float>(c.number("sparsity")),
                                              {found.data(), rows, columns, columns, 1}, scratch);
    expect_equal("mask", Tensor::from(w.shape(), found), c.tensor("mask"));
    expect_close("threshold", static_cast<double>(threshold), c.number("threshold"), tolerance);
}

/// Plain gradient descent on one pruned layer, as the pruner runs it in training.
void trajectory(const Case& c) {
    const Tensor w0 = c.tensor("w0"), gradients = c.tensor("grads");
    require(gradients.rank() >= 1 && w0.rank() == 2, "w0 has rank ", w0.rank());
    const std::int64_t steps = gradients.dim(0), n = w0.numel();
    layers::Dense layer({.in = w0.dim(1), .out = w0.dim(0), .bias = false});
    layer.assign_paths("layer");
    layer.weight.value.copy_from(w0);
    PruningOptions options;
    options.all.schedule = schedule_of(c, SparsitySchedule::Kind::polynomial);
    const auto pruner = Pruner::attach(layer, options);

    const auto rate = static_cast<float>(c.number("lr"));
    std::vector<float> masks, weights;
    const float* gradient = gradients.read<float>();
    for (std::int64_t t = 0; t < steps; ++t, gradient += n) {
        pruner->step();
        const std::vector<float> present = mask_of(layer.weight)->mask().values<float>();
        masks.insert(masks.end(), present.begin(), present.end());
        float* w = layer.weight.value.write<float>();
        for (std::int64_t i = 0; i < n; ++i) w[i] -= rate * gradient[i];
        weights.insert(weights.end(), w, w + n);
    }
    pruner->apply_masks();
    expect_equal("masks", Tensor::from(gradients.shape(), masks), c.tensor("masks"));
    expect_close("weights_after_step", Tensor::from(gradients.shape(), weights), c.tensor("weights_after_step"),
                 tolerance);
    expect_close("final_masked", layer.weight.value, c.tensor("final_masked"), tolerance);
}

}  // namespace

void add_qkeras_pruning(Families& families) {
    families.add("pruning/polynomial_decay/*", [](const Case& c) { decay(c, SparsitySchedule::Kind::polynomial); });
    families.add("pruning/constant_sparsity/*", [](const Case& c) { decay(c, SparsitySchedule::Kind::constant); });
    families.add("pruning/mask/*", mask);
    families.add("pruning/block_mask/*", block_mask_case);
    families.add("pruning/trajectory", trajectory);
}

}  // namespace bitloom::golden
