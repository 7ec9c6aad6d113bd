#pragma once
// Flags that every program takes, and what follows from them.

#include <cstdint>
#include <string>

#include "engine/data/dataset.h"
#include "engine/data/loader.h"
#include "engine/device.h"
#include "engine/io/flags.h"

namespace bitloom {

/// At most, of flags that count threads or what runs side by side.
inline constexpr double most_threads = 1024;

struct CommonFlags {
    std::int64_t seed = 1;
    std::int64_t threads = 0;
    std::string device = "cpu";
    std::string out_dir;
    bool resume = false;
};
/// The flag --deterministic of programs that train; its value goes to set_deterministic.
void add_deterministic_flag(Flags& flags, bool& value);
void add_common_flags(Flags& flags, CommonFlags& values);

/// How a program uses a GPU: --data-on-device, --conv-algo (its value goes to ops::use_convolution_algorithm) and, where
/// it trains, --cuda-graph.
struct GpuFlags {
    std::string data_on_device = "auto";
    std::string graph = "auto";
    std::string convolution = "auto";
    DataOnDevice data() const;
    bool step_graph() const { return graph == "auto"; }
};
void add_gpu_flags(Flags& flags, GpuFlags& values, bool trains);

/// Of the flag --precision.
inline constexpr const char* precision_help =
    "fp32; tf32, products rounded to TF32 (GPUs); or bf16 activations beside f32 weights, statistics and loss (GPUs, CPUs "
    "with AVX-512-BF16 or AMX)";

struct DataFlags {
    std::string dataset = "digits";
    std::string data_dir = "data";
    std::int64_t train_size = 60000;
    std::int64_t test_size = 10000;
    std::int64_t data_seed = 1;
};
void add_data_flags(Flags& flags, DataFlags& values);
DatasetOptions dataset_options(const DataFlags& values);

/// Parses --device and makes it ready (the CUDA backend is installed where it is asked for). Throws UsageError for
/// another name, Error where this build or machine has no such device.
Device open_device(const std::string& name);

/// What a run was: `<folder>/config.json` holds all flags (--config reads it back), `<folder>/run.json` program,
/// version, command line, device and threads. Throws Error.
void write_run_record(const std::string& folder, const std::string& program, const Flags& flags, int argc,
                      const char* const* argv, Device device, int threads);

/// Continues the run in `folder`: flags that were not given take the values of its config.json. Throws UsageError where
/// there is none, or where a flag was given another value than the run has; `changeable` names those that may differ.
void resume_flags(Flags& flags, const std::string& folder, const std::vector<std::string>& changeable);

/// Whether the run in `folder` was started with --deterministic, so that its thread count may change. False where there
/// is no run.
bool recorded_deterministic(const std::string& folder);

/// The command line as a shell would take it.
std::string command_line(int argc, const char* const* argv);

/// Flags and values, in order of registration, for the report.
std::vector<std::pair<std::string, std::string>> settings_of(const Flags& flags);

}  // namespace bitloom
