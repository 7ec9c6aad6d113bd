// svhn_kfold: the SVHN network trained on each fold of k-fold cross-validation (svhn-qkeras.md, sections 2.1 to 6).

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "apps/common/common_flags.h"
#include "apps/common/fold_run.h"
#include "apps/common/history.h"
#include "apps/common/run_folder.h"
#include "apps/common/side_by_side.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/program.h"
#include "engine/threads.h"
#include "engine/train/signals.h"
#include "models/registry.h"
#include "ops/precision.h"

namespace bitloom {
namespace {

// Names and defaults of the published program; ours stand in CommonFlags, DataFlags and below "Beyond the published
// program".
struct KfoldFlags {
    bool optimize = false, single = false, debug = false, prune = false, quantize = false, load_model = false;
    std::string load_model_from;
    std::vector<std::int64_t> filters, neurons, kernels, strides, pooling;
    std::vector<double> dropout;
    std::string activation = "relu", network;
    std::int64_t folds = 10, start = 0, epochs = 100, batch_size = 512, buffer_size = 1024, classes = 10;
    double learning_rate = 3e-3, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-7;
    std::string augment, moving_variance = "fused", precision = "fp32";
    bool reference_last_epoch = false, file_order = false, deterministic = false;
    std::int64_t jobs = 0, checkpoint_every_steps = 0;
};

void add_kfold_flags(Flags& flags, KfoldFlags& values) {
    flags.group("Folds");
    flags.add("folds", values.folds, "number of folds", {.min = 2});
    flags.add("start", values.start, "first fold to train", {.min = 0});
    flags.add("single", values.single, "train one fold only, the first");
    flags.add("jobs", values.jobs, "folds trained side by side; 0: one for each processor", {.min = 0});
    flags.add("optimize", values.optimize, "leave out SVHN's extra images");
    flags.add("debug", values.debug, "leave out SVHN's extra images");
    flags.group("Network");
    flags.add("KerasModel", values.network, "builder of the network", {.choices = {"", "float_cnn"}});
    flags.add("Filters", values.filters, "of each convolution (none: 16,16,24)", {.min = 1});
    flags.add("Kernel", values.kernels, "side of each convolution's kernel (none: 3,3,3)", {.min = 1});
    flags.add("Strides", values.strides, "of each convolution (none: 1,1,1)", {.min = 1});
    flags.add("Pooling", values.pooling, "after each convolution: 2 maximum, 1 identity, 0 nothing (none: 2,2,2)",
              {.min = 0, .max = 2});
    flags.add("Dropout", values.dropout, "one value a convolution; the published network ignores them",
              {.min = 0, .max = 1});
    flags.add("Neurons", values.neurons, "of each hidden dense layer (none: 42,64)", {.min = 1});
    flags.add("Activation", values.activation, "behind each normalisation");
    flags.add("nclasses", values.classes, "number of classes", {.min = 1});
    flags.add("bn-moving-var", values.moving_variance,
              "which batch variance enters the moving one on feature maps: unbiased (fused) or biased",
              {.choices = {"fused", "biased"}});
    flags.add("loadModel", values.load_model, "start from the weights of --lmodel");
    flags.add("lmodel", values.load_model_from,
              "checkpoint, or folder with model_best.h5, as it stands or below out-dir");
    flags.add("quantize", values.quantize, "quantization-aware training over bit widths (not in this version)");
    flags.add("prune", values.prune, "magnitude pruning (not in this version)");
    flags.group("Training");
    flags.add("epochs", values.epochs, "at most", {.min = 1});
    flags.add("batchsize", values.batch_size, "images a step", {.min = 1});
    flags.add("buffersize", values.buffer_size, "images in the shuffle buffer", {.min = 100});
    flags.add("lr", values.learning_rate, "Adam's learning rate", {.min = 0});
    flags.add("beta_1", values.beta1, "Adam's decay of the mean", {.min = 0});
    flags.add("beta_2", values.beta2, "Adam's decay of the square", {.min = 0});
    flags.add("epsilon", values.epsilon, "Adam's epsilon", {.min = 0});
    flags.group("Beyond the published program");
    flags.add("augment", values.augment, "augmentations, such as rotate8,shift0.1 (published: none)");
    flags.add("precision", values.precision, precision_help, {.choices = ops::precision_names()});
    flags.add("reference-last-epoch", values.reference_last_epoch,
              "test the last epoch's weights, as the published program does, not the best");
    flags.add("file-order", values.file_order,
              "cut the folds in the order of the files instead of a fixed permutation");
    add_deterministic_flag(flags, values.deterministic);
    flags.add("checkpoint-every-steps", values.checkpoint_every_steps, "besides at the end of each epoch", {.min = 0});
}

ModelOptions model_options(const KfoldFlags& values) {
    const std::size_t n = values.filters.size();
    for (const std::size_t length : {values.kernels.size(), values.strides.size(), values.pooling.size()})
        if (length != n)
            throw UsageError("--Filters, --Kernel, --Strides and --Pooling need one value a convolution each");
    if (!values.dropout.empty() && values.dropout.size() != n)
        throw UsageError(
            cat("--Dropout has ", values.dropout.size(), " values, expected one for each of ", n, " convolutions"));
    ModelOptions options;
    options.name = "svhn_cnn";
    options.classes = values.classes;
    options.activation = values.activation;
    options.moving_variance = values.moving_variance == "fused" ? "keras_fused" : "biased";
    options.filters = values.filters;
    options.kernels = values.kernels;
    options.strides = values.strides;
    options.pooling = values.pooling;
    options.dense_units = values.neurons;
    return resolve(options);
}

void check_usage(const KfoldFlags& values, const CommonFlags& common) {
    if (values.quantize) throw UsageError("--quantize: quantization-aware training is not in this version");
    if (values.prune) throw UsageError("--prune: pruning is not in this version");
    if (common.out_dir.empty()) throw UsageError("--out-dir (or --outdir) is missing: the folder of the results");
    if (values.start >= values.folds)
        throw UsageError(cat("--start=", values.start, ": the folds are 0 to ", values.folds - 1));
    if (values.load_model && values.load_model_from.empty()) throw UsageError("--loadModel needs --lmodel");
}

std::string initial_weights(const KfoldFlags& values, const std::string& out_dir) {
    if (!values.load_model) return {};
    for (const std::string& base : {values.load_model_from, out_dir + "/" + values.load_model_from}) {
        const std::string file = std::filesystem::is_directory(base) ? base + "/model_best.h5" : base;
        if (std::filesystem::is_regular_file(file)) return file;
    }
    fail("--lmodel: neither ", values.load_model_from, " nor ", out_dir, "/", values.load_model_from, " is there");
}

std::string fold_name(const KfoldFlags& values, std::int64_t fold) {
    if (!values.load_model) return cat("full_", fold);
    return cat(std::filesystem::path(values.load_model_from).stem().string(), "_", fold);
}

/// The flags, and the normalisation by the name under which `evaluate` finds it again.
std::string checkpoint_configuration(const Flags& flags) {
    auto json = nlohmann::ordered_json::parse(flags.to_json());
    json["normalize"] = "per-pixel";
    return json.dump();
}

FoldSettings fold_settings(const KfoldFlags& values, const CommonFlags& common, const Flags& flags) {
    FoldSettings settings;
    settings.model = model_options(values);
    settings.initial_weights = initial_weights(values, common.out_dir);
    settings.adam = {.learning_rate = values.learning_rate,
                     .beta1 = values.beta1,
                     .beta2 = values.beta2,
                     .epsilon = values.epsilon,
                     .amsgrad = true,
                     .convention = Convention::keras};
    settings.epochs = values.epochs;
    settings.batch_size = values.batch_size;
    settings.buffer_size = values.buffer_size;
    settings.augmentation = parse_augmentations(values.augment);
    settings.seed = static_cast<std::uint64_t>(common.seed);
    settings.device = open_device(common.device);
    settings.activations = ops::activation_dtype(values.precision);
    ops::use_precision(values.precision, settings.device);
    settings.resume = common.resume;
    settings.test_last_epoch = values.reference_last_epoch;
    settings.checkpoint_every_steps = values.checkpoint_every_steps;
    settings.threads = static_cast<int>(common.threads);
    settings.configuration = checkpoint_configuration(flags);
    return settings;
}

void write_results(const std::string& out_dir, const std::vector<FoldScore>& scores,
                   const std::vector<std::string>& names, const Flags& flags, const std::string& command) {
    write_file_atomically(out_dir + "/folds.csv", fold_csv(scores));
    write_file_atomically(out_dir + "/summary.json", fold_summary_json(scores));
    std::vector<LearningCurve> curves;
    for (const std::string& name : names)
        curves.push_back(read_history(cat(out_dir, "/", name, "/history_dict.csv"), name));
    plot_learning_curves(out_dir, curves);

    std::vector<std::int64_t> confusion(scores.front().confusion.size(), 0);
    for (const FoldScore& score : scores)
        std::transform(confusion.begin(), confusion.end(), score.confusion.begin(), confusion.begin(), std::plus<>());
    Report report("bitloom: k-fold training of the SVHN network");
    report.paragraph(headline(scores));
    report.table("Folds", fold_table(scores));
    report.figure("Learning curves", out_dir + "/learning_curves.svg");
    report.confusion("Confusion on the test set, summed over the folds", confusion, scores.front().classes);
    report.preformatted("Command line", command);
    report.settings("Settings", settings_of(flags));
    report.write(out_dir + "/report.html");
}

DataSplits load_images(const DataFlags& data_flags, const KfoldFlags& values) {
    DatasetOptions source = dataset_options(data_flags);
    source.resize = 32;
    source.rgb = true;
    source.extra = source.name == "svhn" && !values.debug && !values.optimize;
    DataSplits splits = load_dataset(source);
    require(splits.train->classes() <= values.classes, data_flags.dataset, " has ", splits.train->classes(),
            " classes, --nclasses=", values.classes);
    return splits;
}

int run(int argc, char** argv) {
    KfoldFlags values;
    CommonFlags common;
    DataFlags data_flags;
    data_flags.dataset = "svhn";
    Flags flags("svhn_kfold",
                "Trains the SVHN network on each fold of k-fold cross-validation, tests it, and writes a report with "
                "learning curves.");
    add_common_flags(flags, common);
    flags.alias("outdir", "out-dir");
    add_data_flags(flags, data_flags);
    add_kfold_flags(flags, values);
    flags.example("--dataset digits --folds 2 --epochs 5 --out-dir runs/digits", "two folds on the built-in digits");
    flags.example("--flagfile=configs/svhn_cnn.cfg --data-dir data --out-dir runs/svhn",
                  "the published experiment on SVHN");
    flags.example("--resume --out-dir runs/svhn", "continues it after an interruption");
    flags.parse(argc, argv);
    if (common.resume && !common.out_dir.empty()) {
        std::vector<std::string> changeable{"resume", "out-dir", "data-dir", "jobs",
                                            "epochs", "start",   "single",   "checkpoint-every-steps"};
        if (recorded_deterministic(common.out_dir)) changeable.push_back("threads");
        resume_flags(flags, common.out_dir, changeable);
    }
    check_usage(values, common);

    const std::int64_t processors = default_thread_count();
    const std::int64_t jobs = values.jobs > 0
                                  ? values.jobs
                                  : std::min<std::int64_t>(processors, values.single ? 1 : values.folds - values.start);
    // Recorded, so that a resumed run computes the same bits wherever and with however many folds it goes on.
    if (common.threads == 0) common.threads = std::max<std::int64_t>(1, processors / jobs);

    set_deterministic(values.deterministic);
    FoldSettings settings = fold_settings(values, common, flags);

    make_folder(common.out_dir);
    const DataSplits splits = load_images(data_flags, values);
    settings.normalization = per_pixel_standardization(*splits.train);
    write_run_record(common.out_dir, "svhn_kfold", flags, argc, argv, settings.device, settings.threads);

    const std::int64_t end = values.single ? values.start + 1 : values.folds;
    std::vector<std::string> names;
    for (std::int64_t fold = values.start; fold < end; ++fold) names.push_back(fold_name(values, fold));
    std::vector<std::optional<FoldScore>> scores(names.size());
    settings.stop = &install_stop_handlers();
    {
        ProgressBoard board(names);
        std::vector<Job> work;
        for (std::size_t i = 0; i < names.size(); ++i) {
            work.push_back({names[i], [&, i] {
                                if (*settings.stop) return;
                                const int fold = static_cast<int>(values.start) + static_cast<int>(i);
                                const Fold data = make_fold(splits, fold, static_cast<int>(values.folds),
                                                            values.file_order ? FoldOrder::file : FoldOrder::permuted);
                                scores[i] = run_fold(settings, fold, common.out_dir + "/" + names[i], data, splits.test,
                                                     board, static_cast<int>(i));
                            }});
        }
        run_side_by_side(work, static_cast<int>(jobs));
    }
    std::vector<FoldScore> finished;
    for (const auto& score : scores)
        if (score) finished.push_back(*score);
    if (finished.size() < scores.size()) {
        std::cerr << "svhn_kfold: interrupted; continue with --resume --out-dir " << common.out_dir << "\n";
        return interrupted_exit_status;
    }
    write_results(common.out_dir, finished, names, flags, command_line(argc, argv));
    std::cout << to_text(fold_table(finished)) << headline(finished)
              << "\nreport: " << std::filesystem::absolute(common.out_dir).lexically_normal().string()
              << "/report.html\n";
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
