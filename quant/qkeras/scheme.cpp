#include "quant/qkeras/scheme.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/model_quantize.h"

namespace bitloom::quant::qkeras {

namespace {

using Json = nlohmann::ordered_json;

const std::vector<std::string>& keys() {
    static const std::vector<std::string> names{"bits",         "activation_bits",  "dictionary", "predefined",  "compat",
                                                "sigmoid",      "fold_batch_norm",  "folding_mode", "ema_freeze_delay"};
    return names;
}

std::string text(const Json& json, const std::string& key, const std::string& fallback, const std::vector<std::string>& choices) {
    if (!json.contains(key)) return fallback;
    if (!json[key].is_string()) throw UsageError(cat("scheme qkeras: ", key, " must be text"));
    const auto value = json[key].get<std::string>();
    if (std::find(choices.begin(), choices.end(), value) != choices.end()) return value;
    std::string known;
    for (const std::string& choice : choices) known += (known.empty() ? "" : ", ") + choice;
    throw UsageError(cat("scheme qkeras: ", key, " must be one of ", known, "; got ", in_quotes(value)));
}

std::int64_t whole(const Json& json, const std::string& key, std::int64_t fallback) {
    if (!json.contains(key)) return fallback;
    try {
        return integer_from_json(json[key]);
    } catch (const Error& error) {
        throw UsageError(cat("scheme qkeras: ", key, ": ", error.what()));
    }
}

bool truth(const Json& json, const std::string& key) {
    if (!json.contains(key)) return false;
    if (!json[key].is_boolean()) throw UsageError(cat("scheme qkeras: ", key, " must be true or false"));
    return json[key].get<bool>();
}

class QKerasScheme final : public Scheme {
   public:
    /// Settings by the keys above, or a dictionary of quantizers alone.
    explicit QKerasScheme(const std::string& text_of) {
        Json json = Json::parse(text_of);
        const bool settings = json.empty() || std::any_of(keys().begin(), keys().end(), [&](const std::string& key) { return json.contains(key); });
        if (!settings) json = Json{{"dictionary", json}};
        for (const auto& [key, value] : json.items())
            if (std::find(keys().begin(), keys().end(), key) == keys().end()) {
                const std::string near = closest(key, keys());
                throw UsageError(cat("scheme qkeras: unknown key ", in_quotes(key), near.empty() ? "" : ", perhaps " + near));
            }
        const int sources = json.contains("bits") + json.contains("dictionary") + json.contains("predefined");
        if (sources != 1) throw UsageError("scheme qkeras: needs exactly one of bits, dictionary and predefined");
        if (json.contains("bits")) {
            const std::int64_t bits = whole(json, "bits", 0);
            dictionary_ = scan_dictionary(bits, whole(json, "activation_bits", bits));
        } else if (json.contains("activation_bits")) {
            throw UsageError("scheme qkeras: activation_bits goes with bits");
        } else if (json.contains("predefined")) {
            if (!json["predefined"].is_string()) throw UsageError("scheme qkeras: predefined must be a name");
            dictionary_ = predefined_dictionary(json["predefined"].get<std::string>());
            options_.allow_missing_layers = true;
        } else {
            dictionary_ = json["dictionary"].dump();
        }
        const std::string form = text(json, "sigmoid", "hard", {"hard", "smooth", "real"});
        options_.settings.sigmoid = form == "hard" ? SigmoidForm::hard : form == "smooth" ? SigmoidForm::smooth : SigmoidForm::real;
        options_.settings.release = text(json, "compat", "current", {"current", "0.8"}) == "0.8" ? Release::v0_8 : Release::current;
        options_.fold_batch_norm = truth(json, "fold_batch_norm");
        options_.folding_mode = folding_mode(text(json, "folding_mode", "ema_stats_folding", {"ema_stats_folding", "batch_stats_folding"}));
        options_.ema_freeze_delay = whole(json, "ema_freeze_delay", -1);
        configuration_ = json.dump();
    }

    std::string name() const override { return "qkeras"; }
    std::string configuration() const override { return configuration_; }
    void attach(Module& network) override {
        ModelQuantizeOptions options = options_;
        options.input = input;
        model_quantize(network, dictionary_, options);
        if (quantized_layers(network).empty())
            throw UsageError("scheme qkeras: the dictionary matches no layer of the network");
    }
    void adapt_initial_weights(Module& network) override { adapt_initial_values(network); }
    std::string report(Module& network) const override {
        Json layers = Json::array();
        for (const QuantizedLayer& layer : quantized_layers(network)) {
            Json one{{"layer", layer.path}, {"type", layer.type}};
            if (!layer.kernel.empty()) one["kernel"] = layer.kernel;
            if (!layer.bias.empty()) one["bias"] = layer.bias;
            if (!layer.activation.empty()) one["activation"] = layer.activation;
            if (layer.folded) one["batch_norm_folded"] = true;
            if (layer.batch_norm) one["batch_norm_quantized"] = true;
            layers.push_back(std::move(one));
        }
        return Json{{"layers", layers}}.dump();
    }

   private:
    std::string dictionary_, configuration_;
    ModelQuantizeOptions options_;
};

}  // namespace

SchemeEntry scheme_entry() {
    return {"qkeras",
            "QKeras quantizers: {\"bits\": 4} (with activation_bits where they differ), {\"predefined\": NAME}, or a dictionary of "
            "quantizers by layer and class; sigmoid, compat, fold_batch_norm, folding_mode, ema_freeze_delay",
            [](const std::string& json) { return std::make_unique<QKerasScheme>(json); }};
}

}  // namespace bitloom::quant::qkeras
