// svhn_compare: trained networks side by side: ROC curves, weights, profiles, operations, feature maps, confusion and
// learning curves (svhn-qkeras.md, sections 2.2, 5.11 and 6).

#include <algorithm>
#include <iostream>
#include <set>

#include "apps/common/common_flags.h"
#include "apps/common/fold_scores.h"
#include "apps/common/optparse.h"
#include "apps/common/progress_board.h"
#include "apps/common/report.h"
#include "apps/common/run_folder.h"
#include "apps/common/text.h"
#include "apps/common/trained_folder.h"
#include "apps/plots/csv.h"
#include "apps/plots/image_plots.h"
#include "apps/plots/layer_plots.h"
#include "apps/plots/roc_plot.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/program.h"
#include "engine/threads.h"
#include "quant/cost/flops.h"

namespace bitloom {
namespace {

struct CompareFlags {
    std::string names = "Baseline", models = "models/full_0";
    std::int64_t predict = 1, folds = 10, image = 0;
    bool weights = false, profile = false, operations = false, roc = false, kfold = false, filters = false, all = false;
};

void add_compare_flags(Flags& flags, CompareFlags& values) {
    flags.group("Comparison");
    flags.add("models", values.models, "folders of trained networks, separated by ';'");
    flags.alias("m", "models");
    flags.add("names", values.names, "their names in the report, separated by ';'");
    flags.alias("n", "names");
    flags.add(
        "kFold", values.kfold,
        "ROC curves over the folds of each network, as far as they are there: of quant_8bit_0 also quant_8bit_1 and "
        "so on");
    flags.add("folds", values.folds, "of --kFold", {.min = 1});
    flags.add("doROC", values.roc, "ROC curves of each network");
    flags.alias("R", "doROC");
    flags.add("doWeights", values.weights, "histogram of the weights, shares of zeros");
    flags.alias("w", "doWeights");
    flags.add("doProfile", values.profile, "profiles of weights and of activations (first 1000 test images)");
    flags.alias("P", "doProfile");
    flags.add("doOPS", values.operations,
              "operations and weights by layer; a network with 'prune' in its name is left out, the others are not");
    flags.alias("O", "doOPS");
    flags.add("doFilters", values.filters, "feature maps of the convolutions for one training image");
    flags.alias("F", "doFilters");
    flags.add("image", values.image, "number of that image", {.min = 0});
    flags.add("all", values.all, "all of these");
    flags.alias("a", "all");
    flags.add("predict", values.predict, "accepted for the sake of published command lines; does nothing");
    flags.alias("p", "predict");
}

/// A network of the list.
struct Compared {
    std::string folder, name;
    std::string stem;  ///< of its files: the folder's name
    std::string text;  ///< in plots
    quant::CompressedModel model;
    Predictions predictions;
    std::vector<std::string> fold_folders;  ///< with --kFold
    std::vector<Predictions> folds;
};

/// "quant 8bit" of "quant_8bit_0". (The published program removes every zero, so that 10 bits read as 1.)
std::string text_of(std::string stem) {
    if (stem.ends_with("_0")) stem.resize(stem.size() - 2);
    std::replace(stem.begin(), stem.end(), '_', ' ');
    return stem;
}

std::vector<Compared> listed(const Flags& flags, const CompareFlags& values) {
    const std::vector<std::string> folders = split_semicolons(values.models);
    std::vector<std::string> names = split_semicolons(values.names);
    if (folders.empty()) throw UsageError("--models names no network");
    if (!flags.given("names") && flags.given("models")) {
        names.clear();
        for (const std::string& folder : folders) names.push_back(folder_name(folder));
    }
    if (names.size() != folders.size())
        throw UsageError(cat("--names has ", names.size(), " entries, --models ", folders.size()));
    std::vector<Compared> networks(folders.size());
    std::set<std::string> stems;
    for (std::size_t i = 0; i < folders.size(); ++i) {
        networks[i].folder = folders[i];
        networks[i].name = names[i];
        networks[i].stem = folder_name(folders[i]);
        networks[i].text = text_of(networks[i].stem);
        if (!stems.insert(networks[i].stem).second) stems.insert(networks[i].stem += cat("_", i + 1));
        if (values.kfold) other_fold(folders[i], 0);  // throws where its folds have no names
    }
    return networks;
}

void test(Compared& network, TestBench& bench, Device device, const CompareFlags& values, ProgressBoard& board) {
    board.show(0, network.folder);
    network.predictions = bench.predict_test(network.folder, network.model);
    if (!values.kfold) return;
    std::string missing;
    for (int fold = 0; fold < values.folds; ++fold) {
        const std::string folder = other_fold(network.folder, fold);
        if (!is_trained(folder)) {
            missing += (missing.empty() ? "" : ", ") + folder_name(folder);
            continue;
        }
        board.show(0, folder);
        network.fold_folders.push_back(folder);
        network.folds.push_back(bench.predict_test(folder, open_trained(folder, device)));
    }
    if (!missing.empty()) std::cerr << "svhn_compare: not there, left out: " << missing << "\n";
}

/// What the sections of one network write to.
struct Output {
    FigureFolder& figures;
    Report& report;
    /// A figure that has been drawn, into the report.
    void figure(const std::string& heading, const std::string& name) {
        report.figure(heading, figures / (name + ".svg"));
    }
};

std::vector<double> fold_accuracies(const Compared& network) {
    std::vector<double> values;
    for (const Predictions& fold : network.folds) values.push_back(fold.metrics.accuracy());
    return values;
}

ReportTable area_table(const std::vector<ClassRoc>& classes) {
    ReportTable table;
    table.header = {"class", "AUC", "std", "least", "largest"};
    for (const ClassRoc& c : classes) {
        const auto [least, largest] = std::minmax_element(c.areas.begin(), c.areas.end());
        table.rows.push_back({cat(c.label), fixed(c.area().mean, 4), fixed(c.area().deviation, 4), fixed(*least, 4),
                              fixed(*largest, 4)});
    }
    return table;
}

void kfold_section(const Compared& network, Output& out) {
    const std::vector<ClassRoc> classes = class_rocs(network.folds);
    const std::vector<double> accuracies = fold_accuracies(network);
    const MeanAndDeviation m = mean_and_deviation(accuracies);
    const std::string accuracy = cat("Accuracy = ", fixed(100 * m.mean, 1), " ± ", fixed(100 * m.deviation, 1), " %");
    const std::string name = network.stem + "_kfold_ROC";
    plot_roc_bands(out.figures, name, classes, {network.text, accuracy});
    out.figures.write(network.stem + "_kfold_AUC.csv", areas_csv(classes));
    std::string csv = "folder,accuracy,loss\n";
    for (std::size_t i = 0; i < network.folds.size(); ++i)
        csv += cat(csv_text(folder_name(network.fold_folders[i])), ",", csv_number(accuracies[i]), ",",
                   csv_number(network.folds[i].metrics.cross_entropy()), "\n");
    out.figures.write(network.stem + "_kfold_accuracy.csv", csv);
    const std::string quartiles =
        cat("quartiles ", fixed(100 * quantile(accuracies, 0.25), 2), ", ", fixed(100 * quantile(accuracies, 0.5), 2),
            ", ", fixed(100 * quantile(accuracies, 0.75), 2), " %");
    std::cout << network.name << ": " << accuracy << " over " << network.folds.size()
              << (network.folds.size() == 1 ? " fold, " : " folds, ") << quartiles << "\n";
    out.figure(cat(network.name, ": ROC over ", network.folds.size(), " folds"), name);
    out.report.paragraph(cat(accuracy, ", ", quartiles, "."));
    out.report.table(network.name + ": areas under the curves", area_table(classes));
}

void roc_section(const Compared& network, Output& out) {
    const std::vector<ClassRoc> classes = class_rocs({network.predictions});
    plot_roc_curves(out.figures, network.stem + "_ROC", classes);
    out.figure(network.name + ": ROC", network.stem + "_ROC");
}

void operations_section(const Compared& network, Output& out) {
    if (network.stem.find("prune") != std::string::npos) {
        std::cout << network.name << ": pruned, no operations are counted\n";
        return;
    }
    const cost::CostNetwork costs = cost::describe_network(*network.model.network, network.model.options.input);
    const std::vector<cost::LayerFlops> layers = cost::count_flops(costs, cost::FlopRule::by_name);
    ReportTable table;
    table.header = {"layer", "MegaFLOPS", "MegaWeights"};
    std::string csv = "layer,flops,weights\n";
    std::int64_t weights = 0;
    const auto mega = [](std::int64_t count) { return fixed(static_cast<double>(count) / 1e6, 6); };
    for (const cost::LayerFlops& layer : layers) {
        table.rows.push_back({layer.name, mega(layer.flops), mega(layer.weights)});
        csv += cat(csv_text(layer.name), ",", layer.flops, ",", layer.weights, "\n");
        weights += layer.weights;
    }
    const std::int64_t total = cost::total_flops(layers);
    table.footer.push_back({"sum", mega(total), mega(weights)});
    out.figures.write(network.stem + "_flops.csv", csv);
    std::cout << network.name << ": operations\n"
              << to_text(table) << "total: " << fixed(static_cast<double>(total) / 1e9, 9) << " GFLOPS\n";
    out.report.table(network.name + ": operations", table);
}

void weights_section(const Compared& network, Output& out) {
    const std::vector<LayerWeights> layers = first_weights(*network.model.network);
    std::vector<LayerValues> stored, effective;
    ReportTable table;
    table.header = {"layer", "weights", "zeros stored", "zeros computed with"};
    std::string csv = "layer,weights,zeros_stored,zeros_effective\n";
    for (const LayerWeights& layer : layers) {
        stored.push_back({layer.title, layer.stored});
        effective.push_back({layer.title, layer.effective});
        const double zeros = share_of_zeros(layer.stored), zeros_effective = share_of_zeros(layer.effective);
        table.rows.push_back({layer.title, cat(layer.stored.size()), fixed(zeros, 4), fixed(zeros_effective, 4)});
        csv += cat(csv_text(layer.layer), ",", layer.stored.size(), ",", csv_number(zeros), ",",
                   csv_number(zeros_effective), "\n");
    }
    out.figures.write(network.stem + "_zeros.csv", csv);
    std::cout << network.name << ": shares of zeros\n" << to_text(table);
    plot_weights(out.figures, network.stem + "_weights", stored);
    out.figure(network.name + ": weights", network.stem + "_weights");
    if (!network.model.schemes.empty()) {
        plot_weights(out.figures, network.stem + "_weights_effective", effective);
        out.figure(network.name + ": weights as the layers compute with them", network.stem + "_weights_effective");
    }
    out.report.table(network.name + ": shares of zeros", table);
}

void profile_section(const Compared& network, TestBench& bench, Output& out) {
    constexpr std::int64_t images = 1000;
    const std::string weights = network.stem + "_weight_profile", activations = network.stem + "_activation_profile";
    plot_profiles(out.figures, weights, weight_profiles(*network.model.network), "|weight|");
    out.figure(network.name + ": profile of the weights", weights);
    const Tensor inputs = bench.test_images(network.folder, network.model, images);
    plot_profiles(out.figures, activations, activation_profiles(*network.model.network, inputs), "|activation|");
    out.figure(cat(network.name, ": profile of the activations for ", inputs.dim(0), " test images"), activations);
}

void filter_section(const Compared& network, TestBench& bench, const CompareFlags& values, Output& out) {
    const Tensor image = bench.training_image(network.folder, network.model, values.image);
    for (const FeatureMaps& maps : convolution_outputs(*network.model.network, image)) {
        const std::string name = network.stem + "_" + maps.layer + "_maps";
        plot_feature_maps(out.figures, name, maps);
        out.figure(cat(network.name, ": feature maps of ", maps.layer, ", training image ", values.image), name);
    }
}

/// Of the network, or of its folds.
void training_section(const Compared& network, Output& out) {
    const bool folds = !network.folds.empty();
    std::vector<LearningCurve> curves;
    std::vector<std::int64_t> confusion = confusion_of(network.predictions.metrics);
    if (folds) {
        std::fill(confusion.begin(), confusion.end(), 0);
        for (std::size_t i = 0; i < network.folds.size(); ++i) {
            curves.push_back(learning_curve_of(network.fold_folders[i], folder_name(network.fold_folders[i])));
            const std::vector<std::int64_t> more = confusion_of(network.folds[i].metrics);
            std::transform(confusion.begin(), confusion.end(), more.begin(), confusion.begin(), std::plus<>());
        }
    } else {
        curves.push_back(learning_curve_of(network.folder, network.stem));
    }
    plot_learning_curves(out.figures, network.stem + "_learning_curves", curves);
    out.figure(network.name + ": learning curves", network.stem + "_learning_curves");
    plot_confusion(out.figures, network.stem + "_confusion", confusion, network.predictions.classes());
    out.report.confusion(cat(network.name, ": confusion on the test set", folds ? ", summed over the folds" : ""),
                         confusion, network.predictions.classes());
}

ReportTable summary_table(const std::vector<Compared>& networks) {
    ReportTable table;
    table.header = {"network", "folder", "parameters", "test accuracy", "test loss", "zeros"};
    const bool folds = !networks.front().folds.empty();
    if (folds) table.header.insert(table.header.end(), {"folds", "mean accuracy", "std"});
    for (const Compared& network : networks) {
        std::vector<float> weights;
        for (const LayerWeights& layer : first_weights(*network.model.network))
            weights.insert(weights.end(), layer.effective.begin(), layer.effective.end());
        std::vector<std::string> row{network.name,
                                     folder_name(network.folder),
                                     cat(network.model.network->parameter_count()),
                                     fixed(network.predictions.metrics.accuracy(), 4),
                                     fixed(network.predictions.metrics.cross_entropy(), 4),
                                     fixed(share_of_zeros(weights), 4)};
        if (folds) {
            const MeanAndDeviation m = mean_and_deviation(fold_accuracies(network));
            row.insert(row.end(), {cat(network.folds.size()), fixed(m.mean, 4), fixed(m.deviation, 4)});
        }
        table.rows.push_back(std::move(row));
    }
    return table;
}

int run(int argc, char** argv) {
    CompareFlags values;
    CommonFlags common;
    DataFlags data_flags;
    data_flags.dataset = "svhn";
    Flags flags(
        "svhn_compare",
        "Compares networks that svhn_kfold trained (model_best.h5 of each folder) on the test set: always accuracy, "
        "confusion and learning curves, and what the flags ask for; as PDF, SVG and CSV, and all of it in "
        "compare_report.html. The test images are those of the networks' data set, unless the flags of data say "
        "otherwise.");
    add_plotting_flags(flags, common);
    add_compare_flags(flags, values);
    add_data_flags(flags, data_flags);
    flags.example("-m 'runs/a/full_0;runs/a/pruned_full_0' -n 'BF;BP' -wPOR -o plots",
                  "weights, profiles, operations and ROC curves of two networks");
    flags.example("--kFold -m 'runs/a/full_0;runs/a/quant_8bit_0' -o plots", "ROC curves with bands over the folds");
    parse_short_options(flags, argc, argv, "wPORFah", "nmpo");
    if (common.out_dir.empty()) throw UsageError("--out-dir is empty: the folder of the results");
    const std::string record = common.out_dir + "/records/compare";
    if (common.resume) resume_flags(flags, record, {"resume", "out-dir", "data-dir", "device", "threads"});
    if (values.all)
        values.weights = values.profile = values.operations = values.roc = values.kfold = values.filters = true;
    std::vector<Compared> networks = listed(flags, values);
    set_threads(static_cast<int>(common.threads));
    const Device device = open_device(common.device);

    for (Compared& network : networks) network.model = open_trained(network.folder, device);
    make_folder(common.out_dir);
    make_folder(record);
    TestBench bench(flags, data_flags, device);
    {
        ProgressBoard board({"testing"});
        for (Compared& network : networks) test(network, bench, device, values, board);
    }
    write_run_record(record, "svhn_compare", flags, argc, argv, device, thread_count());

    FigureFolder figures(common.out_dir);
    Report report("bitloom: comparison of SVHN networks");
    report.paragraph(cat("Tested on ", networks.front().predictions.metrics.count(), " images of ",
                         bench.data().dataset, ". Standard deviations are the population's."));
    const ReportTable summary = summary_table(networks);
    report.table("Networks", summary);
    Output out{figures, report};
    for (const Compared& network : networks) {
        if (values.kfold) kfold_section(network, out);
        if (values.roc) roc_section(network, out);
        if (values.operations) operations_section(network, out);
        if (values.weights) weights_section(network, out);
        if (values.profile) profile_section(network, bench, out);
        if (values.filters) filter_section(network, bench, values, out);
        training_section(network, out);
    }
    report.preformatted("Command line", command_line(argc, argv));
    report.settings("Settings", settings_of(flags));
    report.write(figures / "compare_report.html");
    std::cout << to_text(summary) << report_line(figures / "compare_report.html");
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
