#include "models/registry.h"

#include <algorithm>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"
#include "engine/parameter.h"
#include "models/initializers.h"
#include "models/resnet.h"
#include "models/small_networks.h"

namespace bitloom {

namespace {
using Json = nlohmann::ordered_json;

struct Entry {
    std::string summary;
    ModelOptions defaults;  ///< an empty option is one that the network does not have
    std::function<std::unique_ptr<Module>(const ModelOptions&)> make;
};

constexpr std::int64_t deepest_resnet = 1202;  // that of He et al., 2016

ModelOptions defaults_for(const std::string& name, const Shape& input) {
    ModelOptions options;
    options.name = name;
    options.input = input;
    options.classes = 10;
    return options;
}

Entry resnet_entry(std::int64_t depth) {
    ModelOptions resnet = defaults_for(cat("resnet", depth), {32, 32, 3});
    resnet.variant = "B";
    return {cat("ResNet-", depth, " for CIFAR; variant A: parameter-free shortcuts, B: 1x1 convolutions"), resnet,
            [depth](const ModelOptions& o) { return make_cifar_resnet(o, depth); }};
}

std::vector<Entry> make_entries() {
    std::vector<Entry> entries;
    ModelOptions svhn = defaults_for("svhn_cnn", {32, 32, 3});
    svhn.filters = {16, 16, 24};
    svhn.kernels = {3, 3, 3};
    svhn.strides = {1, 1, 1};
    svhn.pooling = {2, 2, 2};
    svhn.dense_units = {42, 64};
    svhn.activation = "relu";
    svhn.moving_variance = "keras_fused";
    entries.push_back({"SVHN network of the QKeras experiments: 3 convolutions, 2 dense layers", svhn, make_svhn_cnn});
    ModelOptions fixed = svhn;
    fixed.name = "svhn_cnn_128";
    fixed.dense_units.clear();
    fixed.dropout = {0.25, 0.25, 0.25};
    entries.push_back({"the same with zero padding, dropout and one dense layer of 128 units", fixed, make_svhn_cnn_128});
    for (const std::int64_t depth : {20, 32, 44, 56, 110}) entries.push_back(resnet_entry(depth));
    entries.push_back({"MNIST perceptron of the GPFQ experiments: 500 and 300 units",
                       defaults_for("mnist_mlp", {28, 28, 1}), make_mnist_mlp});
    entries.push_back({"CIFAR-10 network of the GPFQ experiments: 6 convolutions, 2 dense layers",
                       defaults_for("gpfq_cnn", {32, 32, 3}), make_gpfq_cnn});
    ModelOptions tuned = defaults_for("tuned_cnn", {32, 32, 3});
    tuned.variant = "flatten";
    tuned.filters = {4, 4, 4};
    tuned.kernels = {3, 3, 3};
    tuned.pooling = {2, 2, 2};
    tuned.dense_units = {32};
    tuned.dropout = {0};
    entries.push_back({"network of svhn_tune's search space: SAME convolutions, pooling, dense layers", tuned, make_tuned_cnn});
    entries.push_back({"LeNet-5 with ReLU and max pooling", defaults_for("lenet5", {28, 28, 1}), make_lenet5});
    return entries;
}

const std::vector<Entry>& entries() {
    static const std::vector<Entry> all = make_entries();
    return all;
}

/// ResNets of the depths that are not listed: 8, 14, 26, ..., 1202. Null for other names.
const Entry* unlisted_resnet(const std::string& name) {
    static const std::map<std::string, Entry> all = [] {
        std::map<std::string, Entry> resnets;
        for (std::int64_t depth = 8; depth <= deepest_resnet; depth += 6) resnets.emplace(cat("resnet", depth), resnet_entry(depth));
        return resnets;
    }();
    const auto found = all.find(name);
    return found == all.end() ? nullptr : &found->second;
}

const Entry& entry(const std::string& name) {
    for (const Entry& e : entries())
        if (e.defaults.name == name) return e;
    if (const Entry* resnet = unlisted_resnet(name)) return *resnet;
    std::string known;
    for (const std::string& n : model_names()) known += (known.empty() ? "" : ", ") + n;
    throw UsageError(cat("unknown model ", in_quotes(name), " (", known, ")"));
}

/// Calls f(name, member pointer) for the options beyond name, input and classes.
template <class F>
void for_each_option(F&& f) {
    f("variant", &ModelOptions::variant);
    f("activation", &ModelOptions::activation);
    f("moving_variance", &ModelOptions::moving_variance);
    f("filters", &ModelOptions::filters);
    f("kernels", &ModelOptions::kernels);
    f("strides", &ModelOptions::strides);
    f("pooling", &ModelOptions::pooling);
    f("dense_units", &ModelOptions::dense_units);
    f("dropout", &ModelOptions::dropout);
}

void read_option(const Json& value, std::string& option) { value.get_to(option); }
void read_option(const Json& value, std::vector<std::int64_t>& option) { option = integers_from_json(value); }
void read_option(const Json& value, std::vector<double>& option) { value.get_to(option); }
}  // namespace

const std::vector<std::string>& model_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all;
        for (const Entry& e : entries()) all.push_back(e.defaults.name);
        return all;
    }();
    return names;
}

bool is_model_name(const std::string& name) {
    const std::vector<std::string>& listed = model_names();
    return std::find(listed.begin(), listed.end(), name) != listed.end() || unlisted_resnet(name) != nullptr;
}

const std::string& model_summary(const std::string& name) { return entry(name).summary; }

ModelOptions resolve(ModelOptions options) {
    const ModelOptions& defaults = entry(options.name).defaults;
    if (options.input.rank() == 0) options.input = defaults.input;
    if (options.classes == 0) options.classes = defaults.classes;
    if (options.input.rank() != 3 || options.input.numel() == 0)
        throw UsageError(cat(options.name, ": input ", options.input, " is not [height, width, channels]"));
    if (options.classes < 1) throw UsageError(cat(options.name, ": ", options.classes, " classes"));
    for_each_option([&](const char* name, auto member) {
        if ((defaults.*member).empty() && !(options.*member).empty())
            throw UsageError(cat("model ", options.name, " has no option '", name, "'"));
        if ((options.*member).empty()) options.*member = defaults.*member;
    });
    return options;
}

std::unique_ptr<Module> make_model(const ModelOptions& options, std::uint64_t seed) {
    const ModelOptions resolved = resolve(options);
    std::unique_ptr<Module> network = entry(resolved.name).make(resolved);
    network->assign_paths();
    initialize(*network, seed);
    return network;
}

std::string describe(const ModelOptions& options) {
    const ModelOptions o = resolve(options);
    Json json{{"name", o.name}, {"input", {o.input[0], o.input[1], o.input[2]}}, {"classes", o.classes}};
    for_each_option([&](const char* name, auto member) {
        if (!(o.*member).empty()) json[name] = o.*member;
    });
    return json.dump();
}

ModelOptions model_options_from_json(const std::string& text) {
    ModelOptions options;
    try {
        const Json json = json_from_text<Json>(text);
        std::size_t used = 3;
        options.name = json.at("name").get<std::string>();
        const std::vector<std::int64_t> input = integers_from_json(json.at("input"));
        options.input = Shape(std::span<const std::int64_t>(input));
        options.classes = integer_from_json(json.at("classes"));
        for_each_option([&](const char* name, auto member) {
            if (!json.contains(name)) return;
            read_option(json.at(name), options.*member);
            ++used;
        });
        require(used == json.size(), "it has options that no model knows");
    } catch (const std::exception& error) {
        fail("cannot read the model description ", in_quotes(text), ": ", error.what());
    }
    return resolve(std::move(options));
}

std::unique_ptr<Module> make_model_from_json(const std::string& json, std::uint64_t seed) {
    return make_model(model_options_from_json(json), seed);
}

ParameterCounts count_parameters(Module& network) {
    ParameterCounts counts;
    for (const auto& [path, parameter] : network.named_parameters()) {
        if (parameter->trainable) counts.trainable += parameter->value.numel();
        counts.total += parameter->value.numel();
    }
    for (const auto& [path, buffer] : network.named_buffers())
        if (is_floating(buffer->dtype())) counts.total += buffer->numel();
    return counts;
}

}  // namespace bitloom
