// bsq_sweep: size against accuracy over the strength of the regulariser (Table 1 of Yang et al., 2021), and ablations.

#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/bsq/program.h"
#include "apps/common/fold_scores.h"
#include "apps/common/report.h"
#include "apps/common/run_folder.h"
#include "apps/common/text.h"
#include "engine/io/atomic_file.h"
#include "engine/train/signals.h"

namespace bitloom {
namespace {

using Json = nlohmann::ordered_json;

struct SweepFlags {
    std::vector<double> alphas{3e-3, 5e-3, 7e-3, 1e-2, 2e-2};
    std::vector<std::int64_t> intervals;
    bool ablate_reweighing = false;
    std::string float_model;
    std::int64_t finetune_epochs = 300;
    double finetune_lr = 0.01;
    std::vector<std::int64_t> finetune_schedule{150, 250};
};

void add_sweep_flags(Flags& flags, SweepFlags& values) {
    flags.group("Sweep");
    flags.add("alphas", values.alphas, "strengths of the group Lasso, a run each", {.min = 0});
    flags.add("intervals", values.intervals, "further runs with the first alpha and these values of --Prun-Int", {.min = 1});
    flags.add("ablate-reweighing", values.ablate_reweighing, "a further run of every alpha without reweighing");
    flags.add("float-model", values.float_model,
              "floating-point weights: each scheme is also imposed on them and trained like the fine-tuning (the control); "
              "left open: no control");
    flags.add("finetune-epochs", values.finetune_epochs, "of the fine-tuning and the control", {.min = 0});
    flags.add("finetune-lr", values.finetune_lr, "their learning rate", {.min = 0});
    flags.add("finetune-schedule", values.finetune_schedule, "epochs at which it is multiplied by gamma", {.min = 0});
}

/// One row of the table.
struct Row {
    std::string name;
    double alpha = 0;
    std::int64_t interval = 0;
    bool reweighed = true;
    bsq::Result searched, finetuned, control;
    bool has_control = false;
};

/// Runs a step of the sweep, unless it is done already.
bsq::Result step(bsq::Settings settings, const std::string& folder, bsq::Result (*run)(const bsq::Settings&)) {
    const std::string summary = folder + "/summary.json";
    if (settings.common.resume && std::filesystem::exists(summary)) return bsq::result_from_json(read_file(summary));
    make_folder(folder);
    settings.common.out_dir = folder;
    settings.record = [record = settings.record, path = folder + "/config.json", text = settings.configuration + "\n"] {
        record();
        write_file_atomically(path, text);
    };
    std::cout << "== " << folder << "\n" << std::flush;
    return run(settings);
}

void forget_row(const std::string& folder) {
    for (const char* step : {"bsq", "finetune", "control_bits", "control"})
        for (const char* name : {"last.h5", "summary.json"}) std::filesystem::remove(cat(folder, "/", step, "/", name));
}

bool run_row(const bsq::Settings& base, const SweepFlags& flags, Row& row) {
    const std::string folder = base.common.out_dir + "/" + row.name;
    bsq::Settings search = base;
    search.l1 = true;
    search.decay = row.alpha;
    search.interval = row.interval;
    search.no_reweigh = !row.reweighed;
    row.searched = step(search, folder + "/bsq", bsq::run_training);
    if (row.searched.interrupted) return false;

    bsq::Settings finetune = base;
    finetune.model_file = folder + "/bsq/checkpoint.h5";
    finetune.epochs = flags.finetune_epochs;
    finetune.start_epoch = 0;
    finetune.learning_rate = flags.finetune_lr;
    finetune.schedule = flags.finetune_schedule;
    finetune.bin = true;
    row.finetuned = step(finetune, folder + "/finetune", bsq::run_finetuning);
    if (row.finetuned.interrupted || flags.float_model.empty()) return !row.finetuned.interrupted;

    bsq::Settings convert = base;
    convert.model_file = flags.float_model;
    convert.dict = folder + "/bsq/checkpoint.h5";
    convert.bin = false;
    if (step(convert, folder + "/control_bits", bsq::run_conversion).interrupted) return false;
    finetune.model_file = folder + "/control_bits/checkpoint.h5";
    row.control = step(finetune, folder + "/control", bsq::run_finetuning);
    row.has_control = true;
    return !row.control.interrupted;
}

std::vector<Row> rows_of(const bsq::Settings& settings, const SweepFlags& flags) {
    std::vector<Row> rows;
    const auto add = [&](double alpha, std::int64_t interval, bool reweighed) {
        Row row;
        row.alpha = alpha, row.interval = interval, row.reweighed = reweighed;
        row.name = cat("alpha", alpha, "-interval", interval, reweighed ? "" : "-plain");
        for (const Row& other : rows)
            if (other.name == row.name) return;
        rows.push_back(row);
    };
    for (const double alpha : flags.alphas) add(alpha, settings.interval, true);
    for (const std::int64_t interval : flags.intervals) add(flags.alphas.front(), interval, true);
    if (flags.ablate_reweighing)
        for (const double alpha : flags.alphas) add(alpha, settings.interval, false);
    return rows;
}

ReportTable table_of(const std::vector<Row>& rows) {
    ReportTable table;
    table.header = {"alpha",         "interval",      "reweighed",     "bits/param", "compression", "bits/param (zero: 0)",
                    "compression (zero: 0)", "before FT %", "after FT %", "control %"};
    for (const Row& row : rows) {
        const bsq::BitSizes& sizes = row.searched.sizes;
        table.rows.push_back({cat(row.alpha), cat(row.interval), row.reweighed ? "yes" : "no",
                              fixed(sizes.bits_per_parameter(), 3), fixed(sizes.compression(), 2),
                              fixed(sizes.nonzero_bits_per_parameter(), 3), fixed(sizes.nonzero_compression(), 2),
                              fixed(100 * row.searched.accuracy, 2), fixed(100 * row.finetuned.accuracy, 2),
                              row.has_control ? fixed(100 * row.control.accuracy, 2) : std::string("-")});
    }
    return table;
}

std::string csv_of(const ReportTable& table) {
    std::string text;
    const auto line = [&](const std::vector<std::string>& cells) {
        for (std::size_t i = 0; i < cells.size(); ++i) text += (i ? "," : "") + cells[i];
        text += "\n";
    };
    line(table.header);
    for (const auto& row : table.rows) line(row);
    return text;
}

void write_results(const bsq::Settings& settings, const std::vector<Row>& rows) {
    const std::string& folder = settings.common.out_dir;
    const ReportTable table = table_of(rows);
    write_file_atomically(folder + "/sweep.csv", csv_of(table));
    Json json = Json::array();
    std::vector<bsq::PrecisionSeries> series;
    for (const Row& row : rows) {
        json.push_back({{"alpha", row.alpha},
                        {"interval", row.interval},
                        {"reweighed", row.reweighed},
                        {"bsq", Json::parse(bsq::to_json(row.searched))},
                        {"finetuned", Json::parse(bsq::to_json(row.finetuned))}});
        if (row.has_control) json.back()["control"] = Json::parse(bsq::to_json(row.control));
        series.push_back({row.name, row.searched.table});
    }
    write_file_atomically(folder + "/sweep.json", json.dump(2) + "\n");
    bsq::plot_precisions(folder, "precision", series);
    Report report("bitloom: BSQ sweep");
    report.paragraph("Size counts weights and biases of all layers in bits; the columns \"zero: 0\" count layers without a non-zero "
                     "weight at 0 bits instead of one. The control has the scheme, but not the weights, of the BSQ run.");
    report.table("Size against accuracy", table);
    report.figure("Bits of every layer", folder + "/precision.svg");
    report.preformatted("Command line", settings.command);
    report.settings("Settings", settings.listed);
    report.write(folder + "/report.html");
    std::cout << to_text(table);
}

int run(int argc, char** argv) {
    bsq::Settings settings;
    SweepFlags values;
    Flags flags("bsq_sweep",
                "Trains, fine-tunes and, as a control, trains from scratch under each scheme that BSQ finds for several strengths "
                "of its regulariser: bits per parameter, compression and accuracy as in the paper's Table 1, with the bits of every "
                "layer. Continues with --resume at the step that was under way.");
    bsq::add_network_flags(flags, settings);
    bsq::add_training_flags(flags, settings);
    bsq::add_sparsity_flags(flags, settings);
    add_sweep_flags(flags, values);
    flags.example("--model bsq_resnet20_8bit.h5 --float-model bsq_resnet20_fp.h5 --Prun-Int 50 --schedule 250 --wd 1e-4 "
                  "--data-dir data --out-dir runs/sweep",
                  "the published table");
    flags.example("--model bsq_resnet20_8bit.h5 --alphas 5e-3,2e-2 --Prun-Int 5 --epochs 10 --schedule 8 --wd 1e-4 "
                  "--finetune-epochs 5 --finetune-schedule 3 --data-dir data --out-dir runs/short",
                  "two strengths in an hour or two of one core");
    bsq::parse(flags, settings, "bsq_sweep", argc, argv);
    if (settings.evaluate) throw UsageError("--evaluate: the sweep trains; bsq_finetune evaluates");
    if (values.alphas.empty()) throw UsageError("--alphas is empty: a run needs a strength");
    if (settings.max_steps > 0) throw UsageError("--max-steps: the sweep runs whole epochs");
    set_threads(static_cast<int>(settings.common.threads));
    settings.common.threads = thread_count();
    make_folder(settings.common.out_dir);
    claim_folder(settings.common.out_dir);
    const Device device = open_device(settings.common.device);
    std::vector<Row> rows = rows_of(settings, values);
    // When the first step has read its input: a new sweep that is cut short must find no step of an earlier one when it goes on.
    settings.record = [&, recorded = std::make_shared<bool>(false)] {
        if (std::exchange(*recorded, true)) return;
        if (!settings.common.resume)
            for (const Row& row : rows) forget_row(settings.common.out_dir + "/" + row.name);
        write_run_record(settings.common.out_dir, "bsq_sweep", flags, argc, argv, device, thread_count());
    };
    for (Row& row : rows)
        if (!run_row(settings, values, row)) return interrupted_exit_status;
    write_results(settings, rows);
    std::cout << report_line(settings.common.out_dir + "/report.html");
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
