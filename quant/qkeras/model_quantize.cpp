#include "quant/qkeras/model_quantize.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"
#include "models/layers/layer.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/parse.h"

namespace bitloom::quant::qkeras {

namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<std::string_view, 12> classes{
    "QConv2D",           "QDense",           "QDepthwiseConv2D", "QConv2DTranspose", "QActivation", "QBatchNormalization",
    "QAveragePooling2D", "QGlobalAveragePooling2D", "QConv2DBatchnorm", "QDepthwiseConv2DBatchnorm", "QConv1D", "QSeparableConv2D"};

/// The source's class of a layer, with its Q; empty where it has none that can be quantized.
std::string class_of(const Module& module) {
    const auto* layer = dynamic_cast<const layers::Layer*>(&module);
    if (!layer) return "";
    using layers::LayerType;
    switch (layer->layer_type()) {
        case LayerType::conv2d: return "QConv2D";
        case LayerType::depthwise_conv2d: return "QDepthwiseConv2D";
        case LayerType::conv_transpose2d: return "QConv2DTranspose";
        case LayerType::dense: return "QDense";
        case LayerType::batch_norm: return "QBatchNormalization";
        case LayerType::avg_pool2d: return "QAveragePooling2D";
        case LayerType::global_avg_pool2d: return "QGlobalAveragePooling2D";
        case LayerType::relu:
        case LayerType::relu6:
        case LayerType::leaky_relu:
        case LayerType::sigmoid:
        case LayerType::tanh:
        case LayerType::swish:
        case LayerType::softmax: return "QActivation";
        default: return "";
    }
}

/// The source's name of an activation function.
std::string function_of(const Module& module) {
    std::string name(module.type());
    if (name == "LeakyReLU") return "leaky_relu";
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return name;
}

class Dictionary {
   public:
    explicit Dictionary(const std::string& text) : json_(json_or_discarded<Json>(text)) {
        if (json_.is_discarded()) throw UsageError("the dictionary of quantizers is no valid JSON");
        if (!json_.is_object()) throw UsageError("the dictionary of quantizers must be a JSON object");
    }

    /// Every entry must be a known class or a layer.
    void check_names(Module& network, bool allow_missing_layers) const {
        std::vector<std::string> paths;
        for (const Module* module : network.modules())
            if (!class_of(*module).empty()) paths.push_back(module->path());
        for (const auto& [key, value] : json_.items()) {
            if (std::find(classes.begin(), classes.end(), key) != classes.end()) continue;
            if (std::find(paths.begin(), paths.end(), key) != paths.end()) continue;
            if (allow_missing_layers) continue;
            const std::string near = closest(key, paths);
            throw UsageError(cat("the dictionary names ", in_quotes(key),
                                 ", which is neither a layer of the network that can be quantized nor a class of QKeras",
                                 near.empty() ? "" : "; perhaps " + near));
        }
    }

    const Json* entry(const std::string& path, const std::string& class_name) const {
        if (json_.contains(path)) return &json_[path];
        if (json_.contains(class_name)) return &json_[class_name];
        return nullptr;
    }

   private:
    Json json_;
};

Quantizer read(const Json& value, const std::string& where, const Settings& settings) {
    try {
        if (value.is_string()) return parse_quantizer(value.get<std::string>(), settings.release);
        return quantizer_from_json(value.dump());
    } catch (const UsageError& error) {
        throw UsageError(cat(where, ": ", error.what()));
    }
}

/// The quantizers of one entry, by key.
class Entry {
   public:
    Entry(const Json& json, const std::string& where, const std::vector<std::string>& keys, const Settings& settings)
        : where_(where), settings_(settings), json_(json) {
        if (!json.is_object()) throw UsageError(cat(where, ": needs an object of quantizers, such as {\"", keys.front(), "\": \"...\"}"));
        for (const auto& [key, value] : json.items())
            if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
                const std::string near = closest(key, keys);
                throw UsageError(cat(where, ": unknown key ", in_quotes(key), near.empty() ? "" : ", perhaps " + near));
            }
    }
    std::optional<Quantizer> operator[](const std::string& key) const {
        if (!json_.contains(key) || json_[key].is_null()) return std::nullopt;
        return read(json_[key], where_ + "." + key, settings_);
    }

   private:
    std::string where_;
    const Settings& settings_;
    const Json& json_;
};

std::optional<Quantizer> first(std::optional<Quantizer> a, std::optional<Quantizer> b) { return a ? a : b; }

class Rewriter {
   public:
    Rewriter(Module& network, const Dictionary& dictionary, const ModelQuantizeOptions& options)
        : network_(network), dictionary_(dictionary), options_(options), settings_(options.settings) {}

    void run() {
        if (options_.fold_batch_norm) fold();
        for (Module* module : network_.modules()) {
            const std::string class_name = class_of(*module);
            if (class_name.empty() || done_.contains(module)) continue;
            const Json* json = dictionary_.entry(module->path(), class_name);
            if (!json) continue;
            if (class_name == "QActivation")
                activation(*module, *json);
            else if (class_name == "QBatchNormalization")
                batch_norm(*module, *json);
            else if (class_name == "QAveragePooling2D" || class_name == "QGlobalAveragePooling2D")
                pooling(*module, *json);
            else
                layer(*module, *json);
        }
    }

   private:
    LayerQuantizers layer_quantizers(const Module& module, const Json& json) const {
        const Entry entry(json, module.path(),
                          {"kernel_quantizer", "depthwise_quantizer", "bias_quantizer", "activation_quantizer", "activation"}, settings_);
        return {first(entry["kernel_quantizer"], entry["depthwise_quantizer"]), entry["bias_quantizer"],
                first(entry["activation_quantizer"], entry["activation"])};
    }

    void layer(Module& module, const Json& json) const {
        const LayerQuantizers quantizers = layer_quantizers(module, json);
        if (quantizers.kernel) quantize_layer(module, quantizers, settings_);
    }

    void activation(Module& module, const Json& json) const {
        const std::string where = module.path();
        if (json.is_string() || json.contains("class_name")) return quantize_activation(module, read(json, where, settings_), settings_);
        if (!json.is_object()) throw UsageError(cat(where, ": needs a quantizer, or a map from names of activations"));
        const std::string function = function_of(module);
        if (json.contains(function)) quantize_activation(module, read(json[function], where, settings_), settings_);
    }

    void batch_norm(Module& module, const Json& json) const {
        const Entry entry(json, module.path(),
                          {"gamma_quantizer", "beta_quantizer", "mean_quantizer", "variance_quantizer", "inverse_quantizer"}, settings_);
        // {} stands for the defaults; what is named replaces its default, null switches it off.
        BatchNormQuantizers q = BatchNormQuantizers::defaults();
        const auto set = [&](const char* key, std::optional<Quantizer>& target) {
            if (json.contains(key)) target = entry[key];
        };
        if (json.contains("inverse_quantizer") && !json["inverse_quantizer"].is_null()) q.gamma = q.variance = std::nullopt;
        set("gamma_quantizer", q.gamma), set("beta_quantizer", q.beta), set("mean_quantizer", q.mean);
        set("variance_quantizer", q.variance), set("inverse_quantizer", q.inverse);
        quantize_batch_norm(dynamic_cast<layers::BatchNorm&>(module), q, settings_);
    }

    void pooling(Module& module, const Json& json) const {
        const Entry entry(json, module.path(), {"average_quantizer", "activation_quantizer", "activation"}, settings_);
        quantize_pooling(module, entry["average_quantizer"], first(entry["activation_quantizer"], entry["activation"]), settings_);
    }

    void fold() {
        if (options_.input.rank() != 3)
            throw UsageError("folding batch norms needs the shape of the images");
        const Shape& image = options_.input;
        for (const auto& [convolution, bn] : foldable_pairs(network_, {1, image[0], image[1], image[2]})) {
            const std::string plain = class_of(*convolution);
            const Json* json = dictionary_.entry(convolution->path(), plain + "Batchnorm");
            if (!json) json = dictionary_.entry(convolution->path(), plain);
            if (!json) continue;
            const LayerQuantizers quantizers = layer_quantizers(*convolution, *json);
            if (!quantizers.kernel) continue;
            quantize_folded(*convolution, *bn, {options_.folding_mode, options_.ema_freeze_delay, quantizers.kernel, quantizers.bias}, settings_);
            if (quantizers.activation)
                bn->output_transform = std::make_shared<ActivationQuantizer>(*quantizers.activation, settings_);
            done_.insert(convolution);
            done_.insert(bn);
        }
    }

    Module& network_;
    const Dictionary& dictionary_;
    const ModelQuantizeOptions& options_;
    const Settings& settings_;
    std::set<const Module*> done_;
};

Json pair_of(const std::string& kernel, const std::string& bias) { return {{"kernel_quantizer", kernel}, {"bias_quantizer", bias}}; }

}  // namespace

void model_quantize(Module& network, const std::string& dictionary, const ModelQuantizeOptions& options) {
    const Dictionary parsed(dictionary);
    parsed.check_names(network, options.allow_missing_layers);
    Rewriter(network, parsed, options).run();
}

std::string scan_dictionary(std::int64_t weight_bits, std::int64_t activation_bits) {
    for (const std::int64_t bits : {weight_bits, activation_bits})
        if (bits < 1 || bits > 16) throw UsageError(cat("bits must be 1 to 16, got ", bits));
    const std::string q = weight_bits == 1   ? "binary(alpha=1)"
                          : weight_bits == 2 ? "ternary(alpha=1)"
                                             : cat("quantized_bits(", weight_bits, ",0,alpha=1)");
    Json json;
    for (const char* name : {"QConv2D", "QDense", "QDepthwiseConv2D", "QConv2DTranspose"}) json[name] = pair_of(q, q);
    json["QActivation"] = {{"relu", cat("quantized_relu(", activation_bits, ",0)")}};
    return json.dump();
}

std::vector<std::string> predefined_dictionary_names() { return {"dense_binary", "mix", "binary", "ternary", "4bit", "4bitBinary"}; }

std::string predefined_dictionary(const std::string& name) {
    const std::string binary = "stochastic_binary(alpha='auto_po2')", ternary = "ternary(alpha='auto_po2')";
    const std::string four = "quantized_bits(4,0,1)", three = "quantized_bits(3,0,1)";
    const std::string wide = "quantized_relu(32,16)";
    const auto uniform = [&](const std::string& q) {
        Json json;
        for (const char* layer : {"conv_0", "conv_1"}) json[layer] = pair_of(q, q);
        json["conv_act_1"] = wide;
        json["QActivation"] = {{"relu", wide}};
        for (const char* layer : {"QConv2D", "QDense"}) json[layer] = pair_of(q, q);
        return json;
    };
    const auto binary_dense = [&] {
        Json json = pair_of(binary, binary);
        json["activation"] = wide;
        return json;
    };
    Json json;
    if (name == "binary") {
        json = uniform(binary);
    } else if (name == "ternary") {
        json = uniform(ternary);
    } else if (name == "4bit") {
        json = uniform(four);
    } else if (name == "mix") {
        json = uniform(four);
        json["conv_0"] = pair_of(binary, four);
        json["conv_1"] = pair_of(ternary, four);
        json["QDense"] = pair_of(three, three);
    } else if (name == "4bitBinary") {
        json = uniform(four);
        json.erase("QDense");
        json["conv_act_1"] = four;
        json["QActivation"] = {{"relu", "quantized_relu(4,0)"}};
        json["dense_1"] = binary_dense();
    } else if (name == "dense_binary") {
        json["dense_1"] = binary_dense();
    } else {
        std::string known;
        for (const std::string& one : predefined_dictionary_names()) known += (known.empty() ? "" : ", ") + one;
        throw UsageError(cat("unknown predefined dictionary ", in_quotes(name), " (", known, ")"));
    }
    return json.dump();
}

std::vector<QuantizedLayer> quantized_layers(Module& network) {
    std::vector<QuantizedLayer> found;
    std::map<std::string, Parameter*> parameters;
    for (auto& [path, parameter] : network.named_parameters()) parameters[path] = parameter;
    const auto quantizer_at = [&](const std::string& path) -> std::string {
        const auto it = parameters.find(path);
        if (it == parameters.end()) return "";
        const auto q = quantizer_of(*it->second);
        return q ? to_string(q->quantizer().quantizer()) : "";
    };
    for (const Module* module : network.modules()) {
        QuantizedLayer layer{module->path(), std::string(module->type())};
        const std::string prefix = module->path().empty() ? "" : module->path() + ".";
        layer.kernel = quantizer_at(prefix + "weight");
        layer.bias = quantizer_at(prefix + "bias");
        if (const FoldingOptions* options = folding_options_of(*module)) {
            layer.folded = true;
            if (options->kernel) layer.kernel = to_string(*options->kernel);
            if (options->bias) layer.bias = to_string(*options->bias);
        }
        layer.batch_norm = batch_norm_quantizers_of(*module) != nullptr;
        if (const auto q = activation_quantizer_of(*module)) layer.activation = to_string(q->quantizer().quantizer());
        const bool any = !layer.kernel.empty() || !layer.bias.empty() || !layer.activation.empty() || layer.folded || layer.batch_norm;
        if (any) found.push_back(std::move(layer));
    }
    return found;
}

}  // namespace bitloom::quant::qkeras
