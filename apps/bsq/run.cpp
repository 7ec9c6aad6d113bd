#include "apps/bsq/run.h"

#include <cmath>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/bsq/callbacks.h"
#include "apps/common/gnuplot.h"
#include "apps/common/history.h"
#include "apps/common/losses.h"
#include "apps/common/report.h"
#include "apps/common/step_limit.h"
#include "apps/common/text.h"
#include "engine/data/augment.h"
#include "engine/io/atomic_file.h"
#include "engine/io/json_values.h"
#include "engine/threads.h"
#include "engine/train/callbacks.h"
#include "engine/train/evaluator.h"
#include "engine/train/signals.h"
#include "models/registry.h"
#include "ops/convolution_algorithm.h"

namespace bitloom::bsq {

namespace {

using Json = nlohmann::ordered_json;

bool is_cifar(const std::string& dataset) { return dataset.starts_with("cifar"); }

/// A finite number, or null.
Json number(double value) { return std::isfinite(value) ? Json(value) : Json(); }

}  // namespace

std::string to_json(const Result& r) {
    const Json json{{"accuracy", r.accuracy},
                    {"cross_entropy", r.cross_entropy},
                    {"best_accuracy", r.best_accuracy},
                    {"epochs", r.epochs},
                    {"parameters", r.sizes.parameters},
                    {"bits", r.sizes.bits},
                    {"bits_per_parameter", r.sizes.bits_per_parameter()},
                    {"compression", number(r.sizes.compression())},
                    {"nonzero_bits", r.sizes.nonzero_bits},
                    {"nonzero_bits_per_parameter", r.sizes.nonzero_bits_per_parameter()},
                    {"nonzero_compression", number(r.sizes.nonzero_compression())},
                    {"precision", Json::parse(to_json(r.table))}};
    return json.dump(2) + "\n";
}

Result result_from_json(const std::string& text) {
    Result r;
    try {
        const Json json = json_from_text<Json>(text);
        json.at("accuracy").get_to(r.accuracy);
        json.at("cross_entropy").get_to(r.cross_entropy);
        json.at("best_accuracy").get_to(r.best_accuracy);
        r.epochs = integer_from_json(json.at("epochs"));
        r.sizes.parameters = integer_from_json(json.at("parameters"));
        r.sizes.bits = integer_from_json(json.at("bits"));
        r.sizes.nonzero_bits = integer_from_json(json.at("nonzero_bits"));
        r.table = precision_table_from_json(json.at("precision").dump());
    } catch (const std::exception& error) {
        fail("no result of a BSQ run: ", error.what());
    }
    return r;
}

Session::Session(const std::string& program, const Settings& settings)
    : program_(program), settings_(settings), device_(open_device(settings.common.device)) {
    set_threads(static_cast<int>(settings_.common.threads));
    set_deterministic(settings_.deterministic);
    ops::use_convolution_algorithm(settings_.gpu.convolution);
    NetworkFile header;
    if (!settings_.model_file.empty() && !settings_.arch_given) {
        // A file may say what network it holds.
        header = read_header(settings_.model_file);
    }
    data_ = load_dataset(dataset_options(settings_.data));
    normalization_ = normalization_by_name(
        settings_.normalize != "auto" ? settings_.normalize : is_cifar(settings_.data.dataset) ? "cifar-bsq" : "unit",
        *data_.train);
    model_options_ = header.info.model.empty()
                         ? model_options(settings_, data_.train->image_shape(), data_.train->classes())
                         : model_options_from_json(header.info.model);
    require(model_options_.input == data_.train->image_shape(), settings_.data.dataset, " has images ",
            data_.train->image_shape(), ", the network of ", settings_.model_file, " takes ", model_options_.input);
    require(model_options_.classes >= data_.test->classes(), settings_.data.dataset, " has ", data_.test->classes(),
            " classes, the network of ", settings_.model_file, " ", model_options_.classes);
    model_ = make_model(model_options_, static_cast<std::uint64_t>(settings_.common.seed));
    bits_ = std::make_unique<BitNetwork>(*model_, network_options(settings_));
    alphas_ = attach_activations(*model_, activation_options(settings_));
    model_->to(device_);
    test_loader_ = std::make_unique<Loader>(data_.test, loader_options(settings_.test_batch));
}

LoaderOptions Session::loader_options(std::int64_t batch) const {
    LoaderOptions options;
    options.batch_size = batch;
    options.seed = static_cast<std::uint64_t>(settings_.common.seed);
    options.workers = static_cast<int>(settings_.workers);
    options.normalization = normalization_;
    options.device = device_;
    options.data_on_device = settings_.gpu.data();
    return options;
}

bool Session::resuming() const { return settings_.common.resume && std::filesystem::exists(path("last.h5")); }

void Session::begin() const {
    if (settings_.evaluate) return;
    if (!settings_.common.resume)
        for (const char* name : {"last.h5", "summary.json"}) std::filesystem::remove(path(name));
    if (settings_.record) settings_.record();
}

NetworkFile Session::load(const std::string& path) {
    model_->to(cpu_device);
    const NetworkFile file = read_network(path, *bits_);
    require(!settings_.bin || path != settings_.model_file ||
                file.representation == Representation::bits, path,
            ": holds no bit planes, which --bin asks for (leave it out to have them made)");
    model_->to(device_);
    return file;
}

ClassificationMetrics Session::test() { return evaluate(*model_, *test_loader_); }

ClassificationMetrics Session::print_test() {
    const ClassificationMetrics metrics = test();
    std::cout << "Accuracy: " << fixed(100 * metrics.accuracy(), 2) << "%\n" << std::flush;
    return metrics;
}

void Session::print_metrics(const ClassificationMetrics& metrics) {
    std::cout << "correct: " << metrics.correct() << '/' << metrics.count() << "\ntop5_correct: " << metrics.correct(5) << '/'
              << metrics.count() << "\ntop5: " << fixed(100 * metrics.top_k(5), 2)
              << "\ncross_entropy: " << fixed(metrics.cross_entropy(), 6) << "\n"
              << std::flush;
}

void Session::print_statistics() { std::cout << bits_->statistics() << std::flush; }

void Session::print_compression(const std::string& label) {
    const BitSizes sizes = bits_->sizes();
    std::cout << label << " [32*" << sizes.parameters << " / " << sizes.bits << "]: " << fixed(sizes.compression(), 2)
              << " X (" << fixed(sizes.bits_per_parameter(), 3) << " bits per parameter)\n";
    if (sizes.bits != sizes.nonzero_bits)
        std::cout << "  with all-zero layers at 0 bits [32*" << sizes.parameters << " / " << sizes.nonzero_bits
                  << "]: " << fixed(sizes.nonzero_compression(), 2) << " X ("
                  << fixed(sizes.nonzero_bits_per_parameter(), 3) << " bits per parameter)\n";
    std::cout << std::flush;
}

void Session::write(const std::string& name, std::int64_t epoch, double accuracy, double best_accuracy) {
    write_network(path(name + ".h5"), *bits_, {describe(model_options_), epoch, accuracy, best_accuracy, normalization_});
}

std::optional<TrainResult> Session::train(const Training& training, double& best_accuracy) {
    const auto optimizer = make_sgd(model_->named_parameters(), {.learning_rate = settings_.learning_rate,
                                                                 .momentum = settings_.momentum,
                                                                 .weight_decay = settings_.weight_decay});
    LoaderOptions loader = loader_options(settings_.train_batch);
    loader.shuffle = Shuffle::full;
    loader.augmentation = parse_augmentations(
        settings_.augment != "auto" ? settings_.augment : is_cifar(settings_.data.dataset) ? "crop4,flip" : "");
    Loader train_loader(data_.train, loader);

    StepLimit limit(settings_.max_steps, install_stop_handlers());
    TrainerOptions options;
    options.epochs = std::max<std::int64_t>(0, settings_.epochs - settings_.start_epoch);
    options.seed = static_cast<std::uint64_t>(settings_.common.seed);
    options.checkpoint = path("last.h5");
    options.checkpoint_every_steps = settings_.checkpoint_every_steps;
    options.stop = &limit.stop();
    options.step_graph = settings_.gpu.step_graph();
    options.model_description = describe(model_options_);
    options.configuration = settings_.configuration;
    Trainer trainer(*model_, *optimizer, cross_entropy_loss(), options);
    for (const LossTerm& term : training.terms) trainer.add_loss_term(term);
    trainer.add(limit.callback());
    // A set of epochs, as the published program takes it: in any order, each once.
    std::vector<std::int64_t> drops;
    for (const std::int64_t epoch : std::set<std::int64_t>(settings_.schedule.begin(), settings_.schedule.end()))
        if (epoch >= settings_.start_epoch) drops.push_back(epoch - settings_.start_epoch);
    trainer.add(std::make_shared<LearningRateSchedule>(
        multi_step_schedule(settings_.learning_rate, drops, settings_.gamma)));
    for (const auto& callback : training.callbacks) trainer.add(callback);
    const auto files = std::make_shared<NetworkFiles>(*this, training.best_accuracy);
    trainer.add(files);
    trainer.add(std::make_shared<TabLog>(path("log.txt"), training.columns));
    std::vector<std::string> columns{"loss", "accuracy", "val_loss", "val_accuracy", "lr"};
    for (const auto& [title, field] : training.columns) columns.push_back(field);
    trainer.add(std::make_shared<CsvHistory>(path("history.csv"), columns));
    trainer.add(std::make_shared<ProgressBar>());
    if (resuming()) trainer.resume(options.checkpoint);
    TrainResult result = trainer.fit(train_loader, test_loader_.get());
    best_accuracy = files->best();
    if (result.interrupted && !limit.reached()) {
        std::cerr << program_ << ": interrupted; continue with --resume --out-dir " << settings_.common.out_dir << "\n";
        return std::nullopt;
    }
    if (result.interrupted) return std::nullopt;
    return result;
}

Result Session::result(const ClassificationMetrics& test, double best_accuracy, std::int64_t epochs) {
    Result r;
    r.accuracy = test.accuracy();
    r.cross_entropy = test.cross_entropy();
    r.best_accuracy = best_accuracy / 100;
    r.sizes = bits_->sizes();
    r.table = bits_->table();
    r.epochs = epochs;
    return r;
}

void Session::report(const std::string& title, const Result& r) {
    if (std::filesystem::exists(path("history.csv")))
        plot_learning_curves(settings_.common.out_dir, {read_history(path("history.csv"), "run")});
    plot_precisions(settings_.common.out_dir, "precision", {{"bits", r.table}});
    Report report(title);
    report.paragraph(cat("Test set: ", fixed(100 * r.accuracy, 2), " % correct, cross-entropy ", fixed(r.cross_entropy, 6),
                         ". ", fixed(r.sizes.bits_per_parameter(), 3), " bits per parameter, compression ",
                         fixed(r.sizes.compression(), 2), "; with all-zero layers at 0 bits ",
                         fixed(r.sizes.nonzero_bits_per_parameter(), 3), " and ", fixed(r.sizes.nonzero_compression(), 2),
                         "."));
    if (std::filesystem::exists(path("learning_curves.svg")))
        report.figure("Learning curves", path("learning_curves.svg"));
    report.figure("Bits of every layer", path("precision.svg"));
    ReportTable table;
    table.header = {"layer", "bits", "bias bits"};
    for (const auto& [layer, bits] : r.table)
        table.rows.push_back({layer, cat(bits[0]), bits[1] > 0 ? cat(bits[1]) : std::string("-")});
    report.table("Precision", table);
    if (!settings_.command.empty()) report.preformatted("Command line", settings_.command);
    report.settings("Settings", settings_.listed);
    report.write(path("report.html"));
    write_file_atomically(path("summary.json"), to_json(r));  // last: a sweep takes it for the end of the step
}

bool plot_precisions(const std::string& folder, const std::string& name, const std::vector<PrecisionSeries>& series) {
    if (series.empty() || series.front().table.empty()) return false;
    std::string data = "# layer";
    for (const PrecisionSeries& s : series) data += " \"" + s.label + "\"";
    data += "\n";
    int most = 1;
    for (std::size_t row = 0; row < series.front().table.size(); ++row) {
        data += "\"" + series.front().table[row].first + "\"";
        for (const PrecisionSeries& s : series) {
            const int bits = row < s.table.size() ? s.table[row].second[0] : 0;
            most = std::max(most, bits);
            data += cat(" ", bits);
        }
        data += "\n";
    }
    FigureFolder figures(folder);
    figures.write(name + ".dat", data);
    std::string script = cat("set datafile separator whitespace\nset colorsequence podo\nset style data histogram\n",
                             "set style histogram clustered gap 1\nset style fill solid 0.9\nset boxwidth 0.9\n",
                             "set xtics rotate by -60 scale 0\nset grid ytics lc rgb '#cccccc'\nset yrange [0:", most + 0.5,
                             "]\nset ytics 1\nset ylabel 'bits of the weights'\nset key outside right top\nplot ");
    for (std::size_t i = 0; i < series.size(); ++i)
        script += cat(i ? ", \\\n     " : "", gnuplot_string(name + ".dat"), " using ", i + 2, i == 0 ? ":xtic(1)" : "",
                      " title ", gnuplot_string(series[i].label));
    return figures.draw(name, script + "\n", {900, 420});
}

}  // namespace bitloom::bsq
