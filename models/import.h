#pragma once
// Weights from files: bitloom checkpoints, and the plain HDF5 layouts in which the experiments' trained networks come.
//
// PyTorch layout (bsq.md, 8; ec2t-micronet.md, 8): one dataset a tensor at the root, `<layer>.weight`, OIHW and [out,
// in], maps flattened in (c, h, w) order; batch norm weight, bias, running_mean, running_var, num_batches_tracked (a
// scalar, one element, or absent). A quantized tensor comes as `<layer>.code` (attribute n: bits) and `<layer>.scale`,
// a bias as
// `.biascode` and `.biasscale`: value = scale * (code / (2^n - 1)), in float32 in this order.
// Keras layout (gpfq-lumping.md, 9): a group a layer with kernel (HWIO, [in, out]), bias, gamma, beta, moving_mean,
// moving_variance.
// Keras' own files (models/keras_file.h): layers by their order, masks of pruned layers applied.

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/io/hdf5.h"
#include "engine/module.h"
#include "models/keras_file.h"
#include "models/options.h"

namespace bitloom {

enum class WeightFormat { checkpoint, pytorch, keras, keras_model };

/// What a weight file says besides the weights.
struct WeightFile {
    WeightFormat format = WeightFormat::checkpoint;
    std::string config;                    ///< of a checkpoint: the run's settings, JSON
    std::vector<float> mean_rgb, std_rgb;  ///< root attributes of a plain file; empty where it has none
    std::vector<std::string> ignored;      ///< datasets known to be no weights (orders of names, extra groups, codes)
    // Of a whole Keras model: its layers, and which layer of the network each fills first.
    std::vector<KerasLayer> keras_layers;
    std::map<std::string, std::string> layer_paths;
};

/// Fills parameters and buffers of `network`, whatever its device and dtype. Every dataset must belong to a layer or be
/// known to be none, every parameter must be filled with finite values of its shape: otherwise an Error in one line
/// names the file and the first dataset that does not fit.
WeightFile load_weights(Module& network, const std::string& path);

/// Fills one module from a plain file in place of the layouts above, for schemes with layouts of their own: returns the names
/// of the datasets that it used, or none where the module is to be filled as usual.
using ModuleImport = std::function<std::vector<std::string>(Module& module, const hdf5::File& file)>;
/// load_weights for a plain file, asking `first` about every module.
WeightFile load_plain_weights(Module& network, const hdf5::File& file, const ModuleImport& first = nullptr);

/// A network rebuilt from a file.
struct LoadedModel {
    ModelOptions options;
    std::unique_ptr<Module> network;
    WeightFile file;
};
/// Builds and fills a network. A checkpoint names its model; `options` may then only agree with it. A plain file needs
/// options.name; what it tells is read from it: a ResNet's variant from its names (`downsample` or `fc`: B, `linear`:
/// A) and the number of classes from its last layer. Throws Error where file and options disagree.
LoadedModel load_model(const ModelOptions& options, const std::string& path);

}  // namespace bitloom
