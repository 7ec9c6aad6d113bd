#include "quant/checkpoints.h"

#include <nlohmann/json.hpp>
#include <set>

#include "engine/error.h"
#include "engine/io/checkpoint.h"
#include "engine/io/json_values.h"
#include "models/registry.h"
#include "quant/qkeras/keras_model.h"

namespace bitloom::quant {

namespace {

using Json = nlohmann::ordered_json;

/// The entries of a checkpoint whose names are among a network's.
template <class Named>
void keep(std::vector<std::pair<std::string, Tensor>>& entries, const Named& wanted) {
    std::set<std::string_view> names;
    for (const auto& [name, tensor] : wanted) names.insert(name);
    std::erase_if(entries, [&](const auto& entry) { return !names.contains(entry.first); });
}

}  // namespace

std::string with_schemes(const std::string& config, const SchemeList& schemes) {
    if (schemes.empty()) return config;
    Json json = config.empty() ? Json::object() : Json::parse(config);
    json["schemes"] = Json::parse(schemes.configuration());
    return json.dump();
}

SchemeList schemes_of(const std::string& config) {
    const Json json = json_or_discarded<Json>(config);
    if (!json.is_object() || !json.contains("schemes")) return {};
    return SchemeList::from_configuration(json["schemes"].dump());
}

void transfer(Module& network, const Checkpoint& checkpoint) {
    Checkpoint latent;
    latent.model = checkpoint.model;
    latent.parameters = checkpoint.parameters;
    latent.buffers = checkpoint.buffers;
    keep(latent.parameters, network.named_parameters());
    keep(latent.buffers, network.named_buffers());
    restore(network, latent);
}

void load_latent_weights(Module& network, const std::string& path) {
    if (!is_checkpoint(path)) {
        load_weights(network, path);
        return;
    }
    try {
        transfer(network, load_checkpoint(path));
    } catch (const Error& error) {
        fail(path, ": ", error.what());
    }
}

CompressedModel load_compressed(const ModelOptions& options, const std::string& path, SchemeList added) {
    if (is_checkpoint(path)) {
        const Checkpoint checkpoint = load_checkpoint(path);
        SchemeList schemes = schemes_of(checkpoint.config);
        if (!schemes.empty()) {
            if (!added.empty()) throw UsageError(cat(path, ": its network is compressed already; leave --scheme out"));
            CompressedModel loaded;
            loaded.options = model_options_from_json(checkpoint.model);
            require(options.name.empty() || options.name == loaded.options.name, path, ": is a checkpoint of '",
                    loaded.options.name, "', not of '", options.name, "'");
            loaded.network = make_model(loaded.options);
            try {
                transfer(*loaded.network, checkpoint);
                schemes.attach(*loaded.network, loaded.options.input);
                schemes.fit_to(checkpoint);
                restore(*loaded.network, checkpoint);
            } catch (const Error& error) {
                fail(path, ": ", error.what());
            }
            loaded.schemes = std::move(schemes);
            loaded.file.config = checkpoint.config;
            return loaded;
        }
    }
    LoadedModel loaded = load_model(options, path);
    if (const std::string recorded = qkeras::scheme_of_keras_model(loaded.file); !recorded.empty()) {
        if (!added.empty()) throw UsageError(cat(path, ": its network is compressed already; leave --scheme out"));
        try {
            added = SchemeList({"qkeras"}, recorded);
            added.attach(*loaded.network, loaded.options.input);
        } catch (const Error& error) {
            fail(path, ": ", error.what());
        }
        return {std::move(loaded.options), std::move(loaded.network), std::move(added), std::move(loaded.file)};
    }
    added.attach(*loaded.network, loaded.options.input);
    return {std::move(loaded.options), std::move(loaded.network), std::move(added), std::move(loaded.file)};
}

}  // namespace bitloom::quant
