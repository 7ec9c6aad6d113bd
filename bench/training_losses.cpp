// The losses of the first SGD steps from given weights on CIFAR-10 batches in file order, one a line, to 17 digits: our side
// of pytorch_parity.py.

#include <iomanip>
#include <iostream>

#include "engine/data/loader.h"
#include "engine/io/flags.h"
#include "engine/io/program.h"
#include "engine/optim/optimizer.h"
#include "engine/threads.h"
#include "models/import.h"
#include "ops/loss.h"

using namespace bitloom;

namespace {

struct Settings {
    std::string model = "resnet20", weights, data_dir, device = "cpu", dtype = "f32";
    std::int64_t batch_size = 128, steps = 10, threads = 1;
    double lr = 0.1, momentum = 0.9, weight_decay = 1e-4;
};

int run(int argc, char** argv) {
    Settings s;
    Flags flags("training_losses", "Prints the loss of each of the first SGD steps on unaugmented CIFAR-10 batches in file order.");
    flags.add("model", s.model, "network");
    flags.add("weights", s.weights, "weights to start from");
    flags.add("data-dir", s.data_dir, "folder of the CIFAR-10 binary files");
    flags.add("device", s.device, "cpu or reference");
    flags.add("dtype", s.dtype, "f32, or f64 on the reference device", {.choices = {"f32", "f64"}});
    flags.add("batch-size", s.batch_size, "images a step", {.min = 1});
    flags.add("steps", s.steps, "steps", {.min = 1});
    flags.add("threads", s.threads, "threads", {.min = 1});
    flags.add("lr", s.lr, "learning rate");
    flags.add("momentum", s.momentum, "momentum");
    flags.add("weight-decay", s.weight_decay, "L2 added to the gradient");
    flags.parse(argc, argv);
    set_threads(static_cast<int>(s.threads));

    const Device device = parse_device(s.device);
    const DType dtype = s.dtype == "f64" ? DType::f64 : DType::f32;
    LoadedModel loaded = load_model({.name = s.model}, s.weights);
    Module& network = *loaded.network;
    network.to(dtype);
    network.to(device);

    const DataSplits data = load_dataset({.name = "cifar10", .data_dir = s.data_dir});
    LoaderOptions options;
    options.batch_size = s.batch_size;
    options.normalization = {.divisor = 255, .mean = loaded.file.mean_rgb, .std = loaded.file.std_rgb};
    options.dtype = dtype;
    options.device = device;
    Loader loader(data.train, options);
    loader.start(0);

    const auto optimizer = make_sgd(network.named_parameters(), {.learning_rate = s.lr, .momentum = s.momentum, .weight_decay = s.weight_decay});
    Tape tape;
    Batch batch;
    for (std::int64_t step = 0; step < s.steps && loader.next(batch); ++step) {
        tape.reset();
        Context context{tape, true, 1, static_cast<std::uint64_t>(step)};
        const Var loss = ops::cross_entropy(network(context, tape.input(batch.images)), batch.labels);
        std::cout << std::setprecision(17) << loss.value().item() << std::endl;
        tape.backward(loss);
        optimizer->step();
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, run); }
