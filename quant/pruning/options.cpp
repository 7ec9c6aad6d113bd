// PruningOptions from and to JSON.

#include <functional>
#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"
#include "quant/pruning/pruner.h"

namespace bitloom::quant::pruning {

namespace {

using Json = nlohmann::ordered_json;
using Readers = std::vector<std::pair<std::string, std::function<void(const Json&)>>>;

/// Calls each member's reader; UsageError naming the key where there is none or its value does not fit.
void read_object(const Json& json, const std::string& where, const Readers& readers) {
    if (!json.is_object()) throw UsageError(cat(where, ": needs a JSON object"));
    std::vector<std::string> keys;
    for (const auto& [key, reader] : readers) keys.push_back(key);
    for (const auto& [key, value] : json.items()) {
        const auto found = std::find_if(readers.begin(), readers.end(), [&key = key](const auto& r) { return r.first == key; });
        if (found == readers.end()) {
            const std::string guess = closest(key, keys);
            throw UsageError(
                cat(where, ": unknown key ", in_quotes(key), guess.empty() ? "" : cat(" (did you mean ", guess, "?)")));
        }
        try {
            found->second(value);
        } catch (const Error& error) {
            throw UsageError(cat(where, ": ", key, ": ", error.what()));
        }
    }
}

double number(const Json& json) {
    require(json.is_number(), "needs a number, got ", in_quotes(json.dump()));
    return json.get<double>();
}
std::string text(const Json& json) {
    require(json.is_string(), "needs a string, got ", in_quotes(json.dump()));
    return json.get<std::string>();
}
std::vector<std::string> texts(const Json& json) {
    require(json.is_array(), "needs a list of strings");
    std::vector<std::string> all;
    for (const Json& one : json) all.push_back(text(one));
    return all;
}
bool boolean(const Json& json) {
    require(json.is_boolean(), "needs true or false, got ", in_quotes(json.dump()));
    return json.get<bool>();
}
/// The value that a name stands for.
template <class T>
T choice(const Json& json, const std::vector<std::pair<std::string, T>>& choices) {
    const std::string name = text(json);
    std::string known;
    for (const auto& [candidate, value] : choices) {
        if (candidate == name) return value;
        known += (known.empty() ? "" : ", ") + candidate;
    }
    fail("is one of ", known, ", not ", in_quotes(name));
}

const std::vector<std::pair<std::string, SparsitySchedule::Kind>> schedule_kinds = {
    {"polynomial", SparsitySchedule::Kind::polynomial}, {"constant", SparsitySchedule::Kind::constant}};
const std::vector<std::pair<std::string, BlockPooling>> poolings = {{"AVG", BlockPooling::average},
                                                                    {"MAX", BlockPooling::maximum}};
const std::vector<std::pair<std::string, GradientRule>> gradient_rules = {{"pass", GradientRule::pass},
                                                                          {"masked", GradientRule::masked}};

template <class T>
std::string name_in(const std::vector<std::pair<std::string, T>>& choices, T value) {
    for (const auto& [name, candidate] : choices)
        if (candidate == value) return name;
    return {};
}

void read_granularity(const Json& json, MaskRule& rule) {
    const std::string name = text(json);
    const std::size_t colon = name.find(':');
    if (colon != std::string::npos) {
        std::int64_t keep = 0, of = 0;
        try {
            keep = std::get<std::int64_t>(value_from_text(FlagTarget(&keep), name.substr(0, colon)));
            of = std::get<std::int64_t>(value_from_text(FlagTarget(&of), name.substr(colon + 1)));
        } catch (const Error&) {
            fail("N:M needs two integers, got ", in_quotes(name));
        }
        rule.granularity = Granularity::n_of_m;
        rule.keep = keep, rule.of = of;
        return;
    }
    rule.granularity = choice<Granularity>(
        json, {{"element", Granularity::element}, {"block", Granularity::block}, {"channel", Granularity::channel}});
}

Readers layer_readers(LayerOptions& layer) {
    SparsitySchedule& schedule = layer.schedule;
    return {{"schedule", [&](const Json& j) { schedule.kind = choice(j, schedule_kinds); }},
            {"initial_sparsity", [&](const Json& j) { schedule.initial_sparsity = number(j); }},
            {"final_sparsity", [&](const Json& j) { schedule.final_sparsity = number(j); }},
            {"begin_step", [&](const Json& j) { schedule.begin = integer_from_json(j); }},
            {"end_step", [&](const Json& j) { schedule.end = integer_from_json(j); }},
            {"frequency", [&](const Json& j) { schedule.frequency = integer_from_json(j); }},
            {"power", [&](const Json& j) { schedule.power = number(j); }},
            {"granularity", [&](const Json& j) { read_granularity(j, layer.rule); }},
            {"block",
             [&](const Json& j) {
                 const std::vector<std::int64_t> block = integers_from_json(j);
                 require(block.size() == 2, "needs two integers, rows and columns");
                 layer.rule.granularity = Granularity::block;
                 layer.rule.block_rows = block[0], layer.rule.block_columns = block[1];
             }},
            {"block_pooling", [&](const Json& j) { layer.rule.pooling = choice(j, poolings); }}};
}

void check(const LayerOptions& layer) {
    pruning::check(layer.schedule);
    pruning::check(layer.rule);
}

Json json_of(const LayerOptions& layer) {
    const SparsitySchedule& s = layer.schedule;
    Json json{{"schedule", name_in(schedule_kinds, s.kind)},
              {"initial_sparsity", s.initial_sparsity},
              {"final_sparsity", s.final_sparsity},
              {"begin_step", s.begin},
              {"end_step", s.end},
              {"frequency", s.frequency},
              {"power", s.power}};
    switch (layer.rule.granularity) {
        case Granularity::element:
            json["granularity"] = "element";
            break;
        case Granularity::block:
            json["granularity"] = "block";
            json["block"] = {layer.rule.block_rows, layer.rule.block_columns};
            json["block_pooling"] = name_in(poolings, layer.rule.pooling);
            break;
        case Granularity::n_of_m:
            json["granularity"] = cat(layer.rule.keep, ":", layer.rule.of);
            break;
        case Granularity::channel:
            json["granularity"] = "channel";
            break;
    }
    return json;
}

}  // namespace

PruningOptions parse_pruning_options(const std::string& json_text) {
    const Json json = json_or_discarded<Json>(json_text.empty() ? "{}" : json_text);
    if (json.is_discarded()) throw UsageError("pruning: the configuration is no valid JSON");
    PruningOptions options;
    Json overrides = Json::object();
    Readers readers = layer_readers(options.all);
    readers.insert(readers.end(), {{"gradient", [&](const Json& j) { options.gradient = choice(j, gradient_rules); }},
                                   {"layers", [&](const Json& j) { options.layers = texts(j); }},
                                   {"exclude", [&](const Json& j) { options.exclude = texts(j); }},
                                   {"scale_to_run", [&](const Json& j) { options.scale_to_run = boolean(j); }},
                                   {"overrides", [&](const Json& j) {
                                        require(j.is_object(), "needs a JSON object of layers");
                                        overrides = j;
                                    }}});
    read_object(json, "pruning", readers);
    check(options.all);
    // Overrides change what the rest says, wherever they stand.
    for (const auto& [layer, changes] : overrides.items()) {
        LayerOptions own = options.all;
        read_object(changes, cat("pruning: overrides of ", layer), layer_readers(own));
        check(own);
        options.overrides.emplace_back(layer, own);
    }
    return options;
}

std::string to_json(const PruningOptions& options) {
    Json json = json_of(options.all);
    json["gradient"] = name_in(gradient_rules, options.gradient);
    json["layers"] = options.layers;
    json["exclude"] = options.exclude;
    json["overrides"] = Json::object();
    for (const auto& [layer, own] : options.overrides) json["overrides"][layer] = json_of(own);
    json["scale_to_run"] = options.scale_to_run;
    return json.dump();
}

}  // namespace bitloom::quant::pruning
