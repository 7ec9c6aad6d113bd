// A training step of BSQ beside the float step of the same network: both in one process, in short bursts that alternate, since
// others may share the machine.
//
// Bytes: a weight of n planes is 2n floats. A step reads the planes for the weights, reads them again and writes their
// gradient (8n bytes each), and the optimizer reads gradient, momentum and planes and writes the last two, which a clamp reads
// and writes: 10 passes of 8n bytes, 640 a weight at 8 planes, 172 MB for ResNet-20's 268,346. The norms of the group Lasso and
// its gradient are computed in the first three of these passes. Activation quantizers cost more than planes: batch norm,
// addition and activation no longer share a pass.

#include <cstdio>
#include <memory>

#include "bench/support/timing.h"
#include "engine/allocator.h"
#include "engine/io/flags.h"
#include "engine/io/program.h"
#include "engine/optim/optimizer.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "models/registry.h"
#include "ops/loss.h"
#include "ops/pointwise.h"
#include "quant/bsq/activation.h"
#include "quant/bsq/bit_network.h"

using namespace bitloom;
using namespace bitloom::bench;

namespace {

struct Form {
    const char* title;
    int bits;  ///< planes; 0: floating point
    bsq::ActivationRule blocks{};
};
constexpr Form forms[] = {{"float", 0},
                          {"8 planes", 8},
                          {"8 planes, ReLU6, 4-bit activations", 8, {bsq::ActivationKind::relu6, 4}},
                          {"8 planes, PACT, 3-bit activations", 8, {bsq::ActivationKind::pact, 3}},
                          {"4 planes", 4}};

class Subject {
   public:
    Subject(const Form& form, const std::string& name, std::int64_t batch)
        : model_(make_model({.name = name, .input = {32, 32, 3}, .classes = 10})) {
        const auto before = allocator_of(cpu_device).stats().bytes_in_use;
        bits_ = std::make_unique<bsq::BitNetwork>(*model_);
        bsq::attach_activations(*model_, {form.blocks, {}});
        if (form.bits > 0) {
            bits_->to_bits(form.bits);
            lasso_ = bits_->group_lasso();
        }
        plane_bytes_ = static_cast<std::int64_t>(allocator_of(cpu_device).stats().bytes_in_use - before);
        optimizer_ = make_sgd(model_->named_parameters(), {.learning_rate = 1e-4, .momentum = 0.9, .weight_decay = 1e-4});
        std::vector<float> pixels(static_cast<std::size_t>(batch * 32 * 32 * 3));
        Rng rng(1, "images");
        for (float& p : pixels) p = static_cast<float>(2 * rng.uniform() - 1);
        images_ = Tensor::from({batch, 32, 32, 3}, pixels);
        std::vector<std::int32_t> labels;
        for (std::int64_t i = 0; i < batch; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
        labels_ = Tensor::from({batch}, labels);
    }
    void step() {
        Context context{tape_, true};
        Var loss = ops::cross_entropy((*model_)(context, tape_.input(images_)), labels_);
        if (lasso_) loss = ops::add(loss, (*lasso_)(context, 5e-3));
        tape_.backward(loss);
        tape_.reset();
        optimizer_->step();
        optimizer_->clear_gradients();
    }
    std::int64_t plane_bytes() const { return plane_bytes_; }

   private:
    std::unique_ptr<Module> model_;
    std::unique_ptr<bsq::BitNetwork> bits_;
    std::shared_ptr<bsq::GroupLasso> lasso_;
    std::unique_ptr<Optimizer> optimizer_;
    Tensor images_, labels_;
    Tape tape_;
    std::int64_t plane_bytes_ = 0;
};

int run(int argc, char** argv) {
    std::string model = "resnet20";
    std::int64_t batch = 128, threads = 1, rounds = 7;
    double seconds = 0.3;
    bool cpu_time = false;
    Flags flags("bsq_bench", "Times training steps in bit planes beside the float step of the same network, alternating.");
    flags.add("model", model, "network", {.choices = model_names()});
    flags.add("batch", batch, "images a step", {.min = 1});
    flags.add("threads", threads, "of a step; 0: what the machine allows", {.min = 0});
    flags.add("rounds", rounds, "bursts of each form", {.min = 1});
    flags.add("seconds", seconds, "of a burst", {.min = 0});
    flags.add("cpu-time", cpu_time, "processor time (one thread), where others use the machine");
    flags.parse(argc, argv);
    set_threads(static_cast<int>(threads));
    std::vector<std::unique_ptr<Subject>> subjects;
    for (const Form& form : forms) subjects.push_back(std::make_unique<Subject>(form, model, batch));
    std::vector<Times> times(subjects.size());
    const Clock clock = cpu_time && threads == 1 ? Clock::processor : Clock::wall;
    for (std::int64_t round = 0; round < rounds; ++round)
        for (std::size_t i = 0; i < subjects.size(); ++i)
            times[i].add(burst([&] { subjects[i]->step(); }, seconds, clock));
    std::printf("%s, batch %lld, %d thread(s)\n%-38s %10s %10s %8s %10s\n", model.c_str(), static_cast<long long>(batch),
                thread_count(), "step", "best ms", "median ms", "ratio", "planes MB");
    for (std::size_t i = 0; i < subjects.size(); ++i)
        std::printf("%-38s %10.2f %10.2f %8.3f %10.2f\n", forms[i].title, 1e3 * times[i].best(), 1e3 * times[i].median(),
                    times[i].best() / times[0].best(), static_cast<double>(subjects[i]->plane_bytes()) / 1e6);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    ensure_passive_waiting(argv);
    return run_program(argc, argv, run);
}
