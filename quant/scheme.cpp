#include "quant/scheme.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"
#include "quant/schemes.h"

namespace bitloom::quant {

namespace {

using Json = nlohmann::ordered_json;

std::vector<SchemeEntry>& registry() {
    static std::vector<SchemeEntry> entries = built_in_schemes();
    return entries;
}

const SchemeEntry& entry(const std::string& name) {
    for (const SchemeEntry& candidate : registry())
        if (candidate.name == name) return candidate;
    std::string known;
    for (const SchemeEntry& candidate : registry()) known += (known.empty() ? "" : ", ") + candidate.name;
    throw UsageError(cat("unknown scheme ", in_quotes(name), " (", known.empty() ? "there is none" : known, ")"));
}

Json parse(const std::string& text, const std::string& who) {
    if (text.empty()) return Json::object();
    Json json = json_or_discarded<Json>(text);
    if (json.is_discarded()) throw UsageError(cat(who, ": the configuration is no valid JSON"));
    return json;
}

}  // namespace

void register_scheme(SchemeEntry added) {
    for (const SchemeEntry& candidate : registry())
        require(candidate.name != added.name, "scheme '", added.name, "' is registered already");
    registry().push_back(std::move(added));
}

std::vector<std::string> scheme_names() {
    std::vector<std::string> names;
    for (const SchemeEntry& candidate : registry()) names.push_back(candidate.name);
    return names;
}

const std::string& scheme_summary(const std::string& name) { return entry(name).summary; }

std::unique_ptr<Scheme> make_scheme(const std::string& name, const std::string& json) {
    const SchemeEntry& found = entry(name);
    const Json configuration = parse(json, "scheme " + name);
    if (!configuration.is_object()) throw UsageError(cat("scheme ", name, ": the configuration must be a JSON object"));
    return found.make(configuration.dump());
}

SchemeList::SchemeList(const std::vector<std::string>& names, const std::string& json) {
    if (names.size() == 1) {
        schemes_.push_back(make_scheme(names.front(), json));
        return;
    }
    const Json all = parse(json, "schemes");
    if (!all.is_object())
        throw UsageError("schemes: the configuration of several must be a JSON object with a member a scheme");
    for (const auto& [key, value] : all.items())
        if (std::find(names.begin(), names.end(), key) == names.end())
            throw UsageError(cat("schemes: ", in_quotes(key), " in the configuration is none of the schemes asked for"));
    for (const std::string& name : names)
        schemes_.push_back(make_scheme(name, all.contains(name) ? all[name].dump() : std::string()));
    sort();
}

void SchemeList::sort() {
    std::stable_sort(schemes_.begin(), schemes_.end(),
                     [](const auto& a, const auto& b) { return a->order() < b->order(); });
}

SchemeList SchemeList::from_configuration(const std::string& json) {
    const Json all = parse(json, "schemes");
    SchemeList list;
    require(all.is_array(), "schemes: the record must be a JSON list");
    for (const Json& one : all) {
        require(one.is_object() && one.contains("scheme") && one["scheme"].is_string() && one.contains("configuration"),
                "schemes: the record has an entry without scheme or configuration");
        list.schemes_.push_back(make_scheme(one["scheme"].get<std::string>(), one["configuration"].dump()));
    }
    list.sort();
    return list;
}

std::string SchemeList::configuration() const {
    Json all = Json::array();
    for (const auto& scheme : schemes_)
        all.push_back({{"scheme", scheme->name()}, {"configuration", Json::parse(scheme->configuration())}});
    return all.dump();
}

void SchemeList::attach(Module& network, const Shape& input) const {
    for (const auto& scheme : schemes_) {
        scheme->input = input;
        scheme->attach(network);
    }
}

void SchemeList::fit_to(const Checkpoint& checkpoint) const {
    for (const auto& scheme : schemes_) scheme->fit_to(checkpoint);
}

void SchemeList::adapt_initial_weights(Module& network) const {
    for (const auto& scheme : schemes_) scheme->adapt_initial_weights(network);
}

void SchemeList::add_to(Trainer& trainer) const {
    for (const auto& scheme : schemes_) {
        for (const auto& callback : scheme->callbacks()) trainer.add(callback);
        for (const LossTerm& term : scheme->loss_terms()) trainer.add_loss_term(term);
    }
}

bool SchemeList::settled() const {
    return std::all_of(schemes_.begin(), schemes_.end(), [](const auto& scheme) { return scheme->settled(); });
}

void SchemeList::set_log(const std::function<void(const std::string&)>& log) const {
    for (const auto& scheme : schemes_) scheme->set_log(log);
}

std::string SchemeList::report(Module& network) const {
    Json all = Json::object();
    for (const auto& scheme : schemes_) all[scheme->name()] = Json::parse(scheme->report(network));
    return all.dump();
}

}  // namespace bitloom::quant
