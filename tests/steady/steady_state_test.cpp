// A training step in the steady state asks nobody for anything: no block of the system's memory, no oneDNN primitive,
// no operator new. Counted over the real trainer and loader. What libdnnl allocates inside of the execution of a
// primitive is not ours to avoid and is counted apart (host_allocations.h).

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <new>
#include <string>

#include "engine/allocator.h"
#include "engine/threads.h"
#include "engine/train/evaluator.h"
#include "engine/train/trainer.h"
#include "models/registry.h"
#include "ops/cpu/onednn.h"
#include "ops/loss.h"
#include "quant/bsq/scheme.h"
#include "quant/pruning/pruner.h"
#include "quant/scheme.h"
#include "tests/steady/host_allocations.h"

namespace bitloom {
namespace {

std::shared_ptr<const Dataset> random_images(std::int64_t count) {
    Tensor images = Tensor::empty({count, 32, 32, 3}, DType::u8);
    Rng rng(1, "images");
    auto* pixel = images.write<std::uint8_t>();
    for (std::int64_t i = 0; i < images.numel(); ++i) pixel[i] = static_cast<std::uint8_t>(rng.next_u32());
    std::vector<std::int32_t> labels;
    for (std::int64_t i = 0; i < count; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
    return std::make_shared<MemoryDataset>(images, labels, 10);
}

struct Counts {
    std::uint64_t blocks = 0;      // that the caching allocator asked of the system
    std::uint64_t requests = 0;    // of it: shows that the steps did take memory
    std::uint64_t primitives = 0;  // oneDNN's
    HostAllocations host;
    std::int64_t steps = 0;
};

constexpr std::int64_t batch_size = 16, warm_up = 8, counted = 12;  // steps

/// Counts from the end of the warm-up to the end of the last step.
class Counter {
   public:
    /// To be called after each step with the number of steps done.
    void after_step(std::int64_t step) {
        if (step == warm_up + counted) {
            counts.host = stop_counting_allocations();
            counts.blocks = allocator_of(cpu_device).stats().system_allocations - before_.system_allocations;
            counts.requests = allocator_of(cpu_device).stats().requests - before_.requests;
            counts.primitives = ops::cpu::onednn::primitives_created() - primitives_;
            counts.steps = counted;
        }
        if (step == warm_up) {
            before_ = allocator_of(cpu_device).stats();
            primitives_ = ops::cpu::onednn::primitives_created();
            start_counting_allocations();
        }
    }
    Counts counts;

   private:
    AllocatorStats before_;
    std::uint64_t primitives_ = 0;
};

class CountSteps final : public Callback {
   public:
    std::string name() const override { return "count"; }
    void after_step(Trainer& trainer) override { counter.after_step(trainer.state().step); }
    Counter counter;
};

void expect_nothing_allocated(const Counts& counts) {
    ASSERT_EQ(counts.steps, counted);
    EXPECT_GT(counts.requests, 10u * counted) << "the steps took no tensors: the count does not see them";
    EXPECT_EQ(counts.blocks, 0u);
    EXPECT_EQ(counts.primitives, 0u);
    EXPECT_EQ(counts.host.other, 0u) << describe_allocations();
    testing::Test::RecordProperty("libdnnl_allocations_per_step", static_cast<int>(counts.host.onednn / counted));
}

struct Case {
    std::string model, optimizer;
    int threads, workers;
    DType activations = DType::f32;
    std::string quantized{};  ///< configuration of scheme qkeras; empty: none
    bool pruned = false;      ///< half of the weights, from the first step on
};
void PrintTo(const Case& c, std::ostream* out) {
    *out << c.model << ", " << c.optimizer << ", " << c.threads << " thread(s), " << c.workers << " loader thread(s), "
         << name_of(c.activations) << (c.quantized.empty() ? "" : ", " + c.quantized) << (c.pruned ? ", pruned" : "");
}

std::unique_ptr<Module> network_of(const Case& c) {
    auto network = make_model({.name = c.model});
    if (!c.quantized.empty()) quant::SchemeList({"qkeras"}, c.quantized).attach(*network, {32, 32, 3});
    return network;
}

LoaderOptions loader_options(const Dataset& images, const Case& c) {
    LoaderOptions options;
    options.batch_size = batch_size;
    options.shuffle = Shuffle::full;
    options.workers = c.workers;
    options.dtype = c.activations;
    options.augmentation = parse_augmentations("crop4,flip");
    options.normalization = normalization_by_name("cifar-bsq", images);
    return options;
}

class SteadyState : public testing::TestWithParam<Case> {
   protected:
    void TearDown() override { set_threads(0); }
};

TEST_P(SteadyState, TrainingStepsAllocateNothing) {
    const Case& c = GetParam();
    set_threads(c.threads);
    const auto images = random_images(batch_size * (warm_up + counted));
    Loader loader(images, loader_options(*images, c));
    const auto model = network_of(c);
    const auto optimizer = make_optimizer(c.optimizer, model->named_parameters(), 1e-3, 1e-4);
    Trainer trainer(*model, *optimizer,
                    [](Context&, const Var& logits, const Batch& b) { return ops::cross_entropy(logits, b.labels); },
                    {});
    if (c.pruned) {
        quant::pruning::PruningOptions options;
        options.all.schedule = {quant::pruning::SparsitySchedule::Kind::constant, 0.5, 0.5, 1, 1, 1};
        options.scale_to_run = false;
        trainer.add(quant::pruning::Pruner::attach(*model, options));
    }
    const auto callback = std::make_shared<CountSteps>();
    trainer.add(callback);
    trainer.fit(loader);
    expect_nothing_allocated(callback->counter.counts);
}

TEST_P(SteadyState, EvaluatedBatchesAllocateNothing) {
    const Case& c = GetParam();
    if (!c.quantized.empty()) GTEST_SKIP() << "quantized weights are cached under keys that are gathered anew";
    set_threads(c.threads);
    const auto images = random_images(batch_size * (warm_up + counted));
    Loader loader(images, loader_options(*images, c));
    const auto model = network_of(c);
    Counter counter;
    evaluate(*model, loader, {.progress = [&](std::int64_t samples) { counter.after_step(samples / batch_size); }});
    expect_nothing_allocated(counter.counts);
}

// Bit planes, their group Lasso and quantized activations; the adjustment of precision lies between epochs.
TEST(SteadyStateOfBitPlanes, TrainingStepsAllocateNothing) {
    set_threads(1);
    const Case c{"resnet20", "sgd", 1, 1};
    const auto images = random_images(batch_size * (warm_up + counted));
    Loader loader(images, loader_options(*images, c));
    const auto model = make_model({.name = c.model});
    bsq::BsqScheme scheme(bsq::scheme_options_from_json(R"({"bits": 8, "activation": "pact", "activation_bits": 3})"));
    scheme.set_log([](const std::string&) {});
    scheme.attach(*model);
    const auto optimizer = make_optimizer(c.optimizer, model->named_parameters(), 1e-3, 1e-4);
    Trainer trainer(*model, *optimizer,
                    [](Context&, const Var& logits, const Batch& b) { return ops::cross_entropy(logits, b.labels); },
                    {});
    for (const LossTerm& term : scheme.loss_terms()) trainer.add_loss_term(term);
    for (const auto& callback : scheme.callbacks()) trainer.add(callback);
    const auto callback = std::make_shared<CountSteps>();
    trainer.add(callback);
    trainer.fit(loader);
    expect_nothing_allocated(callback->counter.counts);
    set_threads(0);
}

INSTANTIATE_TEST_SUITE_P(Networks, SteadyState,
                         testing::Values(Case{"resnet20", "sgd", 1, 1}, Case{"resnet20", "nesterov", 2, 1},
                                         Case{"svhn_cnn", "adam", 1, 1}, Case{"svhn_cnn", "sgd", 2, 2},
                                         Case{"svhn_cnn", "sgd", 1, 0}, Case{"resnet20", "sgd", 1, 1, DType::bf16},
                                         Case{"svhn_cnn", "adam", 2, 1, DType::bf16},
                                         Case{"resnet20", "sgd", 1, 1, DType::f32, R"({"bits": 4})"},
                                         Case{"svhn_cnn", "adam", 2, 1, DType::f32, R"({"predefined": "ternary"})"},
                                         Case{"resnet20", "sgd", 1, 1, DType::f32, R"({"bits": 4})", true},
                                         Case{"svhn_cnn", "adam", 2, 1, DType::f32, R"({"predefined": "ternary"})", true},
                                         Case{"resnet20", "sgd", 1, 1, DType::bf16, R"({"bits": 4})", true}));

// The counts are worth nothing if they cannot rise.
TEST(Counting, SeesHostAllocationsPrimitivesAndBlocks) {
    const auto blocks = allocator_of(cpu_device).stats().system_allocations;
    const auto primitives = ops::cpu::onednn::primitives_created();
    start_counting_allocations();
    for (int i = 0; i < 3; ++i) ::operator delete(::operator new(8));
    const std::string text(100, 'x');  // by way of libstdc++
    Tensor a = Tensor::full({3, 5}, 1), c = Tensor::empty({3, 3});
    ops::cpu::onednn::matrix_product({.m = 3, .n = 3, .k = 5, .transpose_b = true}, a.raw(), a.raw(),
                                     c.raw_write());
    const Tensor large = Tensor::empty({12345679}, DType::u8);
    const HostAllocations host = stop_counting_allocations();
    EXPECT_EQ(c.values<float>()[4], 5);
    EXPECT_GE(host.other, 4u) << text;
    EXPECT_GE(host.onednn, 1u) << "building a primitive allocates inside of libdnnl";
    EXPECT_THAT(describe_allocations(), testing::HasSubstr("operator new called by"));
    EXPECT_GE(ops::cpu::onednn::primitives_created(), primitives + 1);
    EXPECT_GT(allocator_of(cpu_device).stats().system_allocations, blocks);
    ::operator delete(::operator new(8));
    EXPECT_EQ(stop_counting_allocations().other, host.other) << "counting goes on after it was stopped";
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
