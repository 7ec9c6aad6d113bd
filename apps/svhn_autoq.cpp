// svhn_autoq: searches quantizers and widths for the layers of the SVHN network (svhn-qkeras.md, sections 2.5 and 5.8).

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "apps/common/common_flags.h"
#include "apps/common/fold_scores.h"
#include "apps/common/predictions.h"
#include "apps/common/run_folder.h"
#include "apps/common/search_flags.h"
#include "apps/common/text.h"
#include "apps/common/trial_run.h"
#include "apps/plots/image_plots.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/program.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "engine/train/evaluator.h"
#include "engine/train/schedule.h"
#include "engine/train/signals.h"
#include "models/registry.h"
#include "quant/checkpoints.h"
#include "quant/cost/attached.h"
#include "quant/cost/bits.h"
#include "quant/search/autoq.h"

namespace bitloom {
namespace {

using search::AutoqOptions;
using search::QuantizedPlan;

const std::vector<std::string> published_blocks{"c.*_0$", "c.*_1$", "c.*_2$", "d.*_0$", "d.*_1$", "output_dense"};

struct AutoqFlags {
    std::string preset = "published", quantizers, goal = "energy", limits, tune_filters, exceptions = "output*",
                layers = ".*", schedule = "cost", float_model, stop_metric = "val_loss",
                final_schedule = "plateau:factor=0.5,patience=5,min_delta=1e-4,cooldown=2,min_lr=1e-6";
    double delta_p = 0, delta_n = 0, rate = 0, stress = 0, learning_rate = 3e-3, validation_split = 0.15;
    bool tune_learning_rate = false, transfer = true, no_blocks = false, all_layers = false;
    std::vector<std::string> blocks;
    std::int64_t epochs = 20, reference_epochs = 10, final_epochs = 100, batch_size = 512, patience = 6, final_patience = 8, classes = 10;
};

void add_autoq_flags(Flags& flags, AutoqFlags& values) {
    flags.group("Quantization");
    flags.add("preset", values.preset, "settings to start from: of the published experiment, or of its first version",
              {.choices = {"published", "older"}});
    flags.add("quantizers", values.quantizers,
              "lists of quantizers: published, older or qkeras (none: the preset's), or JSON of one's own, bits by quantizer: "
              "{\"kernel\": {\"ternary\": 2, \"quantized_bits(3,0,1)\": 3}, \"bias\": ..., \"activation\": ..., \"linear\": ...}");
    flags.add("goal", values.goal, "what a network costs: bits, or energy of an inference",
              {.choices = {"bits", "energy"}});
    flags.add("delta-p", values.delta_p, "percent of accuracy that a network --rate times cheaper may lose; 0: preset's",
              {.min = 0});
    flags.add("delta-n", values.delta_n, "percent that a network --rate times dearer must gain; 0: preset's", {.min = 0});
    flags.add("rate", values.rate, "see --delta-p; 0: the preset's", {.min = 0});
    flags.add("stress", values.stress, "factor on the cost of the float network; 0: the preset's", {.min = 0});
    flags.add("limits", values.limits,
              "JSON: class or regular expression of layer names to [kernel, bias, activation], each the most bits or a "
              "list of quantizers, such as {\"Dense\": [8, 8], \"conv_.$\": [[\"ternary\"]], \"Activation\": [4]}");
    flags.add("tune-filters", values.tune_filters, "search factors of layer widths too (none: the preset's)",
              {.choices = {"", "none", "layer", "block"}});
    flags.add("tune-filters-exceptions", values.exceptions, "regular expression of layers that keep their width");
    flags.add("layers", values.layers, "regular expression of the layers that are touched at all");
    flags.add("reference-all-layers", values.all_layers,
              "give kernels outside of --layers hyperparameters without effect, as the source does");
    flags.add("learning-rate-optimizer", values.tune_learning_rate, "search the learning rate too");
    flags.add("blocks", values.blocks,
              "regular expressions of layer names: search one block after the other (none: the published blocks)");
    flags.add("no-blocks", values.no_blocks, "search all layers at once");
    flags.add("schedule", values.schedule, "order of the blocks", {.choices = {"cost", "sequential"}});
    flags.group("Training");
    flags.add("lmodel", values.float_model, "float network to start from: a checkpoint, or a Keras file; none: it is trained first");
    flags.add("reference-epochs", values.reference_epochs, "of that training", {.min = 1});
    flags.add("transfer-weights", values.transfer, "trials start from the trained weights; narrower layers keep the channels that weigh most");
    flags.add("epochs", values.epochs, "of a trial", {.min = 1});
    flags.add("final-epochs", values.final_epochs, "of the best network at the end; 0: none", {.min = 0});
    flags.add("early-stop", values.patience, "end a trial after so many epochs without improvement; 0: min(20, epochs / 5)",
              {.min = 0});
    flags.add("early-stop-metric", values.stop_metric, "what must improve", {.choices = {"val_loss", "val_accuracy"}});
    flags.add("final-early-stop", values.final_patience, "the same of the best network at the end; 0: none", {.min = 0});
    flags.add("final-lr-schedule", values.final_schedule, "learning rate of the best network at the end: constant, cosine, plateau:patience=5, as of train --schedule");
    flags.add("batchsize", values.batch_size, "images a step", {.min = 1});
    flags.add("lr", values.learning_rate, "of Adam with AMSGrad", {.min = 0});
    flags.add("val-split", values.validation_split, "share of the shuffled training images to validate on",
              {.min = 0.01, .max = 0.9});
    flags.add("nclasses", values.classes, "number of classes", {.min = 1});
}

AutoqOptions options_of(const AutoqFlags& values) {
    AutoqOptions options = values.preset == "older" ? AutoqOptions::older() : AutoqOptions::published();
    const std::vector<std::string> lists{"", "published", "older", "qkeras"};
    if (!values.quantizers.starts_with("{") && std::find(lists.begin(), lists.end(), values.quantizers) == lists.end())
        throw UsageError(cat("--quantizers: ", in_quotes(values.quantizers), " is neither published, older, qkeras nor JSON"));
    if (values.quantizers == "published") options.quantizers = search::QuantizerLists::published();
    if (values.quantizers == "older") options.quantizers = search::QuantizerLists::older();
    if (values.quantizers == "qkeras") options.quantizers = search::QuantizerLists::qkeras();
    if (values.quantizers.starts_with("{")) try {
        options.quantizers = search::quantizer_lists_from_json(values.quantizers, options.quantizers);
    } catch (const UsageError& error) {
        throw UsageError(cat("--quantizers: ", error.what()));
    }
    options.goal = values.goal == "bits" ? search::CostGoal::bits : search::CostGoal::energy;
    if (values.delta_p > 0) options.factor.delta_p = values.delta_p;
    if (values.delta_n > 0) options.factor.delta_n = values.delta_n;
    if (values.rate > 0) options.factor.rate = values.rate;
    if (values.stress > 0) options.factor.stress = values.stress;
    if (options.factor.rate <= 1) throw UsageError("--rate must exceed 1");
    if (!values.limits.empty()) try {
        options.limits = search::limits_from_json(values.limits);
    } catch (const UsageError& error) {
        throw UsageError(cat("--limits: ", error.what()));
    }
    if (values.tune_filters == "none") options.tune_filters = search::FilterTuning::none;
    if (values.tune_filters == "layer") options.tune_filters = search::FilterTuning::layer;
    if (values.tune_filters == "block") options.tune_filters = search::FilterTuning::block;
    options.filter_exceptions = values.exceptions;
    options.layers = values.layers;
    options.all_layers = values.all_layers;
    options.tune_learning_rate = values.tune_learning_rate;
    return options;
}

struct Data {
    std::shared_ptr<const Dataset> all, train, validation, test;
};

Data load_images(const DataFlags& source, const AutoqFlags& values) {
    DatasetOptions options = dataset_options(source);
    options.resize = 32;
    options.rgb = true;
    const DataSplits splits = load_dataset(options);
    require(splits.train->classes() <= values.classes, source.dataset, " has ", splits.train->classes(),
            " classes, --nclasses=", values.classes);
    std::vector<std::int64_t> order(static_cast<std::size_t>(splits.train->size()));
    std::iota(order.begin(), order.end(), 0);
    Rng rng(22, "autoq split");
    rng.shuffle(order);
    const auto held = static_cast<std::ptrdiff_t>(std::ceil(static_cast<double>(order.size()) * values.validation_split));
    require(held > 0 && held < std::ssize(order), "--val-split leaves a part of ", order.size(), " images empty");
    return {splits.train, std::make_shared<Subset>(splits.train, std::vector(order.begin() + held, order.end())),
            std::make_shared<Subset>(splits.train, std::vector(order.begin(), order.begin() + held)), splits.test};
}

/// Widths of a network with the plan's factors.
ModelOptions scaled(ModelOptions options, const QuantizedPlan& plan) {
    for (const auto& [name, factor] : plan.filters) {
        const std::size_t index = static_cast<std::size_t>(std::stoll(name.substr(name.rfind('_') + 1)));
        auto& widths = name.starts_with("conv_") ? options.filters : options.dense_units;
        widths.at(index) = search::scaled_width(widths.at(index), factor);
    }
    return options;
}

std::string schemes_of_plan(const QuantizedPlan& plan) {
    if (plan.kernel.empty() && plan.activation.empty()) return "";
    nlohmann::ordered_json configuration{{"dictionary", nlohmann::ordered_json::parse(search::dictionary_of(plan))}};
    return quant::SchemeList({"qkeras"}, configuration.dump()).configuration();
}

/// One run of the program: the float network, the searches, the best network at the end.
class AutoqRun {
   public:
    AutoqRun(const AutoqFlags& values, const AutoqOptions& options, const TunerFlags& tuner, const CommonFlags& common,
             const SearchRun& search, const Data& data, const std::atomic<bool>& stop, Device device)
        : values_(values), options_(options), tuner_(tuner), common_(common), search_(search), data_(data), stop_(stop) {
        network_ = resolve({.name = "svhn_cnn", .input = data.train->image_shape(), .classes = values.classes});
        evaluation_.batch_size = 512;
        evaluation_.device = device;
        evaluation_.normalization = per_pixel_standardization(*data.all);
        reference_ = search::reference_cost(description(network_), options);
    }

    /// False where it was interrupted.
    bool run(const Flags& flags, const std::string& command) {
        if (!train_reference()) return false;
        const std::vector<search::Block> blocks = make_blocks();
        Report report("bitloom: automatic quantization");
        for (std::size_t i = 0; i < blocks.size(); ++i)
            if (!search_block(blocks[i], i, blocks.size(), report)) return false;
        if (!train_best()) return false;
        finish(report, flags, command);
        return true;
    }

   private:
    cost::CostNetwork description(const ModelOptions& options) const {
        const std::unique_ptr<Module> model = make_model(options);
        return cost::describe_network(*model, options.input);
    }

    TrialTraining training(const QuantizedPlan& plan, std::int64_t epochs, std::uint64_t seed) const {
        TrialTraining training;
        training.network = scaled(network_, plan);
        training.schemes = schemes_of_plan(plan);
        training.optimizer = "keras-amsgrad";
        training.learning_rate = values_.learning_rate;
        training.epochs = epochs;
        training.stop_metric = values_.stop_metric;
        training.patience = values_.patience > 0 ? values_.patience : std::max<std::int64_t>(1, std::min<std::int64_t>(20, epochs / 5));
        training.schedule = "plateau:factor=0.5,patience=4,min_delta=1e-4,cooldown=2,min_lr=1e-6";
        training.seed = seed;
        training.evaluation = evaluation_;
        training.training = evaluation_;
        training.training.batch_size = std::min(values_.batch_size, data_.train->size());
        training.training.shuffle = Shuffle::full;
        training.training.seed = seed;
        training.configuration = R"({"normalize": "per-pixel"})";
        return training;
    }

    /// A Keras file as a checkpoint, which is what trials start from.
    std::string converted(const std::string& path) const {
        const LoadedModel loaded = load_model(ModelOptions{}, path);
        Checkpoint checkpoint;
        checkpoint.model = describe(loaded.options);
        gather(*loaded.network, checkpoint);
        const std::string target = common_.out_dir + "/reference/best.h5";
        save_checkpoint(target, checkpoint);
        return target;
    }

    std::vector<search::Block> make_blocks() const {
        if (values_.no_blocks) return {{".*", {}, 0, tuner_.most_trials}};
        return search::make_blocks(description(network_), options_, values_.blocks.empty() ? published_blocks : values_.blocks,
                                   values_.schedule == "cost", tuner_.most_trials);
    }

    void check_widths() const {
        for (const cost::CostLayer& layer : description(network_).layers)
            if (layer.name == "output_dense" && search::tunes_filters(layer, options_))
                throw UsageError(cat("--tune-filters-exceptions=", options_.filter_exceptions, ": is not found in ",
                                     layer.name, ", whose width is the number of classes"));
    }

    bool train_reference() {
        weights_ = values_.float_model;
        if (!weights_.empty()) {
            require(std::filesystem::is_regular_file(weights_), weights_, ": no such file");
            make_folder(common_.out_dir + "/reference");
            if (!is_checkpoint(weights_)) weights_ = converted(weights_);
            network_ = model_options_from_json(load_checkpoint(weights_).model);
            reference_ = search::reference_cost(description(network_), options_);
            check_widths();
            return true;
        }
        // Limits and patterns that fit nothing are found before the reference is trained, not after.
        search::autoq_space(description(network_), options_);
        check_widths();
        make_blocks();
        weights_ = common_.out_dir + "/reference/best.h5";
        if (common_.resume && std::filesystem::exists(common_.out_dir + "/reference/done")) return true;
        ProgressBoard board({"reference"});
        set_threads(search_.threads);
        if (!train_trial(training({}, values_.reference_epochs, seed("reference")), common_.out_dir + "/reference",
                         data_.train, data_.validation, common_.resume, &stop_, board, 0))
            return false;
        write_file_atomically(common_.out_dir + "/reference/done", "");
        return true;
    }

    bool search_block(const search::Block& block, std::size_t index, std::size_t count, Report& report) {
        const bool whole = block.layers.empty();
        AutoqOptions options = options_;
        if (!whole) {
            std::string pattern;
            for (const std::string& layer : block.layers) pattern += (pattern.empty() ? "" : "|") + layer;
            options.layers = "(?:" + pattern + ")";
        }
        const cost::CostNetwork plain = description(network_);
        SearchRun run = search_;
        run.folder = whole ? common_.out_dir + "/search" : cat(common_.out_dir, "/block_", index);
        TunerFlags flags = tuner_;
        flags.most_trials = block.most_trials;
        const auto tuner = make_tuner(flags, search::autoq_space(plain, options), search::Goal::maximize,
                                      seed(whole ? "search" : cat("block ", index)));
        const auto plan_with = [&](const search::Trial& trial) {
            QuantizedPlan plan = best_;
            plan.merge(search::plan_of(plain, options, trial.values));
            return plan;
        };
        const std::string start = weights_;
        std::set<std::string> layers_quantized_before;
        for (const auto& [layer, quantizer] : best_.kernel) layers_quantized_before.insert(layer);
        const bool finished = run_search(
            *tuner, run,
            [&](const search::Trial& trial, const std::string& folder, ProgressBoard& board,
                int row) -> std::optional<TrialOutcome> {
                const QuantizedPlan plan = plan_with(trial);
                const Costs costs = costs_of(plan);
                TrialTraining trained = training(plan, trial.epochs > 0 ? trial.epochs - trial.initial_epoch : values_.epochs,
                                                 stream_key(tuner->options().seed, cat("trial ", trial.id)));
                if (values_.transfer) trained.initial_weights = start;
                if (trial.initial_epoch > 0) trained.initial_weights = trial_folder(run.folder, trial.parent) + "/best.h5";
                trained.other_widths = true;
                // Coarse quantizers make zeros of all the small weights of a float network, and such a layer learns nothing.
                if (trial.initial_epoch == 0) trained.adapt_except = layers_quantized_before;
                if (plan.learning_rate >= 0)
                    trained.learning_rate = search::learning_rates(values_.learning_rate, reference_, costs.goal).at(
                        static_cast<std::size_t>(plan.learning_rate));
                const auto result = train_trial(trained, folder, data_.train, data_.validation, common_.resume, &stop_,
                                                board, row);
                if (!result) return std::nullopt;
                return TrialOutcome{options_.factor.score(result->best, reference_, costs.goal),
                                    {{"val_accuracy", result->best}, {"bits", costs.bits}, {"energy_pJ", costs.energy}}};
            });
        if (!finished) return false;
        const search::Trial* winner = tuner->best();
        require(winner != nullptr, "no trial of ", block.pattern, " gave a score");
        best_ = plan_with(*winner);
        best_score_ = winner->score;
        weights_ = trial_folder(run.folder, winner->id) + "/best.h5";
        write_file_atomically(run.folder + "/trials.csv", trials_csv(*tuner));
        report.table(whole ? "Trials, best first" : cat("Block ", block.pattern, ": trials, best first"),
                     ranking_table(*tuner));
        std::cout << (whole ? "" : cat("block ", index + 1, " of ", count, ": ", block.pattern, "\n"))
                  << to_text(ranking_table(*tuner, 5));
        if (!whole) {
            save_checkpoint(cat(common_.out_dir, "/model_block_", index, ".h5"), load_checkpoint(weights_));
            write_file_atomically(common_.out_dir + "/scheduler.json",
                                  nlohmann::json{{"next_block", index + 1}}.dump() + "\n");
        }
        return true;
    }

    bool train_best() {
        if (values_.final_epochs == 0) return true;
        TrialTraining last = training(best_, values_.final_epochs, seed("final"));
        last.initial_weights = weights_;
        last.patience = values_.final_patience;
        last.schedule = values_.final_schedule;
        ProgressBoard board({"best"});
        set_threads(search_.threads);
        const std::string folder = common_.out_dir + "/best";
        const auto result = train_trial(last, folder, data_.train, data_.validation, common_.resume, &stop_, board, 0);
        if (!result) return false;
        weights_ = folder + "/best.h5";
        return true;
    }

    struct Costs {
        double bits = 0, energy = 0, goal = 0;
    };
    Costs costs_of(const QuantizedPlan& plan) const {
        const cost::CostNetwork network = search::with_plan(description(scaled(network_, plan)), plan);
        AutoqOptions bits = options_, energy = options_;
        bits.goal = search::CostGoal::bits, energy.goal = search::CostGoal::energy;
        return {search::trial_cost(network, bits), search::trial_cost(network, energy),
                search::trial_cost(network, options_)};
    }

    std::unique_ptr<Module> loaded(const std::string& weights) const {
        std::unique_ptr<Module> network = quant::load_compressed({}, weights).network;
        network->to(evaluation_.device);
        return network;
    }
    ClassificationMetrics metrics_on(const std::shared_ptr<const Dataset>& images, Module& network) const {
        Loader loader(images, evaluation_);
        return evaluate(network, loader);
    }

    /// The best network on its training images: confusion, and what its convolutions make of the first one.
    void draw_best(Module& network, Report& report) const {
        FigureFolder figures(common_.out_dir);
        const ClassificationMetrics metrics = metrics_on(data_.train, network);
        plot_confusion(figures, "confusion_train", confusion_of(metrics), metrics.classes());
        report.confusion("Confusion of the best network on its training images", confusion_of(metrics), metrics.classes());
        const auto first = std::make_shared<Subset>(data_.train, std::vector<std::int64_t>{0});
        for (const FeatureMaps& maps : convolution_outputs(network, images_of(first, evaluation_))) {
            plot_feature_maps(figures, maps.layer + "_maps", maps);
            report.figure("Feature maps of " + maps.layer + " for a training image", figures / (maps.layer + "_maps.svg"));
        }
    }

    void finish(Report& report, const Flags& flags, const std::string& command) {
        set_threads(search_.threads);
        const std::string float_weights =
            values_.float_model.empty() ? common_.out_dir + "/reference/best.h5" : values_.float_model;
        const std::string best_file = common_.out_dir + "/best_model.h5";
        save_checkpoint(best_file, load_checkpoint(weights_));
        const std::string dictionary = search::dictionary_of(best_);
        write_file_atomically(common_.out_dir + "/dictionary.json", dictionary + "\n");
        AutoqOptions bits = options_, energy = options_;
        bits.goal = search::CostGoal::bits, energy.goal = search::CostGoal::energy;
        const double float_bits = search::reference_cost(description(network_), bits);
        const double float_energy = search::reference_cost(description(network_), energy);
        const Costs costs = costs_of(best_);
        const std::unique_ptr<Module> best = loaded(best_file);
        const ClassificationMetrics float_test = metrics_on(data_.test, *loaded(float_weights)), test = metrics_on(data_.test, *best);
        const double float_accuracy = float_test.accuracy(), accuracy = test.accuracy();
        const ReportTable table{{"network", "test accuracy", "test loss", "bits", "share", "energy pJ", "share"},
                                {{"float", fixed(float_accuracy, 4), fixed(float_test.cross_entropy(), 4), fixed(float_bits, 0), "1",
                                  fixed(float_energy, 0), "1"},
                                 {"best", fixed(accuracy, 4), fixed(test.cross_entropy(), 4), fixed(costs.bits, 0), fixed(costs.bits / float_bits, 3),
                                  fixed(costs.energy, 0), fixed(costs.energy / float_energy, 3)}},
                                {}};
        const ModelOptions network = scaled(network_, best_);
        ReportTable layers{{"layer", "kernel", "bias", "activation", "width factor"}, {}, {}};
        for (const cost::CostLayer& layer : description(network).layers) {
            const auto text = [&](const std::map<std::string, std::string>& map) {
                const auto found = map.find(layer.name);
                return found == map.end() ? std::string("-") : found->second;
            };
            const auto factor = best_.filters.find(layer.name);
            if (text(best_.kernel) == "-" && text(best_.activation) == "-") continue;
            layers.rows.push_back({layer.name, text(best_.kernel), text(best_.bias), text(best_.activation),
                                   factor == best_.filters.end() ? "1" : fixed(factor->second, 2)});
        }
        const nlohmann::ordered_json summary{{"float_accuracy", float_accuracy}, {"accuracy", accuracy},
                                             {"float_loss", float_test.cross_entropy()}, {"loss", test.cross_entropy()},
                                             {"float_bits", float_bits},         {"bits", costs.bits},
                                             {"float_energy_pJ", float_energy},  {"energy_pJ", costs.energy},
                                             {"score", best_score_},             {"network", nlohmann::ordered_json::parse(describe(network))},
                                             {"dictionary", nlohmann::ordered_json::parse(dictionary)}};
        write_file_atomically(common_.out_dir + "/summary.json", summary.dump(2) + "\n");
        report.table("Float network and best quantized one", table);
        report.table("Quantizers of the best network", layers);
        draw_best(*best, report);
        report.preformatted("Command line", command);
        report.settings("Settings", settings_of(flags));
        report.write(common_.out_dir + "/report.html");
        std::cout << to_text(layers) << to_text(table) << "best model: " << best_file << "\n"
                  << report_line(common_.out_dir + "/report.html");
    }

    std::uint64_t seed(const std::string& name) const {
        return stream_key(static_cast<std::uint64_t>(common_.seed), "autoq " + name);
    }

    const AutoqFlags& values_;
    const AutoqOptions& options_;
    const TunerFlags& tuner_;
    const CommonFlags& common_;
    const SearchRun& search_;
    const Data& data_;
    const std::atomic<bool>& stop_;
    ModelOptions network_;
    LoaderOptions evaluation_;
    double reference_ = 0;
    std::string weights_;  // what the next training starts from
    QuantizedPlan best_;
    double best_score_ = 0;
};

/// All of it before the first network is trained: a run that is cut short must find none of an earlier one when it goes on.
void forget_earlier_run(const std::string& out_dir) {
    namespace fs = std::filesystem;
    for (const char* name : {"/reference/done", "/reference/last.h5", "/best/last.h5", "/scheduler.json"}) fs::remove(out_dir + name);
    for (const auto& entry : fs::directory_iterator(out_dir)) {
        const std::string name = entry.path().filename().string();
        if (name == "search" || name.starts_with("block_")) fs::remove(entry.path() / "search.json");
    }
}

int run(int argc, char** argv) {
    AutoqFlags values;
    TunerFlags tuner;
    CommonFlags common;
    DataFlags source;
    source.dataset = "svhn";
    tuner.most_trials = 500;
    common.seed = 42;
    Flags flags("svhn_autoq",
                "Searches the quantizers of each layer of the SVHN network, and the widths of its layers, for the best "
                "trade of accuracy for bits or energy; then trains the best network further.");
    add_common_flags(flags, common);
    add_data_flags(flags, source);
    add_autoq_flags(flags, values);
    add_tuner_flags(flags, tuner);
    flags.example("--dataset digits --train-size 6000 --goal bits --no-blocks --max-trials 20 --epochs 3 "
                  "--final-epochs 5 --out-dir runs/autoq",
                  "twenty trials over all layers at once, on built-in digits");
    flags.example("--lmodel runs/svhn/full_0/model_best.h5 --data-dir data --out-dir runs/autoq",
                  "the published procedure on a network that svhn_kfold trained");
    flags.example("--config configs/svhn_autoq_quarter.json --threads 1 --jobs 1 --out-dir runs/quarter",
                  "a network of at most a quarter of the float one's bits: --stress 0.25 sets that mark, and --delta-n makes "
                  "what lies above it lose");
    flags.example("--resume --out-dir runs/autoq", "continues it after an interruption");
    flags.parse(argc, argv);
    if (common.resume && !common.out_dir.empty())
        resume_flags(flags, common.out_dir, {"resume", "out-dir", "data-dir", "jobs", "max-trials", "final-epochs", "final-early-stop"});
    if (common.out_dir.empty()) throw UsageError("--out-dir is missing: the folder of the results");
    const AutoqOptions options = options_of(values);
    parse_schedule(values.final_schedule, values.learning_rate, values.final_epochs);  // before anything is trained
    const Device device = open_device(common.device);
    const std::atomic<bool>& stop = install_stop_handlers();
    const SearchRun search = search_run(tuner, common, stop);
    make_folder(common.out_dir);
    claim_folder(common.out_dir);
    const Data data = load_images(source, values);
    AutoqRun autoq(values, options, tuner, common, search, data, stop, device);
    if (!common.resume) forget_earlier_run(common.out_dir);
    write_run_record(common.out_dir, "svhn_autoq", flags, argc, argv, device, search.threads);
    if (!autoq.run(flags, command_line(argc, argv))) {
        std::cerr << "svhn_autoq: interrupted; continue with --resume --out-dir " << common.out_dir << "\n";
        return interrupted_exit_status;
    }
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
