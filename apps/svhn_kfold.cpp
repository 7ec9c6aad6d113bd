// svhn_kfold: the SVHN network trained on each fold of k-fold cross-validation (svhn-qkeras.md, sections 2.1 to 6).

#include <algorithm>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

#include "apps/common/common_flags.h"
#include "apps/common/fold_run.h"
#include "apps/common/history.h"
#include "apps/common/kfold_plan.h"
#include "apps/common/run_folder.h"
#include "apps/common/side_by_side.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/json_values.h"
#include "engine/io/program.h"
#include "engine/threads.h"
#include "engine/train/signals.h"
#include "models/layers/activation.h"
#include "models/registry.h"
#include "ops/convolution_algorithm.h"
#include "ops/precision.h"
#include "quant/pruning/pruner.h"

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
    GpuFlags gpu;
    std::string augment, moving_variance = "fused", precision = "fp32";
    std::vector<std::int64_t> widths{16, 14, 12, 10, 8, 6, 4, 3, 2, 1};
    std::int64_t prune_begin = 1000, prune_end = 8000, prune_frequency = 100;
    std::string prune_config, qkeras_compat = "current";
    bool reference_any_sparsity = false, reference_second_1bit = false;
    bool reference_last_epoch = false, file_order = false, deterministic = false;
    std::int64_t jobs = 0, checkpoint_every_steps = 0;
};

void add_kfold_flags(Flags& flags, KfoldFlags& values) {
    flags.group("Folds");
    flags.add("folds", values.folds, "number of folds", {.min = 2, .max = 1000});
    flags.add("start", values.start, "first fold to train", {.min = 0});
    flags.add("single", values.single, "train one fold only, the first");
    flags.add("jobs", values.jobs, "folds trained side by side; 0: one for each processor", {.min = 0, .max = most_threads});
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
    flags.add("Activation", values.activation, "behind each normalisation", {.choices = layers::activation_names()});
    flags.add("nclasses", values.classes, "number of classes", {.min = 1});
    flags.add("bn-moving-var", values.moving_variance,
              "which batch variance enters the moving one on feature maps: unbiased (fused) or biased",
              {.choices = {"fused", "biased"}});
    flags.add("loadModel", values.load_model,
              "train the network of --lmodel, quantized as it is there, from its weights, on each fold");
    flags.add(
        "lmodel", values.load_model_from,
        "checkpoint, Keras file, or folder with model_best.h5, as it stands or below out-dir; with --prune the folders of its "
        "folds, LMODEL_0 and so on");
    flags.group("Compression");
    flags.add("quantize", values.quantize,
              "quantization-aware training at each width in turn, from the weights of the next wider one; the widest "
              "from full_N of the same out-dir");
    flags.add("widths", values.widths, "of --quantize: bits of kernels, biases and activations; 2 ternary, 1 binary",
              {.min = 1, .max = 16});
    flags.add("qkeras-compat", values.qkeras_compat, "release of QKeras whose numbers --quantize follows",
              {.choices = {"current", "0.8"}});
    flags.add("prune", values.prune,
              "magnitude pruning to 50 %, from full_N, or with --quantize from quant_Bbit_N of the same out-dir");
    flags.add("prune-begin", values.prune_begin, "step of the first mask", {.min = 0});
    flags.add("prune-end", values.prune_end,
              "step of the last mask; a run that is too short for it has its schedule compressed, and says so",
              {.min = 0});
    flags.add("prune-frequency", values.prune_frequency, "steps from mask to mask", {.min = 1});
    flags.add("prune-config", values.prune_config,
              "JSON file with other keys of the pruning scheme (train --help); the three flags above win where given");
    flags.group("Training");
    flags.add("epochs", values.epochs, "at most", {.min = 1});
    flags.add("batchsize", values.batch_size, "images a step", {.min = 1});
    flags.add("buffersize", values.buffer_size, "images in the shuffle buffer", {.min = 100});
    flags.add("lr", values.learning_rate, "Adam's learning rate", {.min = 0});
    flags.add("beta_1", values.beta1, "Adam's decay of the mean", {.min = 0, .below = 1});
    flags.add("beta_2", values.beta2, "Adam's decay of the square", {.min = 0, .below = 1});
    flags.add("epsilon", values.epsilon, "Adam's epsilon", {.min = 0});
    flags.group("Beyond the published program");
    flags.add("augment", values.augment, "augmentations, such as rotate8,shift0.1 (published: none)");
    flags.add("precision", values.precision, precision_help, {.choices = ops::precision_names()});
    flags.add("reference-last-epoch", values.reference_last_epoch,
              "test and hand over the last epoch's weights, as the published program does, not the best");
    flags.add("reference-any-sparsity", values.reference_any_sparsity,
              "let epochs before the last mask be the best or end the training, as the published program does");
    flags.add("reference-second-1bit", values.reference_second_1bit,
              "train the last width of --quantize a second time, as the published program does");
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
    if (common.out_dir.empty()) throw UsageError("--out-dir (or --outdir) is missing: the folder of the results");
    if (values.start >= values.folds)
        throw UsageError(cat("--start=", values.start, ": the folds are 0 to ", values.folds - 1));
    if (values.load_model && values.load_model_from.empty()) throw UsageError("--loadModel needs --lmodel");
    if (values.load_model && values.quantize)
        throw UsageError("--loadModel trains the model as it is quantized: leave --quantize out");
    check_widths(values.widths);
}

/// The options of pruning: the file's, and the three flags where they were given or the file says nothing.
std::string pruning_options(const KfoldFlags& values, const Flags& flags, const ModelOptions& network) {
    namespace pruning = quant::pruning;
    using Json = nlohmann::ordered_json;
    Json json = Json::object();
    std::string source = "--prune";
    if (!values.prune_config.empty()) {
        source = values.prune_config;
        try {
            json = json_or_discarded<Json>(read_file(values.prune_config, std::size_t{16} << 20));
        } catch (const Error& error) {
            throw UsageError(cat("--prune-config: ", error.what()));
        }
        if (!json.is_object()) throw UsageError(cat(values.prune_config, ": needs a JSON object"));
    }
    const auto set = [&](const char* key, const char* flag, std::int64_t value) {
        if (flags.given(flag) || !json.contains(key)) json[key] = value;
    };
    set("begin_step", "prune-begin", values.prune_begin);
    set("end_step", "prune-end", values.prune_end);
    set("frequency", "prune-frequency", values.prune_frequency);
    try {
        const pruning::PruningOptions options = pruning::parse_pruning_options(json.dump());
        if (!values.load_model) pruning::Pruner::attach(*make_model(network), options);  // layers that are not there
        return pruning::to_json(options);
    } catch (const UsageError& error) {
        throw UsageError(cat(source, ": ", error.what()));
    }
}

KfoldChoice kfold_choice(const KfoldFlags& values, const CommonFlags& common, const Flags& flags) {
    KfoldChoice choice;
    choice.out_dir = common.out_dir;
    choice.network = model_options(values);
    choice.quantize = values.quantize;
    choice.prune = values.prune;
    choice.widths = values.widths;
    choice.qkeras_compat = values.qkeras_compat;
    if (values.prune) choice.pruning = pruning_options(values, flags, choice.network);
    if (values.load_model) choice.load_from = values.load_model_from;
    choice.last_epoch = values.reference_last_epoch;
    choice.second_1bit = values.reference_second_1bit;
    return choice;
}

/// Where tables and report of a run go: the float networks' into the out-dir, others beside each other below it.
std::string summary_folder(const KfoldChoice& choice) {
    const std::string family = family_of(choice);
    return family == "full" ? choice.out_dir : choice.out_dir + "/summaries/" + family;
}

/// The flags, and the normalisation by the name under which `evaluate` finds it again.
std::string checkpoint_configuration(const Flags& flags) {
    auto json = nlohmann::ordered_json::parse(flags.to_json());
    json["normalize"] = "per-pixel";
    return json.dump();
}

FoldSettings fold_settings(const KfoldFlags& values, const CommonFlags& common, const Flags& flags) {
    FoldSettings settings;
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
    ops::use_convolution_algorithm(values.gpu.convolution);
    settings.data_on_device = values.gpu.data();
    settings.step_graph = values.gpu.step_graph();
    settings.test_last_epoch = values.reference_last_epoch;
    settings.count_unsettled_epochs = values.reference_any_sparsity;
    settings.checkpoint_every_steps = values.checkpoint_every_steps;
    settings.threads = static_cast<int>(common.threads);
    settings.configuration = checkpoint_configuration(flags);
    return settings;
}

std::vector<std::int64_t> summed_confusion(const std::vector<FoldScore>& scores) {
    std::vector<std::int64_t> confusion(scores.front().confusion.size(), 0);
    for (const FoldScore& score : scores)
        std::transform(confusion.begin(), confusion.end(), score.confusion.begin(), confusion.begin(), std::plus<>());
    return confusion;
}

/// One model: a table of folds; several: one of models as well. Returns what the terminal shows.
std::string write_results(const std::string& folder, const KfoldChoice& choice, const std::vector<ModelScores>& models,
                          const std::vector<FoldModel>& trained, const Flags& flags, const std::string& command) {
    const bool several = models.size() > 1;
    const std::vector<FoldScore>& first = models.front().scores;
    write_file_atomically(folder + "/folds.csv", several ? model_csv(models) : fold_csv(first));
    write_file_atomically(folder + "/summary.json", several ? model_summary_json(models) : fold_summary_json(first));
    std::vector<LearningCurve> curves;
    for (const FoldModel& model : trained) {
        if (several && model.fold != trained.front().fold) continue;  // one curve a width
        curves.push_back(read_history(cat(choice.out_dir, "/", model.name, "/history_dict.csv"), model.name));
    }
    plot_learning_curves(folder, curves);

    Report report(cat("bitloom: k-fold training of the SVHN network, ", family_of(choice)));
    std::string text;
    if (several) {
        report.table("Models", model_table(models));
        text = to_text(model_table(models));
    } else {
        report.paragraph(headline(first));
        text = to_text(fold_table(first)) + headline(first) + "\n";
    }
    report.figure("Learning curves", folder + "/learning_curves.svg");
    for (const ModelScores& model : models) {
        report.table(several ? "Folds of " + model.name : "Folds", fold_table(model.scores));
        report.confusion(cat("Confusion on the test set, summed over the folds", several ? " of " + model.name : ""),
                         summed_confusion(model.scores), model.scores.front().classes);
    }
    report.preformatted("Command line", command);
    report.settings("Settings", settings_of(flags));
    report.write(folder + "/report.html");
    return text + report_line(folder + "/report.html");
}

/// Networks that are trained one after the other, each with the score that it ends in.
struct Sequence {
    std::vector<FoldModel> models;
    std::vector<std::optional<FoldScore>> scores;
};

/// A sequence for each fold where widths build on each other, for each network where they do not.
std::vector<Sequence> sequences_of(const KfoldChoice& choice, std::int64_t begin, std::int64_t end) {
    std::vector<Sequence> sequences;
    for (std::int64_t fold = begin; fold < end; ++fold) {
        const FoldPlan plan = plan_fold(choice, static_cast<int>(fold));
        if (plan.chain)
            sequences.push_back({plan.models, {}});
        else
            for (const FoldModel& model : plan.models) sequences.push_back({{model}, {}});
    }
    for (Sequence& sequence : sequences) sequence.scores.resize(sequence.models.size());
    return sequences;
}

/// The scores by model, folds in order; empty where one is missing.
std::vector<ModelScores> scores_by_model(const std::vector<Sequence>& sequences) {
    std::vector<ModelScores> models;
    for (const Sequence& sequence : sequences)
        for (std::size_t i = 0; i < sequence.models.size(); ++i) {
            if (!sequence.scores[i]) return {};
            const std::string& group = sequence.models[i].group;
            const auto same = [&](const ModelScores& m) { return m.name == group; };
            auto found = std::find_if(models.begin(), models.end(), same);
            if (found == models.end()) found = models.insert(models.end(), ModelScores{group, {}});
            found->scores.push_back(*sequence.scores[i]);
        }
    return models;
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
    Flags flags(
        "svhn_kfold",
        "Trains the SVHN network on each fold of k-fold cross-validation, in floating point, quantized (--quantize), "
        "pruned (--prune) or both, tests it, and writes a report with learning curves. Networks go to "
        "OUT-DIR/full_0 and so on, pruned_full_0, quant_8bit_0, pruned_quant_8bit_0; the report of the float ones "
        "to OUT-DIR, others to OUT-DIR/summaries.");
    add_common_flags(flags, common);
    flags.alias("outdir", "out-dir");
    add_data_flags(flags, data_flags);
    add_kfold_flags(flags, values);
    add_gpu_flags(flags, values.gpu, true);
    flags.example("--dataset digits --folds 2 --epochs 5 --out-dir runs/digits", "two folds on the built-in digits");
    flags.example("--flagfile=configs/svhn_cnn.cfg --data-dir data --out-dir runs/svhn",
                  "the published experiment on SVHN");
    flags.example("--dataset digits --folds 2 --epochs 5 --quantize --out-dir runs/digits",
                  "then every bit width, from these networks; with --prune, or --prune alone, pruned ones");
    flags.example("--resume --out-dir runs/svhn", "continues it after an interruption");
    flags.parse(argc, argv);
    if (common.resume && !common.out_dir.empty()) {
        std::vector<std::string> changeable{"resume",         "out-dir",   "data-dir", "jobs",
                                            "epochs",         "start",     "single",   "checkpoint-every-steps",
                                            "data-on-device", "cuda-graph"};
        // Which of the out-dir's runs it is, these flags say.
        KfoldChoice asked;
        asked.out_dir = common.out_dir;
        asked.quantize = values.quantize, asked.prune = values.prune;
        if (values.load_model) asked.load_from = values.load_model_from;
        const std::string folder = summary_folder(asked);
        if (recorded_deterministic(folder)) changeable.push_back("threads");
        resume_flags(flags, folder, changeable);
    }
    check_usage(values, common);
    const KfoldChoice choice = kfold_choice(values, common, flags);

    const std::int64_t processors = default_thread_count();
    const std::int64_t jobs = values.jobs > 0
                                  ? values.jobs
                                  : std::min<std::int64_t>(processors, values.single ? 1 : values.folds - values.start);
    // Recorded, so that a resumed run computes the same bits wherever and with however many folds it goes on.
    if (common.threads == 0) common.threads = std::max<std::int64_t>(1, processors / jobs);

    set_deterministic(values.deterministic);
    FoldSettings settings = fold_settings(values, common, flags);

    make_folder(common.out_dir);
    const std::int64_t end = values.single ? values.start + 1 : values.folds;
    std::vector<Sequence> sequences = sequences_of(choice, values.start, end);
    for (const std::string& line : network_warnings(sequences.front().models.front().network))
        std::cerr << "svhn_kfold: " << line << "\n";
    const DataSplits splits = load_images(data_flags, values);
    settings.normalization = per_pixel_standardization(*splits.train);
    const std::string folder = summary_folder(choice);
    make_folder(folder);
    // Folds of one run may be spread over processes.
    for (std::int64_t fold = values.start; fold < end; ++fold) claim_folder(folder, cat("fold ", fold));
    // All of them before the first is trained: a run that is cut short must find none of an earlier one when it goes
    // on.
    if (!common.resume)
        for (const Sequence& sequence : sequences)
            for (const FoldModel& model : sequence.models) forget_earlier_run(model, common.out_dir);
    write_run_record(folder, "svhn_kfold", flags, argc, argv, settings.device, settings.threads);

    settings.stop = &install_stop_handlers();
    {
        std::vector<std::string> labels;
        for (const Sequence& sequence : sequences) labels.push_back(sequence.models.front().name);
        ProgressBoard board(labels);
        std::vector<Job> work;
        for (std::size_t row = 0; row < sequences.size(); ++row) {
            work.push_back({labels[row], [&, row] {
                                Sequence& sequence = sequences[row];
                                const Fold data =
                                    make_fold(splits, sequence.models.front().fold, static_cast<int>(values.folds),
                                              values.file_order ? FoldOrder::file : FoldOrder::permuted);
                                for (std::size_t i = 0; i < sequence.models.size() && !*settings.stop; ++i)
                                    sequence.scores[i] = run_model(settings, sequence.models[i], common.out_dir, data,
                                                                   splits.test, board, static_cast<int>(row));
                            }});
        }
        run_side_by_side(work, static_cast<int>(jobs));
    }
    const std::vector<ModelScores> models = scores_by_model(sequences);
    if (models.empty()) {
        std::cerr << "svhn_kfold: interrupted; continue with --resume" << (values.quantize ? " --quantize" : "")
                  << (values.prune ? " --prune" : "")
                  << (values.load_model ? " --loadModel --lmodel " + values.load_model_from : "") << " --out-dir "
                  << common.out_dir << "\n";
        return interrupted_exit_status;
    }
    std::vector<FoldModel> trained;
    for (const Sequence& sequence : sequences)
        trained.insert(trained.end(), sequence.models.begin(), sequence.models.end());
    std::cout << write_results(folder, choice, models, trained, flags, command_line(argc, argv));
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
