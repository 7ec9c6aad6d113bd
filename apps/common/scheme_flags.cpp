#include "apps/common/scheme_flags.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/json_values.h"

namespace bitloom {

void add_scheme_flags(Flags& flags, SchemeFlags& values) {
    std::string help = "what compresses the network, in order of attachment:";
    for (const std::string& name : quant::scheme_names())
        help += cat(help.back() == ':' ? " " : "; ", name, " (", quant::scheme_summary(name), ")");
    flags.group("Compression");
    flags.add("scheme", values.schemes, help);
    flags.add("scheme-config", values.config,
              "JSON file with the scheme's keys; for several schemes, an object with a member each");
    flags.add("bits", values.bits,
              "quantize to so many bits with QKeras quantizers (--scheme qkeras, which may be left out): one number for weights "
              "and activations, or one for each",
              {.min = 1, .max = 16});
    flags.add("qkeras-compat", values.qkeras_compat,
              "release of QKeras whose numbers the quantizers give: automatic scales, bounds of quantized_relu and quantized_tanh differ",
              {.choices = {"current", "0.8"}});
}

namespace {

using Json = nlohmann::ordered_json;

/// The flags with what --bits stands for written out, and the configuration's text.
struct Asked {
    std::vector<std::string> schemes;
    std::string json;
};

/// --bits and --qkeras-compat are keys of scheme qkeras.
Asked with_qkeras_flags(const SchemeFlags& values, std::string json) {
    const bool old = values.qkeras_compat != "current";
    if (values.bits.empty() && !old) return {values.schemes, std::move(json)};
    if (values.bits.size() > 2)
        throw UsageError(cat("--bits: takes one number, or one for weights and one for activations; got ", values.bits.size()));
    Asked asked{values.schemes, ""};
    const bool named = std::find(asked.schemes.begin(), asked.schemes.end(), "qkeras") != asked.schemes.end();
    if (!named && values.bits.empty()) throw UsageError("--qkeras-compat needs --scheme qkeras or --bits");
    if (!named) asked.schemes.insert(asked.schemes.begin(), "qkeras");
    Json all = Json::object();
    if (!json.empty()) {
        all = json_or_discarded<Json>(json);
        if (!all.is_object()) throw UsageError("--scheme-config: needs a JSON object");
        // The file of one scheme, beside which --bits names a second.
        if (values.schemes.size() == 1 && asked.schemes.size() == 2) all = {{values.schemes.front(), all}};
    }
    Json& own = asked.schemes.size() == 1 ? all : all["qkeras"];
    if (!values.bits.empty()) own["bits"] = values.bits.front();
    if (values.bits.size() == 2) own["activation_bits"] = values.bits.back();
    if (old) {
        const bool settings = own.contains("bits") || own.contains("dictionary") || own.contains("predefined");
        if (!settings) own = {{"dictionary", own}};
        own["compat"] = values.qkeras_compat;
    }
    asked.json = all.dump();
    return asked;
}

}  // namespace

quant::SchemeList make_schemes(const SchemeFlags& values) {
    if (values.schemes.empty() && values.bits.empty() && values.qkeras_compat == "current") {
        if (!values.config.empty()) throw UsageError("--scheme-config needs --scheme");
        return {};
    }
    std::string json;
    if (!values.config.empty()) {
        try {
            json = read_file(values.config, std::size_t{16} << 20);
        } catch (const Error& error) {
            throw UsageError(cat("--scheme-config: ", error.what()));
        }
    }
    try {
        const Asked asked = with_qkeras_flags(values, std::move(json));
        return quant::SchemeList(asked.schemes, asked.json);
    } catch (const UsageError& error) {
        throw UsageError(values.config.empty() ? error.what() : cat(values.config, ": ", error.what()));
    }
}

}  // namespace bitloom
