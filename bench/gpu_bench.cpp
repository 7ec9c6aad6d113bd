// One table: images a second of training steps on a GPU, launched one kernel after the other and replayed as one graph,
// beside PyTorch (eager, channels last; compiled, with CUDA graphs) on the same GPU in the same run. Bursts of all sides
// alternate; the ratios are of the medians.

#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/common/common_flags.h"
#include "bench/support/pytorch_process.h"
#include "bench/support/timing.h"
#include "cuda/backend.h"
#include "engine/io/program.h"
#include "engine/optim/optimizer.h"
#include "engine/random.h"
#include "engine/train/device_step.h"
#include "engine/training_kernels.h"
#include "models/registry.h"
#include "ops/convolution_algorithm.h"
#include "ops/loss.h"
#include "ops/precision.h"

using namespace bitloom;
using namespace bitloom::bench;

namespace {

struct Case {
    const char* title;
    const char* model;
    std::int64_t batch;
    const char* precision;
};
constexpr Case cases[] = {{"ResNet-20, batch 128", "resnet20", 128, "fp32"},   {"ResNet-20, batch 128", "resnet20", 128, "tf32"},
                          {"ResNet-20, batch 128", "resnet20", 128, "bf16"},   {"ResNet-20, batch 1024", "resnet20", 1024, "fp32"},
                          {"SVHN CNN, batch 128", "svhn_cnn", 128, "fp32"},    {"SVHN CNN, batch 1024", "svhn_cnn", 1024, "fp32"},
                          {"SVHN CNN, batch 1024", "svhn_cnn", 1024, "bf16"}};

/// Steps between two looks at the clock, as in pytorch_gpu_bench.py.
constexpr int group = 20;

/// A network that trains on one batch that lies in the GPU's memory.
class Subject {
   public:
    Subject(const Case& c, Device device)
        : device_(device),
          kernels_(*training_kernels(device)),
          model_(make_model({.name = c.model, .input = {32, 32, 3}, .classes = 10})),
          tape_(Tape::Mode::training) {
        for (auto& [path, parameter] : model_->named_parameters()) parameter->value = parameter->value.to(device);
        for (auto& [path, buffer] : model_->named_buffers()) *buffer = buffer->to(device);
        Tensor images = Tensor::empty({c.batch, 32, 32, 3});
        Rng rng(1, "bench");
        fill_uniform(images, -1, 1, rng);
        images_ = images.to(ops::activation_dtype(c.precision)).to(device);
        std::vector<std::int32_t> labels;
        for (std::int64_t i = 0; i < c.batch; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
        labels_ = Tensor::from({c.batch}, labels).to(device);
        optimizer_ = make_sgd(model_->named_parameters(), {.learning_rate = 1e-3, .momentum = 0.9, .weight_decay = 1e-4});
        for (int i = 0; i < 3; ++i) launched();  // algorithms are chosen, memory is taken
        kernels_.synchronize(device_);
        graph_.emplace(kernels_, *model_, *optimizer_);
        graph_->capture(device_, [this] { compute(); });
    }
    void launched() {
        compute();
        optimizer_->step();
        optimizer_->clear_gradients();
    }
    void replayed() { graph_->replay(); }

    /// Seconds a step, one number for each group of steps.
    template <class Step>
    std::vector<double> time(Step&& step, double seconds) {
        std::vector<double> times = burst(
            [&] {
                for (int i = 0; i < group; ++i) step();
                kernels_.synchronize(device_);
            },
            seconds, Clock::wall);
        for (double& t : times) t /= group;
        return times;
    }

   private:
    void compute() {
        Context context{tape_, true};
        tape_.backward(ops::cross_entropy((*model_)(context, tape_.input(images_)), labels_));
        tape_.reset();
    }

    Device device_;
    const TrainingKernels& kernels_;
    std::unique_ptr<Module> model_;
    Tape tape_;
    Tensor images_, labels_;
    std::unique_ptr<Optimizer> optimizer_;
    std::optional<CapturedStep> graph_;
};

struct Settings {
    std::string device = "cuda", python = "/usr/bin/python3", only, convolution = "auto";
    std::int64_t rounds = 5;
    double seconds = 0.5;
};

void print_row(const Case& c, double images, const Times& launched, const Times& replayed, const Times& eager,
               const Times& compiled) {
    std::printf("%-22s %-5s %10.0f %10.0f", c.title, c.precision, images / launched.median(), images / replayed.median());
    for (const Times* theirs : {&eager, &compiled}) {
        if (theirs->empty())
            std::printf(" %10s %8s", "-", "-");
        else
            std::printf(" %10.0f %7.2fx", images / theirs->median(), theirs->median() / replayed.median());
    }
    std::printf("\n");
    std::fflush(stdout);
}

int run(int argc, char** argv) {
    Settings s;
    Flags flags("gpu_bench",
                "Images a second of training on a GPU beside PyTorch, in one table. Where the rest of a step's time goes, "
                "nsys shows: nsys profile --stats=true bin/gpu_bench --only ResNet --rounds 1.");
    flags.add("device", s.device, "cuda or cuda:N");
    flags.add("only", s.only, "rows whose title contains this");
    flags.add("rounds", s.rounds, "bursts of each side", {.min = 1});
    flags.add("seconds", s.seconds, "length of a burst");
    flags.add("conv-algo", s.convolution, "algorithm of convolutions", {.choices = ops::convolution_algorithm_names()});
    flags.add("python", s.python, "Python that has PyTorch");
    flags.parse(argc, argv);
    const Device device = open_device(s.device);
    if (device.is_host()) throw UsageError("--device: training_bench is for CPUs, this program for GPUs");
    ops::use_convolution_algorithm(s.convolution);

    PytorchProcess pytorch(s.python, BITLOOM_SOURCE_DIR "/bench/pytorch_gpu_bench.py", true);
    std::printf("%s; images a second, medians of %d bursts of %.1f s. ", cuda::description().c_str(),
                static_cast<int>(s.rounds), s.seconds);
    if (pytorch.available())
        std::printf("PyTorch %s; ratios are those of the graph.\n\n", pytorch.words().c_str());
    else
        std::printf("PyTorch is skipped: %s.\n\n", pytorch.words().c_str());
    std::printf("%-28s %10s %10s %10s %8s %10s %8s\n", "training", "launched", "graph", "eager", "ratio", "compiled", "ratio");
    for (const Case& c : cases) {
        if (std::string(c.title).find(s.only) == std::string::npos) continue;
        ops::use_precision(c.precision, device);
        Subject subject(c, device);
        Times launched, replayed, eager, compiled;
        for (std::int64_t round = 0; round < s.rounds; ++round) {
            launched.add(subject.time([&] { subject.launched(); }, s.seconds));
            replayed.add(subject.time([&] { subject.replayed(); }, s.seconds));
            if (!pytorch.available()) continue;
            const auto ask = [&](const char* form) {
                return pytorch.ask(cat(c.model, " ", form, " ", c.batch, " ", c.precision, " ", s.seconds));
            };
            eager.add(ask("eager"));
            compiled.add(ask("compiled"));
        }
        print_row(c, static_cast<double>(c.batch), launched, replayed, eager, compiled);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, run); }
