#pragma once
// Flags of the BSQ programs (bsq.md, 2.1), and what they say about networks and data.

#include <functional>
#include <string>
#include <vector>

#include "apps/common/common_flags.h"
#include "models/options.h"
#include "quant/bsq/activation.h"
#include "quant/bsq/bit_network.h"
#include "quant/bsq/files.h"

namespace bitloom::bsq {

struct Settings {
    CommonFlags common;
    DataFlags data;
    GpuFlags gpu;
    std::string normalize = "auto", augment = "auto";
    std::int64_t train_batch = 128, test_batch = 100, workers = 1;

    std::string arch = "resnet";
    std::int64_t depth = 20;
    std::string model_file, dict;
    std::int64_t bits = 4;
    bool bin = false, evaluate = false;

    std::int64_t act = 4, stem_act_bits = 0;
    std::string block_activation = "auto";
    bool stem_relu6 = false, quantize_shortcut = false;
    bool no_grow = false, no_forward_clamp = false, reference_clamp = false, reference_ft_bias = false;
    std::string version = "v1";

    std::int64_t epochs = 350, start_epoch = 0;
    double learning_rate = 0.1, gamma = 0.1, momentum = 0.9, weight_decay = 5e-4;
    std::vector<std::int64_t> schedule = {150, 225};
    std::int64_t max_steps = 0, checkpoint_every_steps = 0;
    bool deterministic = false;

    bool l1 = false, no_reweigh = false, keep_momentum = false;
    double decay = 0.01, threshold = 0;
    std::int64_t interval = 50;

    bool arch_given = false;    ///< --arch or --depth stood on the command line
    std::function<void()> record;  ///< writes down what is run, in a folder that holds no earlier run any more
    std::string configuration;  ///< JSON of all flags
    std::vector<std::pair<std::string, std::string>> listed;  ///< the same for reports
    std::string command;
};

void add_network_flags(Flags& flags, Settings& settings);
void add_training_flags(Flags& flags, Settings& settings);
/// What only bsq_train (and the sweep) takes: the regulariser and the precision adjustment.
void add_sparsity_flags(Flags& flags, Settings& settings);

/// Parses a command line: the published spelling of lists (`--schedule 150 250`) is understood, dead flags of the published
/// programs (`ignored`) are named in a notice on stderr. Throws UsageError.
void parse(Flags& flags, Settings& settings, const std::string& program, int argc, const char* const* argv);
/// Flags without effect here that the published programs have.
void add_dead_flags(Flags& flags);

/// resnet<depth>, or another network of the registry; input and classes as the data have them.
ModelOptions model_options(const Settings& settings, const Shape& image_shape, int classes);
BitNetworkOptions network_options(const Settings& settings);
ActivationOptions activation_options(const Settings& settings);

}  // namespace bitloom::bsq
