// svhn_tune: searches an architecture for house numbers (svhn-qkeras.md, sections 2.4 and 4.3).

#include <iostream>
#include <numeric>

#include "apps/common/common_flags.h"
#include "apps/common/run_folder.h"
#include "apps/common/search_flags.h"
#include "apps/common/text.h"
#include "apps/common/trial_run.h"
#include "engine/error.h"
#include "engine/io/program.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "engine/train/signals.h"
#include "models/registry.h"

namespace bitloom {
namespace {

using search::Values;

struct TuneFlags {
    std::string project = "svhn", space = "published";
    bool hyperband = false, separable = false;
    std::int64_t batch_size = 32, classes = 10, epochs = 20, patience = 5, most_layers = 5;
    double validation_split = 0;
    bool shuffle = false;
};

void add_tune_flags(Flags& flags, TuneFlags& values) {
    flags.group("Network and training");
    flags.add("project", values.project, "name of the file with the best model");
    flags.add("space", values.space, "search space: of the program, or of the notebook beside it",
              {.choices = {"published", "notebook"}});
    flags.add("Separable", values.separable, "separable convolutions");
    flags.alias("S", "Separable");
    flags.add("most-layers", values.most_layers, "convolutions at most", {.min = 1, .max = 5});
    flags.add("hyperband", values.hyperband, "short for --tuner=hyperband with 100 epochs, factor 3, 3 iterations");
    flags.alias("H", "hyperband");
    flags.add("batch", values.batch_size, "images a step", {.min = 1});
    flags.alias("b", "batch");
    flags.add("classes", values.classes, "number of classes", {.min = 1});
    flags.alias("c", "classes");
    flags.add("epochs", values.epochs, "of a trial; Hyperband decides for itself", {.min = 1});
    flags.alias("e", "epochs");
    flags.add("early-stop", values.patience, "end a trial after so many epochs without a better val_accuracy; 0: never",
              {.min = 0});
    flags.add("val-split", values.validation_split,
              "share at the end of the training images to validate on; 0: the test images, as published",
              {.min = 0, .max = 0.9});
    flags.add("shuffle", values.shuffle, "shuffle the training images (published: no)");
}

std::vector<search::Value> counts(std::initializer_list<std::int64_t> values) { return {values.begin(), values.end()}; }

/// Where `count` is above `index`: the layer exists.
std::vector<search::Condition> exists(const std::string& count, std::int64_t index, std::int64_t most) {
    search::Condition condition{count, {}};
    for (std::int64_t n = index + 1; n <= most; ++n) condition.values.emplace_back(n);
    return {condition};
}

search::Space tune_space(const TuneFlags& flags) {
    const bool notebook = flags.space == "notebook";
    const std::int64_t most = notebook ? std::min<std::int64_t>(3, flags.most_layers) : flags.most_layers;
    search::Space space;
    space.integer("conv_layers", 1, most, 1, std::min<std::int64_t>(3, most));
    for (std::int64_t i = 0; i < most; ++i) {
        const auto condition = exists("conv_layers", i, most);
        (notebook ? space.integer(cat("filters_", i), 4, 32, 4, 8)
                  : space.choice(cat("filters_", i), counts({4, 8, 16, 32, 64})))
            .conditions = condition;
        space.integer(cat("kernel_size_", i), 3, 5).conditions = condition;
        space.choice(cat("pooling_", i), {std::string("max"), std::string("avg")}).conditions = condition;
    }
    space.choice("global_flatten", {std::string("max"), std::string("avg"), std::string("flatten")});
    space.integer("dense_layers", 0, 3, 1, 1);
    for (std::int64_t i = 0; i < 3; ++i)
        space.integer(cat("neurons_", i), 16, 256, 16, 32).conditions = exists("dense_layers", i, 3);
    // The published spelling.
    space.choice("droupout_rate", {0.0, 0.2, 0.5, 0.8}).conditions = exists("dense_layers", 0, 3);
    if (notebook) space.choice("optimizer", {std::string("adam"), std::string("sgd")});
    return space;
}

std::int64_t integer(const Values& values, const std::string& name) {
    return std::get<std::int64_t>(values.at(name));
}

ModelOptions network_of(const Values& values, const TuneFlags& flags, const Shape& input) {
    ModelOptions options;
    options.name = "tuned_cnn";
    options.input = input;
    options.classes = flags.classes;
    options.variant = std::get<std::string>(values.at("global_flatten")) + (flags.separable ? "-separable" : "");
    for (std::int64_t i = 0; i < integer(values, "conv_layers"); ++i) {
        options.filters.push_back(integer(values, cat("filters_", i)));
        options.kernels.push_back(integer(values, cat("kernel_size_", i)));
        options.pooling.push_back(std::get<std::string>(values.at(cat("pooling_", i))) == "max" ? 2 : 1);
    }
    options.dense_units.clear();
    for (std::int64_t i = 0; i < integer(values, "dense_layers"); ++i)
        options.dense_units.push_back(integer(values, cat("neurons_", i)));
    if (options.dense_units.empty()) options.dense_units = {0};
    options.dropout = {values.contains("droupout_rate") ? std::get<double>(values.at("droupout_rate")) : 0.0};
    return options;
}

struct Data {
    std::shared_ptr<const Dataset> train, validation;
};

Data load_images(const DataFlags& source, const TuneFlags& values) {
    DatasetOptions options = dataset_options(source);
    options.resize = 32;
    options.rgb = true;
    const DataSplits splits = load_dataset(options);
    require(splits.train->classes() <= values.classes, source.dataset, " has ", splits.train->classes(),
            " classes, --classes=", values.classes);
    if (values.validation_split == 0) return {splits.train, splits.test};
    std::vector<std::int64_t> all(static_cast<std::size_t>(splits.train->size()));
    std::iota(all.begin(), all.end(), 0);
    const auto kept = static_cast<std::ptrdiff_t>(static_cast<double>(all.size()) * (1 - values.validation_split));
    require(kept > 0 && kept < std::ssize(all), "--val-split=", values.validation_split, " of ", all.size(),
            " images leaves a part empty");
    return {std::make_shared<Subset>(splits.train, std::vector(all.begin(), all.begin() + kept)),
            std::make_shared<Subset>(splits.train, std::vector(all.begin() + kept, all.end()))};
}

int run(int argc, char** argv) {
    TuneFlags values;
    TunerFlags tuner_flags;
    CommonFlags common;
    DataFlags source;
    source.dataset = "svhn";
    tuner_flags.most_trials = 2000;
    Flags flags("svhn_tune",
                "Searches the architecture of a small network for house numbers: layers, filters, kernels, pooling, "
                "dropout. Each trial trains one network; the best is kept as PROJECT_bestModel.h5.");
    add_common_flags(flags, common);
    flags.alias("reload", "resume");
    flags.alias("r", "resume");
    add_data_flags(flags, source);
    add_tune_flags(flags, values);
    add_tuner_flags(flags, tuner_flags);
    flags.example("--dataset digits --train-size 4000 --epochs 3 --max-trials 20 --out-dir runs/tune",
                  "twenty trials of the Bayesian tuner on built-in digits");
    flags.example("--dataset svhn --data-dir data -H --out-dir runs/hyperband", "Hyperband as published, on SVHN");
    flags.example("--resume --out-dir runs/tune", "continues a search after an interruption");
    flags.positional("DATASET PROJECT", "as --dataset and --project", 0, 2);
    const std::vector<std::string> positional = flags.parse(argc, argv);
    if (!positional.empty()) source.dataset = positional[0];
    if (positional.size() > 1) values.project = positional[1];
    if (common.resume && !common.out_dir.empty())
        resume_flags(flags, common.out_dir, {"resume", "out-dir", "data-dir", "jobs", "max-trials"});
    if (common.out_dir.empty()) throw UsageError("--out-dir is missing: the folder of the results");
    if (values.project.empty() || values.project.find('/') != std::string::npos)
        throw UsageError("--project is the start of a file's name in out-dir: not empty, and no '/'");
    if (values.hyperband) {
        tuner_flags.tuner = "hyperband";
        if (!flags.given("hyperband-iterations")) tuner_flags.iterations = 3;
    }
    const Device device = open_device(common.device);
    const std::atomic<bool>& stop = install_stop_handlers();
    const SearchRun search = search_run(tuner_flags, common, stop);
    make_folder(common.out_dir);
    claim_folder(common.out_dir);
    const Data data = load_images(source, values);
    const auto seed = static_cast<std::uint64_t>(common.seed);
    if (!common.resume) forget_search(common.out_dir);
    write_run_record(common.out_dir, "svhn_tune", flags, argc, argv, device, search.threads);

    const auto tuner = make_tuner(tuner_flags, tune_space(values), search::Goal::maximize, seed);
    const bool resumed = common.resume;
    const auto run_trial = [&](const search::Trial& trial, const std::string& folder, ProgressBoard& board,
                               int row) -> std::optional<TrialOutcome> {
        TrialTraining training;
        training.network = network_of(trial.values, values, data.train->image_shape());
        if (trial.initial_epoch > 0) training.initial_weights = trial_folder(common.out_dir, trial.parent) + "/best.h5";
        if (trial.values.contains("optimizer") && std::get<std::string>(trial.values.at("optimizer")) == "sgd") {
            training.optimizer = "keras-sgd";
            training.learning_rate = 0.01;
        }
        training.epochs = trial.epochs > 0 ? trial.epochs - trial.initial_epoch : values.epochs;
        training.patience = values.patience;
        training.seed = stream_key(seed, cat("trial ", trial.id));
        training.evaluation.batch_size = 256;
        training.evaluation.device = device;
        training.evaluation.normalization = normalization_by_name("unit", *data.train);
        training.training = training.evaluation;
        training.training.batch_size = std::min(values.batch_size, data.train->size());
        training.training.drop_last = true;  // steps an epoch: images / batch, rounded down
        training.training.shuffle = values.shuffle ? Shuffle::full : Shuffle::none;
        training.training.seed = training.seed;
        training.configuration = R"({"normalize": "unit"})";
        const std::optional<TrialResult> result =
            train_trial(training, folder, data.train, data.validation, resumed, &stop, board, row);
        if (!result) return std::nullopt;
        const std::unique_ptr<Module> model = make_model(training.network);
        return TrialOutcome{result->best,
                            {{"parameters", static_cast<double>(count_parameters(*model).total)},
                             {"val_loss", result->validation_loss},
                             {"best_epoch", static_cast<double>(result->best_epoch)}}};
    };
    if (!run_search(*tuner, search, run_trial)) {
        std::cerr << "svhn_tune: interrupted; continue with --resume --out-dir " << common.out_dir << "\n";
        return interrupted_exit_status;
    }
    const search::Trial* best = tuner->best();
    require(best != nullptr, "no trial gave a score");
    const std::string best_file = cat(common.out_dir, "/", values.project, "_bestModel.h5");
    save_checkpoint(best_file, load_checkpoint(trial_folder(common.out_dir, best->id) + "/best.h5"));
    Report report("bitloom: architecture search");
    report.paragraph(cat(tuner->trials().size(), " trials of the ", tuner->name(), " tuner; best val_accuracy ",
                         fixed(100 * best->score, 2), " % in trial ", best->id, "."));
    std::cout << write_search_results(common.out_dir, *tuner, report, flags, command_line(argc, argv))
              << "best trial: " << best->id << "  val_accuracy: " << fixed(best->score, 4) << "\nbest model: " << best_file
              << "\n" << report_line(common.out_dir + "/report.html");
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
