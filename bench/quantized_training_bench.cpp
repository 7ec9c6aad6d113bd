// What quantization-aware training costs: steps of a network in floating point and with QKeras quantizers, the same with half
// of the weights pruned too, alternating in short bursts within one run, and the ratio of their best and median times.
// svhn-qkeras' target is 1.20 at most (4-bit weights and activations, SVHN CNN and ResNet-20).
//
// Passes over memory: an activation quantizer runs in the pass that normalises (batch_norm_quantize), forward and backward,
// which the float step makes too. Weights are quantized in one pass, and a pruned weight's mask is multiplied in that same pass
// (WeightTransform::apply_masked); the straight-through gradient of a pruned weight makes none. What pruning adds is the
// schedule's w <- w mask in front of the step, over the weights alone.

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench/support/timing.h"
#include "engine/io/flags.h"
#include "engine/io/program.h"
#include "engine/optim/optimizer.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "models/registry.h"
#include "ops/loss.h"
#include "ops/precision.h"
#include "quant/pruning/pruner.h"
#include "quant/scheme.h"

using namespace bitloom;
using namespace bitloom::bench;

namespace {

/// Repeats a training step on one batch that lies in memory.
class Subject {
   public:
    Subject(const std::string& model, std::int64_t batch, const std::string& scheme, bool pruned, DType activations)
        : model_(make_model({.name = model, .input = {32, 32, 3}, .classes = 10})), images_(Tensor::empty({batch, 32, 32, 3})) {
        Rng rng(1, "images");
        fill_normal(images_, 0, 1, rng);
        images_ = images_.to(activations);
        std::vector<std::int32_t> labels;
        for (std::int64_t i = 0; i < batch; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
        labels_ = Tensor::from({batch}, labels);
        if (!scheme.empty()) quant::SchemeList({"qkeras"}, scheme).attach(*model_, {32, 32, 3});
        if (pruned) {
            quant::pruning::PruningOptions options;
            options.all.schedule = {quant::pruning::SparsitySchedule::Kind::constant, 0.5, 0.5, 1, 1, 1};
            pruner_ = quant::pruning::Pruner::attach(*model_, options);
        }
        optimizer_ = make_sgd(model_->named_parameters(), {.learning_rate = 1e-3, .momentum = 0.9});
    }
    void step() {
        if (pruner_) pruner_->step();
        Context context{tape_, true};
        tape_.backward(ops::cross_entropy((*model_)(context, tape_.input(images_)), labels_));
        tape_.reset();
        optimizer_->step();
        optimizer_->clear_gradients();
    }

   private:
    std::unique_ptr<Module> model_;
    Tensor images_, labels_;
    Tape tape_;
    std::shared_ptr<quant::pruning::Pruner> pruner_;
    std::unique_ptr<Optimizer> optimizer_;
};

struct Row {
    std::string model;
    std::int64_t batch;
};

int run(int argc, char** argv) {
    std::int64_t threads = 1, bits = 4, rounds = 10;
    double seconds = 0.2;
    bool cpu_time = false;
    std::string only, precision = "fp32";
    Flags flags("quantized_training_bench", "Times training steps with and without QKeras quantizers, alternating, and prints the ratio.");
    flags.add("threads", threads, "OpenMP threads; 0: all there are", {.min = 0});
    flags.add("bits", bits, "of weights and activations", {.min = 1, .max = 16});
    flags.add("rounds", rounds, "bursts of each form", {.min = 1});
    flags.add("seconds", seconds, "of a burst", {.min = 0.001});
    flags.add("only", only, "network to time; empty: all");
    flags.add("precision", precision, "of activations: fp32 or bf16", {.choices = {"fp32", "bf16"}});
    flags.add("cpu-time", cpu_time, "count processor time, where others use the machine");
    flags.example("--threads 1 --rounds 10", "SVHN CNN and ResNet-20 with 4-bit weights and activations");
    flags.parse(argc, argv);
    set_threads(static_cast<int>(threads));
    ops::use_precision(precision, cpu_device);
    const DType activations = ops::activation_dtype(precision);
    const Clock clock = cpu_time ? Clock::processor : Clock::wall;
    std::printf("%-12s %6s %-18s %14s %14s %12s %12s\n", "network", "batch", "scheme", "float ms/step", "ms/step", "ratio best", "ratio median");
    for (const Row& row : {Row{"svhn_cnn", 128}, Row{"svhn_cnn", 1024}, Row{"resnet20", 128}}) {
        if (!only.empty() && row.model != only) continue;
        const std::string scheme = cat("{\"bits\": ", bits, "}");
        Subject plain(row.model, row.batch, "", false, activations), quantized(row.model, row.batch, scheme, false, activations),
            pruned(row.model, row.batch, scheme, true, activations);
        Times plain_times, quantized_times, pruned_times;
        for (std::int64_t i = 0; i < rounds; ++i) {
            plain_times.add(burst([&] { plain.step(); }, seconds, clock));
            quantized_times.add(burst([&] { quantized.step(); }, seconds, clock));
            pruned_times.add(burst([&] { pruned.step(); }, seconds, clock));
        }
        const auto print = [&](const std::string& name, const Times& times) {
            std::printf("%-12s %6lld %-18s %14.3f %14.3f %12.3f %12.3f\n", row.model.c_str(), static_cast<long long>(row.batch),
                        name.c_str(), 1e3 * plain_times.best(), 1e3 * times.best(), times.best() / plain_times.best(),
                        times.median() / plain_times.median());
            std::fflush(stdout);
        };
        print(cat(bits, " bits"), quantized_times);
        print(cat(bits, " bits, pruned"), pruned_times);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    ensure_passive_waiting(argv);
    return run_program(argc, argv, run);
}
