#pragma once
// Checkpoints of networks with schemes on them. The run's settings in a checkpoint (Checkpoint::config, a JSON object)
// name the schemes in their member "schemes"; the state of transforms is among the parameters and buffers.

#include <string>

#include "models/import.h"
#include "quant/scheme.h"

namespace bitloom::quant {

/// The settings with the schemes recorded in them. No schemes: the settings as they are.
std::string with_schemes(const std::string& config, const SchemeList& schemes);
/// The schemes that settings record; none where they name none. Throws Error for a record that cannot be read.
SchemeList schemes_of(const std::string& config);

/// Fills parameters and buffers of a network without schemes from a checkpoint of the same network with any schemes:
/// the latent weights, normalisation and moving statistics. What transforms own is left out. Throws Error naming the
/// first tensor that is missing or has another shape; the network is then as it was.
void transfer(Module& network, const Checkpoint& checkpoint);

/// The weights of any file for a network without schemes: of a checkpoint those that `transfer` takes, else load_weights
/// (models/import.h). Throws Error naming the file.
void load_latent_weights(Module& network, const std::string& path);

/// A network rebuilt from a file, its schemes attached.
struct CompressedModel {
    ModelOptions options;
    std::unique_ptr<Module> network;
    SchemeList schemes;
    WeightFile file;
};
/// load_model (models/import.h) for checkpoints with and without schemes, and Keras files of whole models, whose QKeras
/// quantizers become scheme qkeras; other plain files have none. `added` schemes are
/// attached to networks that carry none; UsageError for one that does.
CompressedModel load_compressed(const ModelOptions& options, const std::string& path, SchemeList added = {});

}  // namespace bitloom::quant
