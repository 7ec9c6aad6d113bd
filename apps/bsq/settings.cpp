#include "apps/bsq/settings.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>

#include "engine/error.h"
#include "models/registry.h"

namespace bitloom::bsq {

namespace {

/// Flags of the published programs that have no effect on the networks here.
struct DeadFlags {
    std::string drop, cardinality, widen_factor, growth_rate, compression_rate, gpu, block_name;
};
DeadFlags& dead_flags() {
    static DeadFlags flags;
    return flags;
}
const char* const dead_names[] = {"drop",        "cardinality", "widen-factor", "growthRate",
                                  "compressionRate", "gpu-id",  "block-name"};

}  // namespace

void add_network_flags(Flags& flags, Settings& s) {
    s.common.seed = 1234;
    s.common.out_dir = "checkpoint";
    s.data.dataset = "cifar10";
    add_common_flags(flags, s.common);
    flags.alias("manualSeed", "seed");
    flags.alias("checkpoint", "out-dir");
    flags.alias("c", "out-dir");
    add_data_flags(flags, s.data);
    flags.alias("d", "dataset");
    flags.add("normalize", s.normalize,
              "of the images: auto (cifar-bsq for CIFAR, else unit), none, unit, cifar-bsq, cifar-ec2t, mnist-ec2t, per-pixel, "
              "per-channel, or m,m,m/s,s,s");
    flags.add("train-batch", s.train_batch, "images a training step", {.min = 1});
    flags.add("test-batch", s.test_batch, "images a test pass; activation quantizers take their range from it", {.min = 1});
    flags.add("workers", s.workers, "threads that prepare images; 0: none beside the training", {.min = 0, .max = 64});
    flags.alias("j", "workers");

    flags.group("Network");
    std::vector<std::string> networks = model_names();
    networks.insert(networks.begin(), "resnet");
    flags.add("arch", s.arch, "network: resnet (with --depth), or a name of the registry", {.choices = networks});
    flags.alias("a", "arch");
    flags.add("depth", s.depth, "layers of a resnet, 6n + 2", {.min = 1});
    flags.add("model", s.model_file, "weights to start from: floating point, codes, bit planes or fixed precision");
    flags.add("Nbits", s.bits, "bits of every weight and bias at first", {.min = 0, .max = max_bits});
    flags.add("bin", s.bin, "the weights must be in bits: a floating-point --model is refused");
    flags.group("Activations");
    flags.add("act", s.act, "bits of block activations, by the range of the batch; 0: not quantized",
              {.min = 0, .max = max_bits});
    flags.add("block-activation", s.block_activation, "auto: relu6 for --act above 3, else pact (a trained bound)",
              {.choices = {"auto", "relu", "relu6", "pact"}});
    flags.add("stem-act-bits", s.stem_act_bits, "bits of the first activation; 0: not quantized", {.min = 0, .max = max_bits});
    flags.add("stem-relu6", s.stem_relu6, "ReLU6 as the first activation");
    flags.group("Versions and quirks of the published programs");
    flags.add("bsq-version", s.version,
              "v1, or v0: --quantize-shortcut --stem-relu6 --stem-act-bits 8 --no-grow, relu6 and 4 bits in the blocks",
              {.choices = {"v0", "v1"}});
    flags.add("quantize-shortcut", s.quantize_shortcut, "the 1x1 convolutions of shortcuts in bits too");
    flags.add("no-grow", s.no_grow, "re-quantization clips codes instead of adding a bit");
    flags.add("no-forward-clamp", s.no_forward_clamp, "sums of planes beyond 1 count in full, as the paper has it");
    flags.add("reference-clamp", s.reference_clamp,
              "clamp as the published program does: shortcuts, their batch norms and pact bounds too");
}

void add_training_flags(Flags& flags, Settings& s) {
    flags.group("Training");
    flags.add("epochs", s.epochs, "number of the last epoch", {.min = 0});
    flags.add("start-epoch", s.start_epoch, "number of the first epoch, from 0", {.min = 0});
    flags.add("lr", s.learning_rate, "learning rate of the first epoch", {.min = 0});
    flags.alias("learning-rate", "lr");
    flags.add("schedule", s.schedule, "epochs (from 0) at which the learning rate is multiplied by gamma", {.min = 0});
    flags.add("gamma", s.gamma, "factor of the schedule", {.min = 0});
    flags.add("momentum", s.momentum, "of SGD", {.min = 0, .below = 1});
    flags.add("weight-decay", s.weight_decay, "of all parameters, planes and scales included", {.min = 0});
    flags.alias("wd", "weight-decay");
    flags.add("augment", s.augment, "of training images: auto (crop4,flip for CIFAR, else none), or such as crop4,flip");
    flags.add("max-steps", s.max_steps, "end after so many steps; 0: no limit", {.min = 0});
    flags.add("checkpoint-every-steps", s.checkpoint_every_steps, "besides at the end of each epoch", {.min = 0});
    flags.add("evaluate", s.evaluate, "test --model and end");
    flags.alias("e", "evaluate");
    add_deterministic_flag(flags, s.deterministic);
    add_gpu_flags(flags, s.gpu, true);
}

void add_sparsity_flags(Flags& flags, Settings& s) {
    flags.group("Bit-level sparsity");
    flags.add("decay", s.decay, "alpha, the strength of the bit-level group Lasso (with --L1)", {.min = 0});
    flags.add("L1", s.l1, "the group Lasso on; without it planes are only trained and adjusted");
    flags.add("no-reweigh", s.no_reweigh, "without the factor parameters x bits / all parameters of each layer");
    flags.add("Prun-Int", s.interval, "epochs between adjustments of precision", {.min = 1});
    flags.add("thre", s.threshold, "percentage of non-zero bits below which outer planes go", {.min = 0, .max = 100});
    flags.add("keep-momentum", s.keep_momentum, "of parameters that an adjustment leaves as they are");
}

void add_dead_flags(Flags& flags) {
    DeadFlags& dead = dead_flags();
    std::string* const targets[] = {&dead.drop,        &dead.cardinality,      &dead.widen_factor, &dead.growth_rate,
                                    &dead.compression_rate, &dead.gpu, &dead.block_name};
    flags.group("Accepted, without effect");
    for (std::size_t i = 0; i < std::size(dead_names); ++i)
        flags.add(dead_names[i], *targets[i], "of the published programs' other networks and devices");
    flags.alias("dropout", "drop");
}

void parse(Flags& flags, Settings& s, const std::string& program, int argc, const char* const* argv) {
    add_dead_flags(flags);
    const bool trains = program != "bsq_convert";
    flags.positional("EPOCH", "further epochs of --schedule", 0, trains ? SIZE_MAX : 0);
    const std::vector<std::string> rest = flags.parse(argc, argv);
    for (const std::string& text : rest) {
        std::int64_t epoch = 0;
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), epoch);
        if (error != std::errc() || end != text.data() + text.size() || epoch < 0 || !flags.given("schedule"))
            throw UsageError(cat("'", text, "' is no flag and no epoch of --schedule"));
        s.schedule.push_back(epoch);
    }
    if (s.common.resume && !s.common.out_dir.empty()) {
        std::vector<std::string> changeable{"resume", "out-dir", "data-dir", "epochs", "max-steps",
                                            "checkpoint-every-steps", "workers", "data-on-device", "cuda-graph"};
        if (recorded_deterministic(s.common.out_dir)) changeable.push_back("threads");
        resume_flags(flags, s.common.out_dir, changeable);
    }
    if (s.common.out_dir.empty()) throw UsageError("--out-dir is empty: the folder of the results");
    s.arch_given = flags.given("arch") || flags.given("depth");
    for (const char* name : dead_names)
        if (flags.given(name)) std::cerr << program << ": --" << name << " has no effect here\n";
    if (s.version == "v0") {
        // The first version had neither flag.
        if (s.act != 4 || (s.block_activation != "auto" && s.block_activation != "relu6"))
            for (const char* name : {"act", "block-activation"})
                if (flags.given(name)) std::cerr << program << ": --" << name << " has no effect with --bsq-version v0 (relu6, 4 bits)\n";
        s.quantize_shortcut = s.stem_relu6 = s.no_grow = true;
        s.stem_act_bits = 8;
        s.act = 4;
        s.block_activation = "relu6";
    }
    s.configuration = flags.to_json();
    s.listed = settings_of(flags);
    s.command = command_line(argc, argv);
}

ModelOptions model_options(const Settings& s, const Shape& image_shape, int classes) {
    ModelOptions options;
    options.name = s.arch == "resnet" ? cat("resnet", s.depth) : s.arch;
    if (!is_model_name(options.name))
        throw UsageError(cat("--depth=", s.depth, ": there is no such ResNet; depths are 6n + 2, from 8 to 1202"));
    options.input = image_shape;
    options.classes = classes;
    return options;
}

BitNetworkOptions network_options(const Settings& s) {
    return {.quantize_shortcut = s.quantize_shortcut,
            .forward_clamp = !s.no_forward_clamp,
            .grow = !s.no_grow,
            .fixed_bias = !s.reference_ft_bias};
}

ActivationOptions activation_options(const Settings& s) {
    ActivationOptions options;
    const auto act = static_cast<int>(s.act);
    options.blocks = {s.block_activation == "auto" ? default_activation(act) : activation_kind(s.block_activation), act};
    options.stem = {s.stem_relu6 ? ActivationKind::relu6 : ActivationKind::relu, static_cast<int>(s.stem_act_bits)};
    return options;
}

}  // namespace bitloom::bsq
