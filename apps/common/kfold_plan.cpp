#include "apps/common/kfold_plan.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/io/checkpoint.h"
#include "models/registry.h"
#include "quant/checkpoints.h"
#include "quant/cost/network.h"

namespace bitloom {

namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

std::string with_pruning(const std::string& schemes, const KfoldChoice& choice) {
    if (!choice.prune) return schemes;
    Json all = schemes.empty() ? Json::array() : Json::parse(schemes);
    all.push_back({{"scheme", "pruning"}, {"configuration", Json::parse(choice.pruning)}});
    return all.dump();
}

/// The weights that a trained network hands over.
std::string handed_over(const KfoldChoice& choice, const std::string& model) {
    return cat(choice.out_dir, "/", model, choice.last_epoch ? "/weights_best.h5" : "/model_best.h5");
}

void require_trained(const std::string& model, const std::string& source, const std::string& made_by) {
    require(fs::is_regular_file(source), model, " starts from ", source,
            ", which is not there; it comes from svhn_kfold ", made_by);
}

std::string stem_of(const std::string& load_from) {
    fs::path path(load_from);
    if (!path.has_filename()) path = path.parent_path();  // "AQ/"
    return path.extension() == ".h5" ? path.stem().string() : path.filename().string();
}

/// --lmodel: a checkpoint or a folder with model_best.h5, as it stands or below the out-dir.
std::string loaded_file(const KfoldChoice& choice) {
    for (const std::string& base : {choice.load_from, choice.out_dir + "/" + choice.load_from}) {
        const std::string file = fs::is_directory(base) ? base + "/model_best.h5" : base;
        if (fs::is_regular_file(file)) return file;
    }
    fail("--lmodel: neither ", choice.load_from, " nor ", choice.out_dir, "/", choice.load_from, " is there");
}

/// Network and schemes are those of the file.
FoldModel from_file(const KfoldChoice& choice, const std::string& source) {
    const quant::CompressedModel loaded = quant::load_compressed(is_checkpoint(source) ? ModelOptions{.name = ""} : ModelOptions{}, source);
    FoldModel model;
    model.network = loaded.options;
    const Shape &takes = model.network.input, &images = choice.network.input;
    require(takes == images, source, ": a ", model.network.name, " does not fit: it takes images ", takes,
            ", the data set has ", images);
    model.schemes = with_pruning(loaded.schemes.empty() ? "" : loaded.schemes.configuration(), choice);
    model.initial_weights = source;
    return model;
}

FoldModel named(FoldModel model, const KfoldChoice& choice, const std::string& group, int fold) {
    model.group = (choice.prune ? "pruned_" : "") + group;
    model.name = cat(model.group, "_", fold);
    model.fold = fold;
    return model;
}

FoldPlan plan_loaded(const KfoldChoice& choice, int fold) {
    const std::string stem = stem_of(choice.load_from);
    std::string source;
    if (choice.prune) {
        source = handed_over(choice, cat(stem, "_", fold));
        require_trained(cat("pruned_", stem, "_", fold), source, "--loadModel without --prune");
    } else {
        source = loaded_file(choice);
    }
    const FoldModel model = named(from_file(choice, source), choice, stem, fold);
    require(fs::weakly_canonical(source).parent_path() != fs::weakly_canonical(choice.out_dir + "/" + model.name),
            "--lmodel: ", source, " lies in the folder that fold ", fold, " is trained in; copy it elsewhere");
    return {{model}};
}

FoldPlan plan_float(const KfoldChoice& choice, int fold) {
    FoldModel model;
    model.network = choice.network;
    model.schemes = with_pruning("", choice);
    model = named(model, choice, "full", fold);
    if (choice.prune) {
        model.initial_weights = handed_over(choice, cat("full_", fold));
        require_trained(model.name, model.initial_weights, "without --prune");
    }
    return {{model}};
}

FoldPlan plan_scan(const KfoldChoice& choice, int fold) {
    FoldPlan plan;
    plan.chain = !choice.prune;
    std::string wider = cat("full_", fold);
    for (const std::int64_t width : choice.widths) {
        const std::string group = cat("quant_", width, "bit");
        FoldModel model;
        model.network = choice.network;
        model.schemes = with_pruning(scan_schemes(width, choice.qkeras_compat), choice);
        model = named(model, choice, group, fold);
        model.initial_weights = handed_over(choice, choice.prune ? cat(group, "_", fold) : wider);
        if (choice.prune) require_trained(model.name, model.initial_weights, "--quantize without --prune");
        plan.models.push_back(model);
        wider = model.name;
    }
    if (!choice.prune) {
        const FoldModel& first = plan.models.front();
        require_trained(first.name, first.initial_weights, "without --quantize");
    }
    plan.models.back().trained_twice = choice.second_1bit;
    return plan;
}

}  // namespace

std::string family_of(const KfoldChoice& choice) {
    const std::string family = !choice.load_from.empty() ? stem_of(choice.load_from)
                               : choice.quantize         ? "quant"
                                                         : "full";
    return choice.prune ? "pruned_" + family : family;
}

FoldPlan plan_fold(const KfoldChoice& choice, int fold) {
    FoldPlan plan = !choice.load_from.empty() ? plan_loaded(choice, fold)
                    : choice.quantize         ? plan_scan(choice, fold)
                                              : plan_float(choice, fold);
    // What no scheme can be made of is known before the first network is trained.
    for (const FoldModel& model : plan.models)
        if (!model.schemes.empty()) quant::SchemeList::from_configuration(model.schemes);
    return plan;
}

std::vector<std::string> network_warnings(const ModelOptions& network) {
    constexpr std::int64_t most_weights = 4096;
    std::vector<std::string> lines;
    for (std::size_t i = 0; i < network.pooling.size(); ++i)
        if (network.name == "svhn_cnn" && network.pooling[i] == 1)
            lines.push_back(cat("the pooling of 1 behind conv_", i, " averages over single cells: it changes nothing"));
    const std::unique_ptr<Module> model = make_model(network);
    for (const cost::CostLayer& layer : cost::describe_network(*model, network.input).layers)
        if (layer.has_kernel() && layer.kernel.numel() > most_weights)
            lines.push_back(cat(layer.name, " has ", layer.kernel.numel(), " weights, more than the ", most_weights,
                                " that synthesis for FPGAs takes"));
    return lines;
}

std::string scan_schemes(std::int64_t width, const std::string& compat) {
    Json configuration{{"bits", width}};
    if (compat != "current") configuration["compat"] = compat;
    return Json::array({{{"scheme", "qkeras"}, {"configuration", configuration}}}).dump();
}

void check_widths(const std::vector<std::int64_t>& widths) {
    if (widths.empty()) throw UsageError("--widths: needs at least one");
    for (std::size_t i = 1; i < widths.size(); ++i)
        if (widths[i] >= widths[i - 1])
            throw UsageError(
                cat("--widths: each must be narrower than the one before, got ", widths[i], " after ", widths[i - 1]));
}

}  // namespace bitloom
