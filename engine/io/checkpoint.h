#pragma once
// Checkpoints: one HDF5 file, written beside its target, synced and renamed (ARCHITECTURE.md, decision 7).
//
// Layout, version 1: root attributes `format` = "bitloom-checkpoint", `version` = 1, `model` (JSON of the model's name
// and options), `config` (JSON, free). Datasets: parameters/<path>, buffers/<path>, optimizer/<path>/<slot>,
// state/integers/<name>, state/doubles/<name>, state/strings/<name>, each with attribute `crc32` of its little-endian
// bytes. The last attribute written to the root is `complete`: CRC-32 over model, config, and names and checksums of
// all datasets in name order; a file without it is refused. Equal checkpoints make equal files, byte for byte.

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/module.h"
#include "engine/tensor.h"

namespace bitloom {

/// Named tensors come back from a file in name order, each with its dtype.
struct Checkpoint {
    std::string model;   ///< JSON: {"name": "resnet20", ...}
    std::string config;  ///< JSON: the run's settings
    std::vector<std::pair<std::string, Tensor>> parameters, buffers, optimizer;
    std::map<std::string, std::int64_t> integers;
    std::map<std::string, std::vector<double>> doubles;
    std::map<std::string, std::string> strings;
};

/// Writes to `<path>.tmp-<pid>`, fsyncs file and folder, renames over `path`. On failure the temporary file is removed,
/// the old checkpoint stands, and an Error names the path and the reason (full disk, read-only folder).
void save_checkpoint(const std::string& path, const Checkpoint& checkpoint);
/// Verifies format, version and checksums. Throws Error in one line.
Checkpoint load_checkpoint(const std::string& path);
/// True where the file carries the format attribute (false for other HDF5 files; throws for unreadable ones).
bool is_checkpoint(const std::string& path);

/// Copies of the module's parameters and buffers, on the host; replaces those that the checkpoint holds.
void gather(Module& module, Checkpoint& checkpoint);
/// Puts parameters and buffers back, wherever the module lives. Every name must match with its shape; the first that
/// does not is named in the Error ("checkpoint of resnet20 does not fit: no parameter 'fc.weight' in the checkpoint"),
/// and the module is then as it was.
void restore(Module& module, const Checkpoint& checkpoint);

}  // namespace bitloom
