// One table: images a second of training steps and of inference, at one thread and at all, beside PyTorch on the same
// machine in the same run. Short bursts of ours and of PyTorch's layouts alternate, since others may share the machine;
// the ratios are of the best steps and of the medians. Without PyTorch the ratio to the measured floor remains: the
// time of the network's convolutions and dense products alone.

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bench/support/convolution_floor.h"
#include "bench/support/pytorch_process.h"
#include "bench/support/timing.h"
#include "engine/allocator.h"
#include "engine/io/flags.h"
#include "engine/io/program.h"
#include "engine/optim/optimizer.h"
#include "engine/threads.h"
#include "models/folding.h"
#include "models/inference_plan.h"
#include "models/registry.h"
#include "ops/cpu/onednn.h"
#include "ops/loss.h"
#include "tests/steady/host_allocations.h"

using namespace bitloom;
using namespace bitloom::bench;

namespace {

enum class Work {
    training,
    deterministic_training,
    inference,
    folded_inference  ///< batch norms folded, by plans
};

struct Case {
    std::string title;
    std::string model;
    Work work;
    std::int64_t batch;
    DType activations = DType::f32;
    bool trains() const { return work == Work::training || work == Work::deterministic_training; }
    /// Also timed in its plain form, float32 without --deterministic.
    bool has_plain_form() const { return work == Work::deterministic_training || activations != DType::f32; }
    /// PyTorch's forms of the same work; the best counts.
    std::vector<const char*> rivals() const {
        if (trains()) return {"training"};
        if (work == Work::inference) return {"inference"};
        return {"inference", "fused"};
    }
};

/// The rows of the table.
const std::vector<Case>& cases() {
    static const std::vector<Case> all{
        {"ResNet-20 training, batch 128", "resnet20", Work::training, 128},
        {"SVHN CNN training, batch 128", "svhn_cnn", Work::training, 128},
        {"SVHN CNN training, batch 1024", "svhn_cnn", Work::training, 1024},
        {"ResNet-20 inference, batch 128", "resnet20", Work::inference, 128},
        {"SVHN CNN inference, batch 128", "svhn_cnn", Work::inference, 128},
        {"SVHN CNN inference, batch 1024", "svhn_cnn", Work::inference, 1024},
        {"ResNet-20 folded, batch 1", "resnet20", Work::folded_inference, 1},
        {"ResNet-20 folded, batch 128", "resnet20", Work::folded_inference, 128},
        {"ResNet-20 deterministic, 128", "resnet20", Work::deterministic_training, 128},
        {"SVHN CNN deterministic, 128", "svhn_cnn", Work::deterministic_training, 128},
        {"ResNet-20 training bf16, 128", "resnet20", Work::training, 128, DType::bf16},
        {"SVHN CNN training bf16, 128", "svhn_cnn", Work::training, 128, DType::bf16},
    };
    return all;
}

/// What one row repeats: a step on one batch that lies in memory.
class Subject {
   public:
    explicit Subject(const Case& c)
        : shape_{c.batch, 32, 32, 3},
          training_(c.trains()),
          model_(make_model({.name = c.model, .input = {32, 32, 3}, .classes = 10})),
          images_(random_tensor(shape_)),
          products_(products_of(*model_, shape_, training_)),
          tape_(training_ ? Tape::Mode::training : Tape::Mode::inference),
          optimizer_(
              make_sgd(model_->named_parameters(), {.learning_rate = 1e-3, .momentum = 0.9, .weight_decay = 1e-4})) {
        std::vector<std::int32_t> labels;
        for (std::int64_t i = 0; i < c.batch; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
        labels_ = Tensor::from({c.batch}, labels);
        if (c.work != Work::folded_inference) return;
        fold_batch_norm(*model_, shape_);
        planned_ = std::make_unique<PlannedNetwork>(*model_);
    }
    void step() {
        if (planned_) {
            planned_->run(images_);
            return;
        }
        Context context{tape_, training_};
        const Var logits = (*model_)(context, tape_.input(images_));
        if (!training_) return;
        tape_.backward(ops::cross_entropy(logits, labels_));
        tape_.reset();
        optimizer_->step();
        optimizer_->clear_gradients();
    }
    void products() { products_(); }
    /// The dtype of images, and so of activations, from now on.
    void use(DType activations) { images_ = images_.to(activations); }

   private:
    Shape shape_;
    bool training_;
    std::unique_ptr<Module> model_;
    Tensor images_, labels_;
    std::function<void()> products_;
    Tape tape_;
    std::unique_ptr<Optimizer> optimizer_;
    std::unique_ptr<PlannedNetwork> planned_;
};

/// "system blocks / oneDNN primitives / operator new (those of libdnnl)", a step.
std::string allocations(Subject& subject) {
    constexpr int steps = 5;
    subject.step();
    const auto blocks = allocator_of(cpu_device).stats().system_allocations;
    const auto primitives = ops::cpu::onednn::primitives_created();
    start_counting_allocations();
    for (int i = 0; i < steps; ++i) subject.step();
    const HostAllocations host = stop_counting_allocations();
    const auto a_step = [](std::uint64_t n) { return std::to_string((n + steps - 1) / steps); };
    return a_step(allocator_of(cpu_device).stats().system_allocations - blocks) + "/" +
           a_step(ops::cpu::onednn::primitives_created() - primitives) + "/" + a_step(host.other) + " (" +
           a_step(host.onednn) + ")";
}

struct Settings {
    bool quick = false, cpu_time = false;
    std::string python = "/usr/bin/python3", script, only;
    std::int64_t threads = 0, rounds = 7;
    double seconds = 0.5;
};

/// The PyTorch processes: one whose threads sleep while they wait, and one whose threads spin, for several threads.
struct Pytorch {
    PytorchProcess sleeping, spinning;
    explicit Pytorch(const Settings& s) : sleeping(s.python, s.script, false), spinning(s.python, s.script, true) {}
};

struct Variant {
    std::string work, layout;
    bool spinning;
    Times times{};
    std::string name() const {
        return (layout == "contiguous" ? "contiguous" : "channels-last") +
               std::string(work == "fused" ? ", fused" : "") + (spinning ? ", spinning" : "");
    }
};

struct Row {
    Times ours, products;
    Times frozen, plain;            // PyTorch's frozen form of folded inference; ours in float32, not --deterministic
    std::optional<Variant> theirs;  // PyTorch's best
};

Row measure(const Case& c, Subject& subject, int threads, const Settings& s, Pytorch& pytorch) {
    set_threads(threads);
    std::vector<Variant> variants;
    if (pytorch.sleeping.available()) {
        for (const bool spinning : threads > 1 ? std::vector<bool>{false, true} : std::vector<bool>{false})
            for (const char* work : c.rivals())
                for (const char* layout : {"contiguous", "channels_last"}) variants.push_back({work, layout, spinning});
    }
    Row row;
    const Clock clock = s.cpu_time && threads == 1 ? Clock::processor : Clock::wall;
    for (std::int64_t round = 0; round < s.rounds; ++round) {
        const auto time_ours = [&] { return burst([&] { subject.step(); }, s.seconds, clock); };
        const auto time_theirs = [&](PytorchProcess& process, const std::string& work, const std::string& layout) {
            return process.ask(cat(c.model, " ", work, " ", c.batch, " ", layout, " ", threads, " ", s.seconds,
                                   clock == Clock::wall ? " wall" : " processor"));
        };
        set_deterministic(c.work == Work::deterministic_training);
        subject.use(c.activations);
        row.ours.add(time_ours());
        set_deterministic(false);
        subject.use(DType::f32);
        if (c.has_plain_form()) row.plain.add(time_ours());
        for (Variant& v : variants)
            v.times.add(time_theirs(v.spinning ? pytorch.spinning : pytorch.sleeping, v.work, v.layout));
        if (c.work == Work::folded_inference && pytorch.sleeping.available())
            for (PytorchProcess* process : {&pytorch.sleeping, &pytorch.spinning})
                row.frozen.add(time_theirs(*process, "frozen", "contiguous"));
        row.products.add(burst([&] { subject.products(); }, s.seconds / 2, clock));
    }
    subject.use(c.activations);
    for (const Variant& v : variants)
        if (!row.theirs || v.times.best() < row.theirs->times.best()) row.theirs = v;
    return row;
}

void print(const Case& c, int threads, const Row& row, double best_alone, const std::string& allocated) {
    const double images = static_cast<double>(c.batch);
    std::printf("%-31s %3d %9.0f %8.0f  ", c.title.c_str(), threads, images / row.ours.best(),
                images / row.ours.median());
    if (row.theirs)
        std::printf("%9.0f %7.2fx %7.2fx  ", images / row.theirs->times.best(),
                    row.theirs->times.best() / row.ours.best(), row.theirs->times.median() / row.ours.median());
    else
        std::printf("%9s %8s %8s  ", "-", "-", "-");
    std::printf("%6.2f %8s  %-15s %s\n", row.ours.best() / row.products.best(),
                threads == 1
                    ? "-"
                    : cat(static_cast<double>(static_cast<int>(best_alone / row.ours.best() * 100)) / 100).c_str(),
                allocated.c_str(), row.theirs ? row.theirs->name().c_str() : "");
    if (!row.plain.empty())
        std::printf("%35s time against float32 training without --deterministic: %.2f\n", "",
                    row.ours.best() / row.plain.best());
    if (!row.frozen.empty())
        std::printf("%35s against PyTorch frozen into oneDNN's own layouts (%.0f): %.2fx\n", "",
                    images / row.frozen.best(), row.frozen.best() / row.ours.best());
    std::fflush(stdout);
}

/// What the processor calls itself.
std::string processor() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);)
        if (line.starts_with("model name")) return line.substr(std::min(line.size(), line.find(':') + 2));
    return "a processor without a name";
}

int run(int argc, char** argv) {
    Settings s;
    s.script = BITLOOM_SOURCE_DIR "/bench/pytorch_bench.py";
    Flags flags("training_bench", "Images a second of training and inference beside PyTorch, in one table.");
    flags.add("quick", s.quick, "few short bursts: a first impression");
    flags.add("only", s.only, "rows whose title contains this");
    flags.add("threads", s.threads, "threads besides 1 (0: what this machine allows)", {.min = 0});
    flags.add("rounds", s.rounds, "bursts of each side", {.min = 1});
    flags.add("seconds", s.seconds, "length of a burst");
    flags.add("cpu-time", s.cpu_time, "at one thread, count processor time: for machines that others keep busy");
    flags.add("python", s.python, "Python that has PyTorch");
    flags.parse(argc, argv);
    if (s.quick) s.rounds = 2, s.seconds = 0.2;
    const int all = s.threads ? static_cast<int>(s.threads) : default_thread_count();

    Pytorch pytorch(s);
    const bool compares = pytorch.sleeping.available() && pytorch.spinning.available();
    using ops::cpu::onednn::multiplies_bf16, ops::cpu::onednn::multiplies_tiles_of_bf16;
    std::printf("%s, %d threads; oneDNN uses %s, %s\n", processor().c_str(), default_thread_count(),
                ops::cpu::onednn::instruction_set().c_str(),
                multiplies_tiles_of_bf16() ? "bf16 by AMX"
                : multiplies_bf16()        ? "bf16 by AVX-512-BF16, no AMX"
                                           : "no bf16");
    std::printf("Images a second, best of all steps and median; bursts of both sides alternate, %d rounds of %.1f s%s.\n",
                static_cast<int>(s.rounds), s.seconds, s.cpu_time ? "; processor time at one thread" : "");
    if (compares)
        std::printf(
            "PyTorch %s: the best of its memory layouts (and, at several threads, of sleeping and spinning threads).\n",
            pytorch.sleeping.words().c_str());
    else
        std::printf("PyTorch is skipped: %s. What remains is the ratio to the products alone.\n",
                    pytorch.sleeping.words().c_str());
    std::printf(
        "x products: time against the network's float32 convolutions and dense products alone. Allocations a step: system\n"
        "blocks / oneDNN primitives / operator new (and what libdnnl allocates inside of its primitives).\n\n");
    std::printf("%-31s %3s %9s %8s  %9s %8s %8s  %6s %8s  %-15s %s\n", "", "thr", "best", "median", "PyTorch", "ratio",
                "median", "x prod", "x 1 thr", "allocations", "PyTorch's best");
    for (const Case& c : cases()) {
        if (c.title.find(s.only) == std::string::npos) continue;
        if (c.activations == DType::bf16 && !ops::cpu::onednn::multiplies_bf16()) {
            std::printf("%-31s skipped: this CPU has neither AVX-512-BF16 nor AMX\n", c.title.c_str());
            continue;
        }
        set_threads(1);
        Subject subject(c);
        double best_alone = 0;
        for (int threads : all > 1 ? std::vector<int>{1, all} : std::vector<int>{1}) {
            const Row row = measure(c, subject, threads, s, pytorch);
            if (threads == 1) best_alone = row.ours.best();
            print(c, threads, row, best_alone, allocations(subject));
        }
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    ensure_passive_waiting(argv);
    return run_program(argc, argv, run);
}
