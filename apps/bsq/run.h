#pragma once
// One run of a BSQ program: network, data, tests, files and reports (bsq.md, 2.2 to 2.4).

#include <memory>
#include <optional>
#include <string>

#include "apps/bsq/settings.h"
#include "engine/data/loader.h"
#include "engine/train/metrics.h"
#include "engine/train/trainer.h"

namespace bitloom::bsq {

/// What a run has come to.
struct Result {
    bool interrupted = false;
    double accuracy = 0, cross_entropy = 0;       ///< of the test set, fraction and nats, of the last weights
    double best_accuracy = 0;                     ///< of the epochs, fraction
    BitSizes sizes;
    PrecisionTable table;
    std::int64_t epochs = 0;
};
std::string to_json(const Result& result);
Result result_from_json(const std::string& json);

/// Network in bits, data and files of one run. Prints to stdout.
class Session {
   public:
    /// Loads data, builds the network and hooks its activations; threads and device are set from the settings.
    Session(const std::string& program, const Settings& settings);

    const Settings& settings() const { return settings_; }
    Device device() const { return device_; }
    Module& model() { return *model_; }
    BitNetwork& bits() { return *bits_; }
    const std::vector<std::pair<std::string, Parameter*>>& alphas() const { return alphas_; }

    /// Whether there is a run to continue: --resume was given and last.h5 is there.
    bool resuming() const;
    /// To be called when all input has been read and nothing has been written: a wrong command loses nothing. A new run then
    /// forgets the one that the folder held.
    void begin() const;
    /// Fills the network from a file; --bin refuses floating-point ones. Parameters stay on the run's device.
    NetworkFile load(const std::string& path);
    /// The test set, test_batch images a time in file order.
    ClassificationMetrics test();
    /// test(), printed as "Accuracy: 92.49%".
    ClassificationMetrics print_test();
    /// "correct: 9249/10000", top-5 and cross-entropy, a line each: what --evaluate leaves on stdout.
    void print_metrics(const ClassificationMetrics& metrics);
    void print_statistics();
    /// "Compression rate after pruning [32*268346 / 2146768]: 4.00 X", and the same with all-zero tensors at 0 bits where it
    /// differs.
    void print_compression(const std::string& label);
    /// Writes a network file in the spec's layout: <out-dir>/<name>.h5.
    void write(const std::string& name, std::int64_t epoch, double accuracy, double best_accuracy);
    std::string path(const std::string& name) const { return settings_.common.out_dir + "/" + name; }

    /// Trains on with SGD; `extra` adds callbacks and loss terms before the common ones. `columns`: extra columns of log.txt with
    /// their names in an epoch's record. Returns nothing where the run was interrupted.
    struct Training {
        std::vector<std::shared_ptr<Callback>> callbacks;
        std::vector<LossTerm> terms;
        std::vector<std::pair<std::string, std::string>> columns;
        double best_accuracy = 0;  ///< percent, to be exceeded for model_best
    };
    std::optional<TrainResult> train(const Training& training, double& best_accuracy);

    /// summary.json, learning curves, bits a layer, report.html.
    void report(const std::string& title, const Result& result);
    Result result(const ClassificationMetrics& test, double best_accuracy, std::int64_t epochs);

   private:
    LoaderOptions loader_options(std::int64_t batch) const;
    std::string program_;
    Settings settings_;
    Device device_;
    DataSplits data_;
    Normalization normalization_;
    ModelOptions model_options_;
    std::unique_ptr<Module> model_;
    std::unique_ptr<BitNetwork> bits_;
    std::vector<std::pair<std::string, Parameter*>> alphas_;
    std::unique_ptr<Loader> test_loader_;
};

/// The programs' work between parsing and exit status. Each leaves its files in settings.common.out_dir.
Result run_training(const Settings& settings);
Result run_finetuning(const Settings& settings);
Result run_conversion(const Settings& settings);

/// Bits of every layer of one or several networks as an SVG (`<folder>/<name>.svg`); true where gnuplot drew it.
struct PrecisionSeries {
    std::string label;
    PrecisionTable table;
};
bool plot_precisions(const std::string& folder, const std::string& name, const std::vector<PrecisionSeries>& series);

}  // namespace bitloom::bsq
