// backend_compare: one training step of a network on every device, kernel by kernel and layer by layer, against plain
// loops in double.

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/common/backend_comparison.h"
#include "apps/common/common_flags.h"
#include "apps/common/run_folder.h"
#include "apps/common/scheme_flags.h"
#include "apps/common/text.h"
#include "cuda/backend.h"
#include "cuda/quant/backend.h"
#include "cuda/verified.h"
#include "engine/io/atomic_file.h"
#include "engine/io/program.h"
#include "engine/optim/kernels.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "models/registry.h"
#include "ops/kernels.h"
#include "ops/precision.h"
#include "quant/bsq/kernels.h"
#include "quant/checkpoints.h"
#include "quant/kernels.h"

namespace bitloom {
namespace {

using Json = nlohmann::ordered_json;

struct CompareFlags {
    std::string model = "resnet20", variant, weights, precision = "fp32";
    std::int64_t batch_size = 8, repetitions = 5;
};

void add_compare_flags(Flags& flags, CompareFlags& values) {
    flags.group("Network");
    flags.add("model", values.model, "name of the network; a bitloom checkpoint knows its own",
              {.choices = model_names()});
    flags.add("variant", values.variant, "of a ResNet", {.choices = {"", "A", "B"}});
    flags.add("weights", values.weights,
              "bitloom checkpoint or plain HDF5 file; none: initial values drawn from --seed");
    flags.group("Comparison");
    flags.add("batch-size", values.batch_size, "images of the step, drawn from a normal distribution",
              {.min = 1, .max = 1 << 20});
    flags.alias("batch", "batch-size");
    flags.add("precision", values.precision, precision_help, {.choices = ops::precision_names()});
    flags.add("repetitions", values.repetitions, "of every timed call; the best counts", {.min = 1, .max = 10000});
}

/// What a table of kernels holds for CUDA: "-" none, "unseen" not run on a GPU yet, "seen".
struct Coverage {
    std::string kernel, state;
};

/// The state of each kernel of one table. `table_of` throws where no table is registered.
template <class List, class TableOf>
void add_coverage(const List& list, const std::string& family, TableOf&& table_of, std::vector<Coverage>& out) {
    for_each_entry(list, [&](std::string_view name, auto member) {
        bool exists = false;
        try {
            exists = table_of().*member != nullptr;
        } catch (const Error&) {  // no table at all
        }
        const bool is_seen = cuda::has_run_on_a_gpu(name);
        out.push_back({cat(family, " ", name), !exists ? "-" : is_seen ? "seen" : "unseen"});
    });
}

std::vector<Coverage> cuda_coverage() {
    cuda::register_tables();
    cuda::register_scheme_tables();
    constexpr Device gpu{DeviceKind::cuda, 0};
    std::vector<Coverage> all;
    add_coverage(
        ops::op_kernel_list, "ops", [&]() -> const auto& { return ops::op_kernels(gpu); }, all);
    add_coverage(
        quant::quant_kernel_list, "quant", [&]() -> const auto& { return quant::quant_kernels(gpu); }, all);
    add_coverage(
        bsq::bsq_kernel_list, "bsq", [&]() -> const auto& { return bsq::bsq_kernels(gpu); }, all);
    add_coverage(
        optim_kernel_list, "optim", [&]() -> const auto& { return optim_kernels(gpu); }, all);
    return all;
}

std::string scientific(double value) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1e", value);
    return text;
}

std::string microseconds(double seconds) { return fixed(seconds * 1e6, seconds < 1e-4 ? 1 : 0); }

/// name, detail, calls, terms, tolerance; then a device's error, exactness, time, and ratio to the cpu's time.
void print_rows(const std::string& title, const std::vector<ComparedCall>& rows, const std::vector<Device>& devices) {
    std::size_t name = 6, detail = 6;
    for (const ComparedCall& row : rows) {
        name = std::max(name, row.name.size());
        detail = std::max(detail, std::min<std::size_t>(row.detail.size(), 60));
    }
    std::printf("\n%s\n%-*s  %-*s  calls    terms  allowed", title.c_str(), static_cast<int>(name), "name",
                static_cast<int>(detail), "shapes");
    for (const Device device : devices)
        std::printf("  | %-9s error  integers      us%s", to_string(device).c_str(),
                    device == cpu_device ? "" : "   x cpu");
    std::printf("\n");
    for (const ComparedCall& row : rows) {
        std::printf("%-*s  %-*.60s  %5d %8.0f  %7s", static_cast<int>(name), row.name.c_str(), static_cast<int>(detail),
                    row.detail.c_str(), row.calls, row.accumulation, scientific(row.tolerance).c_str());
        for (const DeviceFigures& f : row.figures) {
            if (f.missing) {
                std::printf("  | %-39s", "no such kernel");
                continue;
            }
            std::printf("  | %15s%s  %8s %7s", scientific(f.error).c_str(), row.passed(f) ? " " : "!",
                        !f.exact   ? "-"
                        : *f.exact ? "equal"
                                   : "DIFFER",
                        microseconds(f.seconds).c_str());
            if (f.device != cpu_device)
                std::printf("  %6s", fixed(f.seconds > 0 ? row.figures.front().seconds / f.seconds : 0, 2).c_str());
        }
        std::printf("\n");
    }
}

Json json_of(const std::vector<ComparedCall>& rows) {
    Json all = Json::array();
    for (const ComparedCall& row : rows) {
        Json figures = Json::array();
        for (const DeviceFigures& f : row.figures) {
            Json one{{"device", to_string(f.device)}, {"missing", f.missing}};
            if (!f.missing) {
                one["relative_error"] = f.error;
                one["seconds"] = f.seconds;
                if (f.exact) one["equal_on_integers"] = *f.exact;
            }
            figures.push_back(std::move(one));
        }
        all.push_back({{"name", row.name},
                       {"detail", row.detail},
                       {"calls", row.calls},
                       {"terms", row.accumulation},
                       {"tolerance", row.tolerance},
                       {"devices", std::move(figures)}});
    }
    return all;
}

int count_failures(const std::vector<ComparedCall>& rows) {
    return static_cast<int>(std::count_if(rows.begin(), rows.end(), [](const auto& row) { return !row.passed(); }));
}

void print_coverage(const std::vector<Coverage>& coverage) {
    const auto list = [&](const std::string& state, const std::string& title) {
        std::string names;
        for (const Coverage& c : coverage)
            if (c.state == state) names += "\n  " + c.kernel;
        if (!names.empty()) std::printf("\n%s:%s\n", title.c_str(), names.c_str());
    };
    list("-", cuda::compiled() ? "kernels without a CUDA twin"
                               : "kernels without a CUDA twin in this build (it has no CUDA)");
    list("unseen", "CUDA kernels that no GPU has run yet");
}

/// fp32 grows with the length of sums (accumulated rounding); the products of the other precisions round by themselves.
void set_tolerance(const std::string& precision, ComparisonOptions& options) {
    if (precision == "tf32") options.tolerance = 1e-3, options.grows = false;
    if (precision == "bf16") options.tolerance = 5e-3, options.grows = false;
}

int run(int argc, char** argv) {
    CompareFlags values;
    CommonFlags common;
    SchemeFlags scheme_flags;
    Flags flags(
        "backend_compare",
        "Runs one training step of a network and repeats every kernel call and every layer on each device: errors "
        "against plain loops in double, equality on integers, times. Exit status 1 where a tolerance is missed.");
    add_compare_flags(flags, values);
    add_scheme_flags(flags, scheme_flags);
    add_common_flags(flags, common);
    flags.example("--model resnet20", "cpu and, where there is one, GPU on a ResNet-20 with random weights");
    flags.example("--model svhn_cnn --device cuda:1 --precision tf32", "a second GPU, TF32");
    flags.parse(argc, argv);
    if (common.resume) throw UsageError("--resume has no meaning here: the comparison is one step");
    set_threads(static_cast<int>(common.threads));

    ComparisonOptions options;
    options.devices = {cpu_device};
    options.repetitions = static_cast<int>(values.repetitions);
    options.seed = static_cast<std::uint64_t>(common.seed);
    set_tolerance(values.precision, options);
    const Device asked = common.device != "cpu"     ? open_device(common.device)
                         : cuda::device_count() > 0 ? open_device("cuda")
                                                    : cpu_device;
    if (asked != cpu_device) options.devices.push_back(asked);
    ops::use_precision(values.precision, asked);
    options.activations = ops::activation_dtype(values.precision);

    ModelOptions model;
    model.name = values.model;
    model.variant = values.variant;
    std::unique_ptr<Module> network;
    quant::SchemeList schemes;
    if (values.weights.empty()) {
        model = resolve(model);
        network = make_model(model, options.seed);
        schemes = make_schemes(scheme_flags);
    } else {
        if (!flags.given("model")) model.name.clear();
        quant::CompressedModel loaded = quant::load_compressed(model, values.weights);
        network = std::move(loaded.network);
        model = resolve(loaded.options);
        schemes = loaded.schemes.empty() ? make_schemes(scheme_flags) : std::move(loaded.schemes);
    }
    schemes.attach(*network);
    Tensor images = Tensor::empty({values.batch_size, model.input[0], model.input[1], model.input[2]});
    Rng rng(options.seed, "images");
    fill_normal(images, 0, 1, rng);

    std::printf("network %s, batch %lld, %s; devices: reference (double)", model.name.c_str(),
                static_cast<long long>(values.batch_size), values.precision.c_str());
    for (const Device device : options.devices) std::printf(", %s", to_string(device).c_str());
    std::printf("\nCUDA: %s\n", cuda::description().c_str());
    if (options.devices.size() == 1) std::printf("no GPU takes part: only reference and cpu are compared\n");
    const Comparison comparison = compare_backends(*network, images, model.classes, options);
    print_rows("kernels", comparison.kernels, options.devices);
    print_rows("layers, forward and backward", comparison.layers, options.devices);
    const std::vector<Coverage> coverage = cuda_coverage();
    print_coverage(coverage);

    const int failures = count_failures(comparison.kernels) + count_failures(comparison.layers);
    const std::size_t rows = comparison.kernels.size() + comparison.layers.size();
    if (!common.out_dir.empty()) {
        make_folder(common.out_dir);
        write_run_record(common.out_dir, "backend_compare", flags, argc, argv, asked, thread_count());
        Json cuda_kernels = Json::object();
        for (const Coverage& c : coverage) cuda_kernels[c.kernel] = c.state == "-" ? "missing" : c.state;
        const Json json{
            {"kernels", json_of(comparison.kernels)}, {"layers", json_of(comparison.layers)}, {"cuda", cuda_kernels}};
        write_file_atomically(common.out_dir + "/comparison.json", json.dump(2) + "\n");
    }
    std::printf("\n%zu rows, %d beyond their tolerance\n", rows, failures);
    return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) {
    bitloom::ensure_passive_waiting(argv);
    return bitloom::run_program(argc, argv, bitloom::run);
}
