// svhn_diagnostics: test accuracies of trained networks over folds and bit widths, as box plots, tables, learning
// curves and confusion matrices (svhn-qkeras.md, sections 2.3 and 6).

#include <algorithm>
#include <iostream>

#include "apps/common/common_flags.h"
#include "apps/common/fold_scores.h"
#include "apps/common/optparse.h"
#include "apps/common/progress_board.h"
#include "apps/common/report.h"
#include "apps/common/run_folder.h"
#include "apps/common/text.h"
#include "apps/common/trained_folder.h"
#include "apps/plots/box_plot.h"
#include "apps/plots/csv.h"
#include "apps/plots/image_plots.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/program.h"
#include "engine/threads.h"

namespace bitloom {
namespace {

struct DiagnosticsFlags {
    std::string models = "full", names, prefix = "all", extra;
    std::int64_t folds = 10;
    bool pruned = false;
};

void add_diagnostics_flags(Flags& flags, DiagnosticsFlags& values) {
    flags.group("Diagnostics");
    flags.add(
        "models", values.models,
        "folders of networks without the number of the fold, separated by ';': runs/a/quant_8bit for quant_8bit_0, "
        "quant_8bit_1, ...; where there are pruned_quant_8bit_0 and so on beside them, these are the second box");
    flags.alias("m", "models");
    flags.add("names", values.names, "what stands below the boxes, separated by ';' (none: from the folders)");
    flags.alias("n", "names");
    flags.add("kfolds", values.folds,
              "folds of each network, as far as they are there; 0: the folders as they are named", {.min = 0});
    flags.alias("k", "kfolds");
    flags.add("prefix", values.prefix, "of the names of the files");
    flags.alias("p", "prefix");
    flags.add("extra", values.extra, "text printed in the plot");
    flags.alias("e", "extra");
    flags.add("pruned", values.pruned, "accepted for the sake of published command lines; does nothing");
}

/// One box: a network over its folds.
struct Group {
    std::size_t position = 0;
    bool pruned = false;
    std::string name;  ///< "pruned_quant_8bit"
    std::vector<std::string> folders;
    std::vector<ClassificationMetrics> metrics;  ///< a folder each, on the test set
    std::vector<std::string> fold_names;

    std::vector<double> accuracies() const {
        std::vector<double> values;
        for (const ClassificationMetrics& m : metrics) values.push_back(m.accuracy());
        return values;
    }
};

/// Published names where the folder is one of svhn_kfold's.
std::string label_of(const std::string& folder) {
    std::string name = folder_name(folder);
    if (name == "full") return "BF/BP";
    if (name == "quant_1bit") return "Binary";
    if (name == "quant_2bit") return "Ternary";
    if (name.starts_with("quant_") && name.ends_with("bit")) return name.substr(6, name.size() - 9) + " bit";
    std::replace(name.begin(), name.end(), '_', ' ');
    return name;
}

std::vector<std::string> labels_of(const DiagnosticsFlags& values, const std::vector<std::string>& models) {
    std::vector<std::string> labels = split_semicolons(values.names);
    if (labels.empty()) std::transform(models.begin(), models.end(), std::back_inserter(labels), label_of);
    if (labels.size() != models.size())
        throw UsageError(cat("--names has ", labels.size(), " entries, --models ", models.size()));
    // The published figure: ten widths, the AutoQ model and the float one.
    if (labels.size() == 12 && values.folds > 0) labels[10] = "AQ/AQP", labels[11] = "BF/BP";
    return labels;
}

Group group_of(std::size_t position, bool pruned, const std::string& prefix, std::int64_t folds) {
    Group group;
    group.position = position;
    group.pruned = pruned;
    group.name = folder_name(prefix);
    if (folds == 0) {
        group.folders = {prefix};
        group.fold_names = {group.name};
        return group;
    }
    std::string missing;
    for (int fold = 0; fold < folds; ++fold) {
        const std::string folder = fold_folder(prefix, fold);
        if (is_trained(folder)) {
            group.folders.push_back(folder);
            group.fold_names.push_back(folder_name(folder));
        } else {
            missing += (missing.empty() ? "" : ", ") + folder_name(folder);
        }
    }
    if (group.folders.empty() && !pruned) open_trained(fold_folder(prefix, 0), cpu_device);  // says what is missing
    if (!missing.empty() && !group.folders.empty())
        std::cerr << "svhn_diagnostics: not there, left out: " << missing << "\n";
    return group;
}

std::vector<Group> find_groups(const std::vector<std::string>& models, std::int64_t folds) {
    std::vector<Group> groups;
    for (std::size_t i = 0; i < models.size(); ++i) {
        groups.push_back(group_of(i, false, models[i], folds));
        if (folds == 0) continue;
        Group pruned = group_of(i, true, pruned_folder(models[i]), folds);
        if (!pruned.folders.empty()) groups.push_back(std::move(pruned));
    }
    return groups;
}

void test_all(std::vector<Group>& groups, TestBench& bench, Device device) {
    std::size_t total = 0, done = 0;
    for (const Group& group : groups) total += group.folders.size();
    ProgressBoard board({"testing"});
    for (Group& group : groups)
        for (const std::string& folder : group.folders) {
            board.show(0, cat(folder_name(folder), " (", ++done, " of ", total, ")"));
            group.metrics.push_back(bench.predict_test(folder, open_trained(folder, device)).metrics);
        }
}

std::string accuracies_csv(const std::vector<Group>& groups, const std::vector<std::string>& labels) {
    std::string text = "position,label,pruned,folder,accuracy,loss\n";
    for (const Group& group : groups)
        for (std::size_t i = 0; i < group.folders.size(); ++i) {
            const ClassificationMetrics& metrics = group.metrics[i];
            text += cat(group.position + 1, ",", csv_text(labels[group.position]), ",", group.pruned ? 1 : 0, ",",
                        csv_text(group.fold_names[i]), ",", csv_number(metrics.accuracy()), ",",
                        csv_number(metrics.cross_entropy()), "\n");
        }
    return text;
}

ReportTable accuracy_table(const std::vector<Group>& groups, const std::vector<std::string>& labels) {
    ReportTable table;
    table.header = {"model", "networks", "label", "accuracy", "std", "least", "q1", "median", "q3", "largest"};
    for (const Group& group : groups) {
        const std::vector<double> values = group.accuracies();
        const BoxStatistics box = box_statistics(values);
        std::vector<std::string> row{group.name, cat(values.size()), labels[group.position]};
        const auto [least, largest] = std::minmax_element(values.begin(), values.end());
        for (const double value :
             {box.mean, box.deviation, *least, box.lower_quartile, box.median, box.upper_quartile, *largest})
            row.push_back(fixed(value, 4));
        table.rows.push_back(std::move(row));
    }
    return table;
}

BoxPlot box_plot(const std::vector<Group>& groups, const std::vector<std::string>& labels,
                 const DiagnosticsFlags& values) {
    BoxPlot plot;
    plot.labels = labels;
    plot.y_label = "Accuracy";
    plot.least = 0.55, plot.most = 1.1;
    plot.series = {{values.folds > 0 ? "Full" : "Test accuracy", "#FC766A", {}}};
    if (std::any_of(groups.begin(), groups.end(), [](const Group& g) { return g.pruned; }))
        plot.series.push_back({"Pruned (50%)", "#184A45", {}});
    std::size_t most_folds = 0;
    for (BoxSeries& series : plot.series) series.values.resize(labels.size());
    for (const Group& group : groups) {
        plot.series[group.pruned ? 1 : 0].values[group.position] = group.accuracies();
        most_folds = std::max(most_folds, group.folders.size());
    }
    if (labels.size() > 10 && values.folds > 0) plot.divider = 10.5;
    if (values.folds > 0) plot.words.push_back(cat(most_folds, "-fold cross-validation"));
    if (!values.extra.empty()) plot.words.push_back(values.extra);
    return plot;
}

/// Curves and confusion of each network; all networks' curves in one figure where folders stand alone.
void add_details(Report& report, FigureFolder& figures, const std::vector<Group>& groups,
                 const DiagnosticsFlags& values) {
    const auto curves_figure = [&](const std::string& name, const std::string& heading,
                                   const std::vector<LearningCurve>& curves) {
        plot_learning_curves(figures, name, curves);
        report.figure(heading, figures / (name + ".svg"));
    };
    std::vector<LearningCurve> all;
    for (std::size_t g = 0; g < groups.size(); ++g) {
        const Group& group = groups[g];
        std::vector<LearningCurve> curves;
        for (std::size_t i = 0; i < group.folders.size(); ++i)
            curves.push_back(learning_curve_of(group.folders[i], group.fold_names[i]));
        all.insert(all.end(), curves.begin(), curves.end());
        if (values.folds > 0)
            curves_figure(cat(values.prefix, "_learning_curves_", group.name), "Learning curves of " + group.name,
                          curves);
        std::vector<std::int64_t> confusion = confusion_of(group.metrics.front());
        for (std::size_t i = 1; i < group.metrics.size(); ++i) {
            const std::vector<std::int64_t> more = confusion_of(group.metrics[i]);
            std::transform(confusion.begin(), confusion.end(), more.begin(), confusion.begin(), std::plus<>());
        }
        const int classes = group.metrics.front().classes();
        plot_confusion(figures, cat(values.prefix, "_confusion_", group.name), confusion, classes);
        report.confusion(cat("Confusion of ", group.name, " on the test set",
                             group.folders.size() > 1 ? ", summed over the folds" : ""),
                         confusion, classes);
    }
    if (values.folds == 0) curves_figure(values.prefix + "_learning_curves", "Learning curves", all);
}

int run(int argc, char** argv) {
    DiagnosticsFlags values;
    CommonFlags common;
    DataFlags data_flags;
    data_flags.dataset = "svhn";
    Flags flags(
        "svhn_diagnostics",
        "Tests the networks that svhn_kfold trained (model_best.h5 of each fold) and draws their accuracies over "
        "the folds as box plots, a pair of boxes a bit width: as trained, and pruned. With tables, learning "
        "curves and confusion matrices, as PDF, SVG and CSV, and all of it in PREFIX_report.html. The test "
        "images are those of the networks' data set, unless the flags of data say otherwise.");
    add_plotting_flags(flags, common);
    add_diagnostics_flags(flags, values);
    add_data_flags(flags, data_flags);
    flags.example("-m 'runs/a/quant_8bit;runs/a/quant_4bit;runs/a/full' -k 3 -o plots",
                  "three networks of three folds each, with what there is of pruned_quant_8bit_0 and so on");
    flags.example("-k 0 -m 'runs/a/full_0;runs/b/full_0' -n 'first;second' -p two -o plots", "two networks alone");
    parse_short_options(flags, argc, argv, "h", "omnpek");
    if (common.out_dir.empty()) throw UsageError("--out-dir is empty: the folder of the results");
    const std::string record = common.out_dir + "/records/diagnostics_" + values.prefix;
    if (common.resume) resume_flags(flags, record, {"resume", "out-dir", "data-dir", "device", "threads"});
    const std::vector<std::string> models = split_semicolons(values.models);
    if (models.empty()) throw UsageError("--models names no network");
    if (values.prefix.find('/') != std::string::npos) throw UsageError("--prefix is the start of file names: no '/'");
    const std::vector<std::string> labels = labels_of(values, models);
    set_threads(static_cast<int>(common.threads));
    const Device device = open_device(common.device);

    std::vector<Group> groups = find_groups(models, values.folds);
    for (std::size_t g = 0; g < groups.size(); ++g)  // networks of one name in several runs
        if (std::any_of(groups.begin(), groups.begin() + static_cast<std::ptrdiff_t>(g),
                        [&](const Group& other) { return other.name == groups[g].name; })) {
            for (std::string& name : groups[g].fold_names) name += cat("_", groups[g].position + 1);
            groups[g].name += cat("_", groups[g].position + 1);
        }
    make_folder(common.out_dir);
    make_folder(record);
    TestBench bench(flags, data_flags, device);
    test_all(groups, bench, device);
    write_run_record(record, "svhn_diagnostics", flags, argc, argv, device, thread_count());

    FigureFolder figures(common.out_dir);
    const std::string summary = values.prefix + "_performance_summary_COMBO";
    figures.write(values.prefix + "_accuracies.csv", accuracies_csv(groups, labels));
    plot_boxes(figures, summary, box_plot(groups, labels, values));
    Report report("bitloom: diagnostics of the SVHN networks");
    report.paragraph(
        cat("Test accuracy on ", groups.front().metrics.front().count(), " images of ", bench.data().dataset,
            ". Standard deviations are the population's; boxes span the quartiles, whiskers reach to the last "
            "value within 1.5 times the box."));
    const ReportTable table = accuracy_table(groups, labels);
    report.figure("Accuracy over the folds", figures / (summary + ".svg"));
    report.table("Accuracies", table);
    add_details(report, figures, groups, values);
    report.preformatted("Command line", command_line(argc, argv));
    report.settings("Settings", settings_of(flags));
    const std::string path = figures / (values.prefix + "_report.html");
    report.write(path);
    std::cout << to_text(table) << report_line(path);
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
