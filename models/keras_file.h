#pragma once
// Keras' own HDF5 files, of whole models (`model.save`) and of weights alone (`save_weights`), Keras 2.x: fxp-search.md,
// 8; svhn-qkeras.md, 8.
//
// The layers and their weights stand in attributes: `layer_names` of `model_weights` (or of the root), `weight_names` of
// a layer's group, each the path of a dataset below that group (`conv_0/kernel:0`). Long lists are split over
// `layer_names0`, `layer_names1`, .... Whole models also hold the architecture, `model_config` (JSON).

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "engine/io/hdf5.h"
#include "engine/module.h"
#include "models/options.h"

namespace bitloom {

/// A layer of the file. A pruning wrapper (TF-MOT's PruneLowMagnitude) is taken off: name, class and settings are those
/// of the layer within.
struct KerasLayer {
    std::string name;
    std::string class_name;  ///< such as "Conv2D", "QDense"; empty where the file holds weights alone
    std::string config;      ///< JSON of its settings; empty likewise
    /// Weights by their last names without ":0" ("kernel", "moving_mean"), and the datasets that hold them.
    std::map<std::string, std::string> weights;
};

struct KerasFile {
    std::string path;
    std::vector<KerasLayer> layers;  ///< in the file's order; those without weights too where the file lists them
    bool has_architecture = false;
};

/// True for a file with `layer_names`.
bool is_keras_file(const hdf5::File& file);
/// Throws Error in one line that names the file and what is missing or damaged in it.
KerasFile read_keras_file(const hdf5::File& file);

/// Which dataset fills what, by the order of the layers as Keras loads weights: names do not count (they depend on how many layers a process had
/// made before). Separable convolutions and convolutions with a folded batch norm are one layer in the file and two in
/// the network.
struct KerasMatch {
    std::map<std::pair<const Module*, std::string>, std::string> datasets;  ///< (layer, "kernel") -> dataset
    std::map<std::string, std::string> masks;                               ///< dataset of a pruned kernel -> its mask
    std::map<std::string, std::string> paths;  ///< layer of the file -> path of the first layer of the network it fills
};
/// Throws Error naming the two layers where file and network part.
KerasMatch match_keras_layers(Module& network, const KerasFile& file);

/// What the file tells of an svhn_cnn, in place of what `options` leave open: filters, kernels, dense units, classes;
/// with the architecture also strides, pooling and the size of images.
ModelOptions with_svhn_traits(ModelOptions options, const KerasFile& keras, const hdf5::File& file);

}  // namespace bitloom
