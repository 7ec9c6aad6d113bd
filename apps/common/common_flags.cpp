#include "apps/common/common_flags.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "cuda/backend.h"
#include "cuda/quant/backend.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/json_values.h"
#include "ops/convolution_algorithm.h"

namespace bitloom {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* version = "0.1";

std::string config_path(const std::string& folder) { return folder + "/config.json"; }

}  // namespace

void add_common_flags(Flags& flags, CommonFlags& values) {
    flags.group("Run");
    flags.add("seed", values.seed, "of initial values, order of images, augmentation, dropout", {.min = 0});
    flags.add("threads", values.threads, "of one training run; 0: what the machine allows",
              {.min = 0, .max = most_threads});
    flags.add("device", values.device, "cpu, reference (plain loops, slow), cuda or cuda:N");
    flags.add("out-dir", values.out_dir, "folder of the results; created where missing");
    flags.add("resume", values.resume, "continue the run in out-dir; flags that are not given are taken from there");
}

void add_deterministic_flag(Flags& flags, bool& value) {
    flags.add("deterministic", value, "the same bits whatever --threads says, at some cost in time");
}

DataOnDevice GpuFlags::data() const {
    if (data_on_device == "on") return DataOnDevice::on;
    return data_on_device == "off" ? DataOnDevice::off : DataOnDevice::automatic;
}

void add_gpu_flags(Flags& flags, GpuFlags& values, bool trains) {
    flags.group("GPU");
    flags.add("data-on-device", values.data_on_device,
              "keep the images in the GPU's memory and make the batches there: auto where they fit and the GPU has the "
              "augmentations (all but rotate); the batches are the same",
              {.choices = {"auto", "on", "off"}});
    flags.add("conv-algo", values.convolution,
              "how a GPU convolves: our implicit-gemm kernels, im2col with cuBLAS, cudnn where the build has it; auto takes "
              "the fastest for each shape, with --deterministic implicit-gemm",
              {.choices = ops::convolution_algorithm_names()});
    if (trains)
        flags.add("cuda-graph", values.graph,
                  "auto: capture the whole training step and replay it, where nothing in it works on the host; "
                  "a scheme that changes the step has it captured anew",
                  {.choices = {"auto", "off"}});
}

void add_data_flags(Flags& flags, DataFlags& values) {
    flags.group("Data");
    flags.add("dataset", values.dataset, "images to learn from; digits is built in", {.choices = dataset_names()});
    flags.add("data-dir", values.data_dir, "folder of the data set's files, or of a folder with its name");
    flags.add("train-size", values.train_size, "training images of digits", {.min = 1});
    flags.add("test-size", values.test_size, "test images of digits", {.min = 1});
    flags.add("data-seed", values.data_seed, "of digits", {.min = 0});
}

DatasetOptions dataset_options(const DataFlags& values) {
    DatasetOptions options;
    options.name = values.dataset;
    options.data_dir = values.data_dir;
    options.seed = static_cast<std::uint64_t>(values.data_seed);
    options.train_size = values.train_size;
    options.test_size = values.test_size;
    return options;
}

Device open_device(const std::string& name) {
    const Device device = parse_device(name);
    if (device.kind == DeviceKind::cuda) {
        cuda::install(device.index);
        cuda::register_scheme_tables();
    }
    return device;
}

void write_run_record(const std::string& folder, const std::string& program, const Flags& flags, int argc,
                      const char* const* argv, Device device, int threads) {
    write_file_atomically(config_path(folder), flags.to_json() + "\n");
    const Json record{{"program", program},
                      {"version", version},
                      {"command_line", command_line(argc, argv)},
                      {"device", to_string(device)},
                      {"threads", threads}};
    write_file_atomically(folder + "/run.json", record.dump(2) + "\n");
}

void resume_flags(Flags& flags, const std::string& folder, const std::vector<std::string>& changeable) {
    const std::string path = config_path(folder);
    if (!std::filesystem::exists(path)) throw UsageError(cat("--resume: ", folder, " holds no run (no config.json)"));
    const std::string recorded = read_file(path);
    flags.fill_from_json(recorded, path);
    const Json before = json_from_text<Json>(recorded), now = Json::parse(flags.to_json());
    for (const auto& [name, value] : now.items()) {
        if (std::find(changeable.begin(), changeable.end(), name) != changeable.end()) continue;
        if (before.contains(name) && before[name] != value)
            throw UsageError(cat("--resume: the run in ", folder, " has --", name, "=", before[name].dump(), ", not ",
                                 value.dump()));
    }
}

bool recorded_deterministic(const std::string& folder) {
    const std::string path = config_path(folder);
    if (!std::filesystem::exists(path)) return false;
    const Json recorded = json_or_discarded<Json>(read_file(path));
    return recorded.is_object() && recorded.contains("deterministic") && recorded["deterministic"] == true;
}

std::string command_line(int argc, const char* const* argv) {
    std::string line;
    for (int i = 0; i < argc; ++i) {
        const std::string argument = argv[i];
        const bool plain =
            !argument.empty() && argument.find_first_of(" \t\n\"'\\$`*?[]{}()<>|&;#~!") == std::string::npos;
        std::string quoted = "'";
        for (const char c : argument) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
        line += (i ? " " : "") + (plain ? argument : quoted + "'");
    }
    return line;
}

std::vector<std::pair<std::string, std::string>> settings_of(const Flags& flags) {
    std::vector<std::pair<std::string, std::string>> settings;
    const Json json = Json::parse(flags.to_json());
    for (const auto& [name, value] : json.items())
        settings.emplace_back("--" + name, value.is_string() ? value.get<std::string>() : value.dump());
    return settings;
}

}  // namespace bitloom
