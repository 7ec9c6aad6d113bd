// train: any network of the registry on any data set, from flags or a configuration file.

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>

#include "apps/common/common_flags.h"
#include "apps/common/history.h"
#include "apps/common/losses.h"
#include "apps/common/report.h"
#include "apps/common/run_folder.h"
#include "apps/common/scheme_flags.h"
#include "apps/common/step_limit.h"
#include "apps/common/text.h"
#include "engine/data/augment.h"
#include "engine/data/loader.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/program.h"
#include "engine/threads.h"
#include "engine/train/callbacks.h"
#include "engine/train/evaluator.h"
#include "engine/train/signals.h"
#include "models/import.h"
#include "models/registry.h"
#include "models/regularizers.h"
#include "ops/convolution_algorithm.h"
#include "ops/precision.h"
#include "quant/checkpoints.h"

namespace bitloom {
namespace {

struct TrainFlags {
    std::string model = "svhn_cnn", variant, init_weights;
    std::int64_t resize = 0;
    bool rgb = false;
    std::string normalize = "unit", augment;
    double validation_split = 0;
    bool drop_last = false, deterministic = false;
    std::int64_t epochs = 10, batch_size = 128, max_steps = 0;
    std::string optimizer = "sgd", schedule = "constant", monitor = "val_accuracy", test_weights = "last";
    double learning_rate = 0.1, momentum = 0.9, weight_decay = 0, l1 = 0, l2 = 0;
    std::int64_t early_stop = 0, checkpoint_every_steps = 0;
    GpuFlags gpu;
    std::string precision = "fp32", dtype = "f32";
};

void add_train_flags(Flags& flags, TrainFlags& values) {
    flags.add("resize", values.resize, "side of the images after bilinear resizing; 0: as they are",
              {.min = 0, .max = 16384});
    flags.add("rgb", values.rgb, "repeat a grey channel three times");
    flags.add(
        "normalize", values.normalize,
        "none (0 to 255), unit (0 to 1), cifar-bsq, cifar-ec2t, mnist-ec2t, per-pixel, per-channel, or m,m,m/s,s,s");
    flags.add("augment", values.augment, "of training images, such as crop4,flip or shift0.1,rotate8,cutout16");
    flags.add("validation-split", values.validation_split,
              "share at the end of the training images that is held out for validation; 0: validate on the test images",
              {.min = 0, .max = 0.9});
    flags.add("drop-last", values.drop_last, "leave out the last batch of an epoch where it is smaller");
    flags.group("Network");
    flags.add("model", values.model, "network to train", {.choices = model_names()});
    flags.add("variant", values.variant,
              "of ResNets: A (parameter-free shortcuts) or B (1x1 convolutions, the default)",
              {.choices = {"", "A", "B"}});
    flags.add("init-weights", values.init_weights, "start from these weights: a checkpoint, or plain HDF5");
    flags.group("Training");
    flags.add("epochs", values.epochs, "passes over the training images", {.min = 1});
    flags.add("max-steps", values.max_steps, "end after so many optimizer steps; 0: no limit", {.min = 0});
    flags.add("batch-size", values.batch_size, "images a step", {.min = 1});
    flags.add("optimizer", values.optimizer, "update rule", {.choices = optimizer_names()});
    flags.add("lr", values.learning_rate, "initial learning rate", {.min = 0});
    flags.add("momentum", values.momentum, "of sgd and rmsprop", {.min = 0, .below = 1});
    flags.add("weight-decay", values.weight_decay, "L2, added to the gradient", {.min = 0});
    flags.add("l1", values.l1, "times the sum of |w| over convolution and dense kernels, added to the loss",
              {.min = 0});
    flags.add("l2", values.l2, "times the sum of w^2 over the same, added to the loss (Keras' kernel regulariser)",
              {.min = 0});
    flags.add("schedule", values.schedule,
              "constant, step:30,60:0.1, every:30:0.1, cosine, plateau:patience=5; warmup:5+... in front");
    flags.add("monitor", values.monitor, "what best.h5 and --early-stop go by",
              {.choices = {"val_accuracy", "val_loss"}});
    flags.add("early-stop", values.early_stop, "end after so many epochs without improvement; 0: never", {.min = 0});
    flags.add("test-weights", values.test_weights, "weights to test at the end", {.choices = {"last", "best"}});
    flags.add("checkpoint-every-steps", values.checkpoint_every_steps, "besides at the end of each epoch", {.min = 0});
    add_deterministic_flag(flags, values.deterministic);
    flags.add("dtype", values.dtype, "f64 on the reference device only", {.choices = {"f32", "f64"}});
    flags.add("precision", values.precision, precision_help, {.choices = ops::precision_names()});
}

void check_usage(const TrainFlags& values, const CommonFlags& common, Device device) {
    if (common.out_dir.empty()) throw UsageError("--out-dir is missing: the folder of the results");
    if (values.precision == "bf16" && values.dtype == "f64") throw UsageError("--precision=bf16 excludes --dtype=f64");
    if (values.dtype == "f64" && device.kind != DeviceKind::reference)
        throw UsageError("--dtype=f64 needs --device=reference: the fast kernels are single precision");
}

struct Data {
    std::shared_ptr<const Dataset> train, validation, test;
    std::shared_ptr<const Dataset>
        statistics;  ///< all training images: `evaluate` must find the same mean and deviation
};

// The last images are held out before any shuffling; int(n (1 - split)) remain, as in Keras.
Data load_data(const DataFlags& source, const TrainFlags& values) {
    DatasetOptions options = dataset_options(source);
    options.resize = values.resize;
    options.rgb = values.rgb;
    const DataSplits splits = load_dataset(options);
    Data data{splits.train, splits.test, splits.test, splits.train};
    if (values.validation_split > 0) {
        std::vector<std::int64_t> all(static_cast<std::size_t>(splits.train->size()));
        std::iota(all.begin(), all.end(), 0);
        const auto kept = static_cast<std::ptrdiff_t>(static_cast<double>(all.size()) * (1 - values.validation_split));
        require(kept > 0 && kept < std::ssize(all), "--validation-split=", values.validation_split, " of ", all.size(),
                " images leaves a part empty");
        data.train = std::make_shared<Subset>(splits.train, std::vector(all.begin(), all.begin() + kept));
        data.validation = std::make_shared<Subset>(splits.train, std::vector(all.begin() + kept, all.end()));
    }
    return data;
}

struct RunFiles {
    explicit RunFiles(const std::string& folder)
        : best(folder + "/best.h5"), last(folder + "/last.h5"), history(folder + "/history.csv") {}
    std::string best, last, history;
};

/// Of parameters; activations have the same or, with --precision bf16, that.
DType dtype_of(const TrainFlags& values) { return values.dtype == "f64" ? DType::f64 : DType::f32; }

ModelOptions network_options(const TrainFlags& values, const Dataset& images) {
    ModelOptions options;
    options.name = values.model;
    options.variant = values.variant;
    options.input = images.image_shape();
    options.classes = images.classes();
    return options;
}

LoaderOptions loader_options(const TrainFlags& values, const Data& data, std::uint64_t seed, Device device) {
    LoaderOptions options;
    options.batch_size = values.batch_size;
    options.seed = seed;
    options.normalization = normalization_by_name(values.normalize, *data.statistics);
    options.dtype = values.dtype == "f64" ? DType::f64 : ops::activation_dtype(values.precision);
    options.device = device;
    options.data_on_device = values.gpu.data();
    return options;
}

void add_callbacks(Trainer& trainer, const TrainFlags& values, const RunFiles& files,
                   const quant::SchemeList& schemes) {
    const auto settled = [&schemes] { return schemes.settled(); };
    if (values.early_stop > 0)
        trainer.add(std::make_shared<EarlyStopping>(
            EarlyStoppingOptions{.metric = values.monitor, .patience = values.early_stop, .counts = settled}));
    trainer.add(ModelCheckpoint::best(files.best, values.monitor, settled));
    trainer.add(
        std::make_shared<LearningRateSchedule>(parse_schedule(values.schedule, values.learning_rate, values.epochs)));
    trainer.add(std::make_shared<CsvHistory>(files.history));
    trainer.add(std::make_shared<ProgressBar>());
}

void write_results(const std::string& out_dir, const ClassificationMetrics& test, const TrainResult& result,
                   const std::string& tested, const std::string& compression, const Flags& flags,
                   const std::string& command) {
    nlohmann::ordered_json summary{{"correct", test.correct()},        {"count", test.count()},
                                   {"accuracy", test.accuracy()},      {"cross_entropy", test.cross_entropy()},
                                   {"tested_weights", tested},         {"epochs", result.history.size()},
                                   {"stop_reason", result.stop_reason}};
    if (!compression.empty()) summary["compression"] = nlohmann::ordered_json::parse(compression);
    write_file_atomically(out_dir + "/summary.json", summary.dump(2) + "\n");
    plot_learning_curves(out_dir, {read_history(out_dir + "/history.csv", "run")});

    Report report("bitloom: training run");
    report.paragraph(cat("Test set, ", tested, " weights: ", test.correct(), " of ", test.count(), " correct (",
                         fixed(100 * test.accuracy(), 2), " %), cross-entropy ", fixed(test.cross_entropy(), 6), "."));
    ReportTable table;
    table.header = {"class", "images", "recall", "precision"};
    std::vector<std::int64_t> confusion;
    for (int c = 0; c < test.classes(); ++c) {
        table.rows.push_back({cat(c), cat(test.label_count(c)), fixed(test.recall(c), 4), fixed(test.precision(c), 4)});
        for (int p = 0; p < test.classes(); ++p) confusion.push_back(test.confusion(c, p));
    }
    report.figure("Learning curves", out_dir + "/learning_curves.svg");
    report.table("Classes of the test set", table);
    if (test.classes() <= 20) report.confusion("Confusion on the test set", confusion, test.classes());
    if (!compression.empty()) report.preformatted("Compression", nlohmann::ordered_json::parse(compression).dump(2));
    report.preformatted("Command line", command);
    report.settings("Settings", settings_of(flags));
    report.write(out_dir + "/report.html");
}

int run(int argc, char** argv) {
    TrainFlags values;
    CommonFlags common;
    DataFlags source;
    Flags flags("train", "Trains a network on a data set, tests it, and writes a report with learning curves.");
    add_common_flags(flags, common);
    add_data_flags(flags, source);
    add_train_flags(flags, values);
    add_gpu_flags(flags, values.gpu, true);
    SchemeFlags scheme_flags;
    add_scheme_flags(flags, scheme_flags);
    flags.example(
        "--model lenet5 --dataset mnist --data-dir data --optimizer adam --lr 1e-3 --epochs 3 --out-dir runs/lenet5",
        "LeNet-5 on MNIST");
    flags.example("--config configs/resnet20_cifar10_10epochs.json --data-dir data --out-dir runs/resnet20",
                  "a recipe from a file");
    flags.example(
        "--model resnet20 --dataset cifar10 --scheme pruning --scheme-config two_of_four.json --out-dir runs/sparse",
        "2:4 sparsity, where the file holds {\"granularity\": \"2:4\"}");
    flags.example("--model svhn_cnn --dataset digits --optimizer keras-amsgrad --lr 3e-3 --bits 4 --out-dir runs/svhn4",
                  "quantization-aware training with 4-bit weights and activations");
    flags.example("--resume --out-dir runs/resnet20", "continues it after an interruption");
    flags.parse(argc, argv);
    if (common.resume && !common.out_dir.empty()) {
        std::vector<std::string> changeable{"resume",         "out-dir",    "data-dir",     "epochs",
                                            "max-steps",      "early-stop", "test-weights", "checkpoint-every-steps",
                                            "data-on-device", "cuda-graph"};
        if (recorded_deterministic(common.out_dir)) changeable.push_back("threads");
        resume_flags(flags, common.out_dir, changeable);
    }
    const Device device = open_device(common.device);
    check_usage(values, common, device);
    quant::SchemeList schemes = make_schemes(scheme_flags);
    ops::use_precision(values.precision, device);
    ops::use_convolution_algorithm(values.gpu.convolution);
    set_threads(static_cast<int>(common.threads));
    set_deterministic(values.deterministic);
    common.threads = thread_count();  // recorded: a resumed run needs as many to compute the same bits
    make_folder(common.out_dir);
    claim_folder(common.out_dir);
    const RunFiles files(common.out_dir);

    const Data data = load_data(source, values);
    const ModelOptions model_options = network_options(values, *data.train);
    const auto seed = static_cast<std::uint64_t>(common.seed);
    const std::unique_ptr<Module> model = make_model(model_options, seed);
    if (!values.init_weights.empty()) quant::load_latent_weights(*model, values.init_weights);
    const bool resumes = common.resume && std::filesystem::exists(files.last);
    if (resumes) schemes = quant::schemes_of(load_checkpoint(files.last).config);  // the file may have changed since
    schemes.attach(*model, model_options.input);
    if (values.init_weights.empty() && !resumes) schemes.adapt_initial_weights(*model);
    model->to(dtype_of(values));
    model->to(device);
    const std::unique_ptr<Optimizer> optimizer = make_optimizer(
        values.optimizer, model->named_parameters(), values.learning_rate, values.weight_decay, values.momentum);

    const LoaderOptions evaluation_options = loader_options(values, data, seed, device);
    LoaderOptions training_options = evaluation_options;
    training_options.shuffle = Shuffle::full;
    training_options.drop_last = values.drop_last;
    training_options.augmentation = parse_augmentations(values.augment);
    Loader training(data.train, training_options), validation(data.validation, evaluation_options);

    StepLimit limit(values.max_steps, install_stop_handlers());
    TrainerOptions options;
    options.epochs = values.epochs;
    options.seed = seed;
    options.checkpoint = files.last;
    options.checkpoint_every_steps = values.checkpoint_every_steps;
    options.stop = &limit.stop();
    options.step_graph = values.gpu.step_graph();
    options.model_description = describe(model_options);
    options.configuration = quant::with_schemes(flags.to_json(), schemes);
    Trainer trainer(*model, *optimizer, cross_entropy_loss(), options);
    if (values.l1 > 0) trainer.add_loss_term(l1_regularizer(kernels_of(*model), values.l1));
    if (values.l2 > 0) trainer.add_loss_term(l2_regularizer(kernels_of(*model), values.l2));
    trainer.add(limit.callback());
    schemes.add_to(trainer);
    add_callbacks(trainer, values, files, schemes);
    // Not before all input has been read: a wrong command loses nothing, and the initial weights may be those of this folder.
    if (!common.resume)
        for (const std::string& old : {files.last, files.best, files.history}) std::filesystem::remove(old);
    write_run_record(common.out_dir, "train", flags, argc, argv, device, thread_count());
    if (resumes) trainer.resume(files.last);
    const TrainResult result = trainer.fit(training, &validation);
    if (result.interrupted && !limit.reached()) {
        std::cerr << "train: interrupted; continue with --resume --out-dir " << common.out_dir << "\n";
        return interrupted_exit_status;
    }

    std::string tested = values.test_weights;
    if (tested == "best" && std::filesystem::exists(files.best)) {
        const Checkpoint best = load_checkpoint(files.best);
        schemes.fit_to(best);
        restore(*model, best);
    } else {
        tested = "last";
    }
    Loader testing(data.test, evaluation_options);
    const ClassificationMetrics test = evaluate(*model, testing);
    const std::string compression = schemes.empty() ? "" : schemes.report(*model);
    write_results(common.out_dir, test, result, tested, compression, flags, command_line(argc, argv));
    std::cout << "correct: " << test.correct() << '/' << test.count() << "\ntop1: " << fixed(100 * test.accuracy(), 2)
              << "\ncross_entropy: " << fixed(test.cross_entropy(), 6)
              << "\n" << report_line(common.out_dir + "/report.html");
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
