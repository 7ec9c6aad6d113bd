#pragma once
// Files of networks in bits (bsq.md, 8): plain HDF5, one dataset a tensor at the root, names and axes of the published program
// without its `module.`: convolutions OIHW, planes on the last axis.
//
// floating:  <layer>.weight, <layer>.bias
// bits:      <layer>.pweight, .nweight, .scale, .pbias, .nbias, .biasscale; or, exactly quantized, .code (attribute n), .scale,
//            .biascode, .biasscale
// fixed:     <layer>.weight, .scale, .bias, .biasscale (values over their scale)
// always:    batch norm as in models/import.h; <activation>.alpha of PACT
// Root attributes: Nbit_dict (the precision table as JSON), representation, model (JSON), epoch, acc, best_acc, mean_rgb and
// std_rgb. A file of floating point without PACT is one that `evaluate` reads.

#include <string>

#include "engine/data/normalize.h"
#include "models/import.h"
#include "quant/bsq/bit_network.h"

namespace bitloom::bsq {

struct FileInfo {
    std::string model;        ///< JSON of describe(); empty where the file does not say
    std::int64_t epoch = 0;   ///< epochs done
    double accuracy = 0, best_accuracy = 0;  ///< percent
    Normalization normalization{};           ///< written where it has one value a channel
};

/// Writes the network in its present representation, whole or not at all. Throws Error.
void write_network(const std::string& path, BitNetwork& network, const FileInfo& info);

struct NetworkFile {
    Representation representation = Representation::floating;  ///< of the file's bit layers
    PrecisionTable table;  ///< empty where the file has none
    FileInfo info;
};
/// What a file says of itself, without a network. A bitloom checkpoint (of `train`) is floating point.
NetworkFile read_header(const std::string& path);

/// Fills a network from a file of any representation, a bitloom checkpoint of floating-point weights included; layers come into
/// the file's representation. A table in a floating-point file becomes the precision of the coming conversion. With
/// quantize_shortcut, codes of shortcuts are taken from the file's group `v0`. A missing alpha of PACT keeps its value. Throws
/// Error in one line for a file of another network, or with planes that are no planes.
NetworkFile read_network(const std::string& path, BitNetwork& network);

/// Axes of a layer's weight in memory ([out, h, w, in]; dense ones behind a Flatten in (h, w, c) order) and in files.
Tensor to_file_layout(const Module& layer, const Tensor& weight);
Tensor from_file_layout(const Module& layer, const Tensor& weight);
/// Planes [n, 2, ...] of a layer's weight (or, with `layer` null, of a bias) from and to the two tensors of a file, each with
/// the planes on its last axis.
Tensor planes_from_file(const Module* layer, const Tensor& positive, const Tensor& negative);
std::array<Tensor, 2> planes_to_file(const Module* layer, const Tensor& planes);

}  // namespace bitloom::bsq
