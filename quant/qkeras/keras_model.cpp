#include "quant/qkeras/keras_model.h"

#include <nlohmann/json.hpp>

#include "engine/error.h"

namespace bitloom::quant::qkeras {

namespace {

using Json = nlohmann::ordered_json;

/// Text such as "linear" names a function of Keras, no quantizer; those have arguments or a class.
bool is_quantizer(const Json& value) {
    return value.is_object() || (value.is_string() && value.get<std::string>().find('(') != std::string::npos);
}

}  // namespace

std::string scheme_of_keras_model(const WeightFile& file) {
    Json dictionary = Json::object(), scheme = Json::object();
    for (const KerasLayer& layer : file.keras_layers) {
        if (!layer.class_name.starts_with('Q')) continue;
        try {
            const Json config = Json::parse(layer.config);
            const auto filled = file.layer_paths.find(layer.name);
            const std::string path = filled == file.layer_paths.end() ? layer.name : filled->second;
            if (layer.class_name == "QActivation") {
                if (is_quantizer(config.at("activation"))) dictionary[path] = config["activation"];
                continue;
            }
            Json entry = Json::object();
            for (const auto& [key, value] : config.items()) {
                // Of a batch norm null counts too: it switches a default off.
                const bool counts = layer.class_name == "QBatchNormalization" || is_quantizer(value);
                if (counts && (key.ends_with("_quantizer") || key == "activation")) entry[key] = value;
            }
            if (layer.class_name.ends_with("Batchnorm")) {
                scheme["fold_batch_norm"] = true;
                if (config.contains("folding_mode")) scheme["folding_mode"] = config["folding_mode"];
            }
            if (!entry.empty()) dictionary[path] = std::move(entry);
        } catch (const Json::exception& error) {
            fail("the settings of layer '", layer.name, "' in model_config cannot be read: ", error.what());
        }
    }
    if (dictionary.empty()) return "";
    scheme["dictionary"] = std::move(dictionary);
    return scheme.dump();
}

}  // namespace bitloom::quant::qkeras
