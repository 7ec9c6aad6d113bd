#include "quant/search/autoq.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "engine/error.h"
#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"
#include "quant/cost/attached.h"
#include "quant/cost/bits.h"

namespace bitloom::search {

namespace {

using cost::CostLayer;
using cost::CostNetwork;
using cost::LayerKind;

constexpr double filter_factors[] = {0.5, 0.75, 1, 1.5, 2};
constexpr int rate_choices = 5;
constexpr std::int64_t most_bits = 64;

using Json = nlohmann::ordered_json;

/// std::regex compiles by recursion, which a long pattern of parentheses would take beyond the stack.
constexpr std::size_t longest_pattern = 1000;

std::regex regex_of(const std::string& pattern) {
    if (pattern.size() > longest_pattern)
        throw UsageError(cat("a regular expression of ", pattern.size(), " characters; at most ", longest_pattern));
    try {
        // libstdc++'s own: a time that is polynomial in the pattern, where "(.*)*(.*)*x" would take an exponential one.
        return std::regex(pattern, std::regex_constants::ECMAScript | std::regex_constants::__polynomial);
    } catch (const std::regex_error&) {
        throw UsageError(cat(in_quotes(pattern), " is no regular expression"));
    }
}

bool matches_start(const std::string& pattern, const std::string& name) {
    return std::regex_search(name, regex_of(pattern), std::regex_constants::match_continuous);
}

std::string class_of(const CostLayer& layer) {
    CostLayer plain = layer;
    plain.quantized = false;
    return cost::keras_class(plain);
}

bool is_product(const CostLayer& layer) { return layer.has_kernel(); }
bool is_quantizable_activation(const CostLayer& layer) {
    return layer.kind == LayerKind::activation && layer.activation != "softmax";
}

/// The entry of a layer, and whether its choices are shared by all layers that it matches.
struct LimitEntry {
    std::string key;
    const std::vector<Limit>* limits = nullptr;
    bool shared = false;
};

LimitEntry limit_of(const CostLayer& layer, const AutoqOptions& options) {
    const std::string layer_class = class_of(layer);
    LimitEntry by_class;
    for (const auto& [key, limits] : options.limits) {
        if (key == "default") continue;
        if (key == layer.name) return {key, &limits, false};
        if (key == layer_class)
            by_class = {key, &limits, false};
        else if (matches_start(key, layer.name))
            return {key, &limits, true};
    }
    return by_class;
}

Limit field_of(const LimitEntry& entry, std::size_t index, const AutoqOptions& options) {
    if (index < entry.limits->size()) return (*entry.limits)[index];
    for (const auto& [key, limits] : options.limits)
        if (key == "default" && !limits.empty()) return limits[std::min(index, limits.size() - 1)];
    return {};
}

std::vector<Value> candidates(const QuantizerLists::List& list, const Limit& limit, const std::string& what) {
    std::vector<Value> found;
    for (const std::string& name : limit.quantizers) {
        if (std::none_of(list.begin(), list.end(), [&](const auto& entry) { return entry.first == name; }))
            throw UsageError(cat(what, ": the limit names ", in_quotes(name), ", which is not among its quantizers"));
        found.emplace_back(name);
    }
    if (limit.quantizers.empty())
        for (const auto& [name, bits] : list)
            if (bits <= limit.bits) found.emplace_back(name);
    if (found.empty()) throw UsageError(cat(what, ": no quantizer has at most ", limit.bits, " bits"));
    return found;
}

/// Calls f(layer, field, hyperparameter, list, limit) for every field of every layer that is quantized.
template <class F>
void for_each_field(const CostNetwork& network, const AutoqOptions& options, F&& f) {
    const std::regex touched = regex_of(options.layers);
    for (const CostLayer& layer : network.layers) {
        const bool in_range = std::regex_match(layer.name, touched);
        if (!in_range && !(options.all_layers && is_product(layer))) continue;
        const LimitEntry entry = limit_of(layer, options);
        if (entry.limits == nullptr) continue;
        const std::string owner = entry.shared ? entry.key : layer.name;
        if (is_product(layer)) {
            f(layer, "kernel", owner + "_kernel_quantizer", options.quantizers.kernel, field_of(entry, 0, options),
              in_range);
            if (layer.bias && in_range)
                f(layer, "bias", owner + "_bias_quantizer", options.quantizers.bias, field_of(entry, 1, options), true);
        } else if (is_quantizable_activation(layer)) {
            const bool linear = layer.activation.empty() || layer.activation == "linear";
            f(layer, "activation", owner + "_activation_quantizer",
              linear ? options.quantizers.linear : options.quantizers.activation, field_of(entry, 0, options), true);
        }
    }
}

std::string filter_parameter(const CostLayer& layer, const AutoqOptions& options) {
    return options.tune_filters == FilterTuning::block ? "network_filters" : "network_filters_" + layer.name;
}

double cost_of(const CostNetwork& network, const AutoqOptions& options, const cost::QToolsOptions& types) {
    if (options.goal == CostGoal::bits) return static_cast<double>(cost::model_bits(network).total());
    return static_cast<double>(
        cost::total_energy(cost::layer_energies(network, cost::propagate_types(network, types), options.energy)));
}

/// Reference cost of each layer.
std::map<std::string, double> layer_costs(const CostNetwork& network, const AutoqOptions& options) {
    std::map<std::string, double> costs;
    if (options.goal == CostGoal::bits) {
        for (const cost::LayerBits& layer : cost::model_bits(network).layers)
            costs[layer.name] = static_cast<double>(layer.parameters + layer.activations);
        return costs;
    }
    const auto energies =
        cost::layer_energies(network, cost::propagate_types(network, options.reference), options.energy);
    for (std::size_t i = 0; i < energies.size(); ++i) costs[network.layers[i].name] = energies[i].counted;
    return costs;
}

/// One field of a layer: an integer of bits, or a list of quantizers.
Limit limit_from_json(const Json& field) {
    Limit limit;
    if (!field.is_array()) {
        const std::int64_t bits = integer_from_json(field);
        require(bits >= 0 && bits <= most_bits, bits, " bits are not in 0..", most_bits);
        limit.bits = static_cast<int>(bits);
        return limit;
    }
    require(!field.empty(), "a list of quantizers is empty");
    for (const Json& name : field) {
        require(name.is_string(), "a quantizer is text");
        limit.quantizers.push_back(name.get<std::string>());
    }
    return limit;
}

QuantizerLists::List list_from_json(const Json& entry) {
    require(entry.is_object() && !entry.empty(), "needs an object of bits by quantizer");
    QuantizerLists::List list;
    for (const auto& [quantizer, bits] : entry.items()) {
        cost::type_of_text(quantizer);
        const std::int64_t value = integer_from_json(bits);
        require(value >= 1 && value <= most_bits, quantizer, ": ", value, " bits are not in 1..", most_bits);
        list.emplace_back(quantizer, static_cast<int>(value));
    }
    return list;
}

}  // namespace

QuantizerLists quantizer_lists_from_json(const std::string& text, QuantizerLists others) {
    const Json json = json_or_discarded<Json>(text);
    if (!json.is_object()) throw UsageError("neither the name of a list nor a JSON object");
    const std::map<std::string, QuantizerLists::List*> targets{
        {"kernel", &others.kernel}, {"bias", &others.bias}, {"activation", &others.activation}, {"linear", &others.linear}};
    for (const auto& [key, entry] : json.items()) {
        try {
            const auto target = targets.find(key);
            require(target != targets.end(), "there are lists of kernel, bias, activation and linear");
            *target->second = list_from_json(entry);
        } catch (const Error& error) {
            throw UsageError(cat(in_quotes(key), ": ", error.what()));
        }
    }
    return others;
}

Limits limits_from_json(const std::string& text) {
    const Json json = json_or_discarded<Json>(text);
    if (!json.is_object()) throw UsageError("limits are no JSON object");
    Limits limits;
    for (const auto& [key, fields] : json.items()) {
        try {
            require(fields.is_array(), "needs a list");
            std::vector<Limit> list;
            for (const Json& field : fields) list.push_back(limit_from_json(field));
            limits.emplace_back(key, std::move(list));
        } catch (const Error& error) {
            throw UsageError(cat("limits of ", in_quotes(key), ": ", error.what()));
        }
    }
    return limits;
}

QuantizerLists QuantizerLists::published() {
    return {{{"binary", 1},
             {"ternary", 2},
             {"quantized_bits(2,1,1,alpha=1.0)", 2},
             {"quantized_bits(4,0,1,alpha=1.0)", 4},
             {"quantized_bits(8,0,1,alpha=1.0)", 8}},
            {{"binary", 1}, {"ternary", 2}, {"quantized_bits(4,0,1)", 4}},
            {{"binary", 1},
             {"ternary", 2},
             {"quantized_relu(3,1)", 3},
             {"quantized_relu(4,2)", 4},
             {"quantized_relu(8,2)", 8},
             {"quantized_relu(8,4)", 8},
             {"quantized_relu(16,6)", 16}},
            {{"binary", 1},
             {"ternary", 2},
             {"quantized_bits(4,1)", 4},
             {"quantized_bits(8,2)", 8},
             {"quantized_bits(16,6)", 16}}};
}

QuantizerLists QuantizerLists::older() {
    return {{{"quantized_bits(4,0,1,alpha=1.0)", 4}},
            {{"quantized_bits(4,0,1)", 4}},
            {{"quantized_relu(8,4)", 8}, {"quantized_relu(16,8)", 16}},
            {{"quantized_bits(4,1)", 4}}};
}

QuantizerLists QuantizerLists::qkeras() {
    QuantizerLists lists = published();
    for (const auto& entry : List{{"stochastic_binary", 1}, {"stochastic_ternary", 2}, {"quantized_po2(4,1)", 4}})
        lists.kernel.push_back(entry);
    lists.bias = {{"quantized_bits(4,0,1)", 4}, {"quantized_bits(8,3,1)", 8}, {"quantized_po2(4,8)", 4}};
    for (const auto& entry : List{{"binary(alpha='auto_po2')", 1}, {"quantized_relu(16,8)", 16},
                                  {"quantized_relu_po2(4,4)", 4}})
        lists.activation.push_back(entry);
    for (const auto& entry : List{{"quantized_bits(16,10)", 16}, {"quantized_po2(6,4)", 6}})
        lists.linear.push_back(entry);
    return lists;
}

AutoqOptions AutoqOptions::published() { return {}; }

AutoqOptions AutoqOptions::older() {
    AutoqOptions options;
    options.quantizers = QuantizerLists::older();
    options.limits = {{"Dense", {{4}, {8}, {6}}}, {"Conv2D", {{4}, {8}, {6}}}, {"Activation", {{16}}}};
    options.factor = {8, 8, 4, 0.8};
    options.tune_filters = FilterTuning::none;
    return options;
}

void QuantizedPlan::merge(const QuantizedPlan& other) {
    for (const auto& [name, quantizer] : other.kernel) kernel[name] = quantizer;
    for (const auto& [name, quantizer] : other.bias) bias[name] = quantizer;
    for (const auto& [name, quantizer] : other.activation) activation[name] = quantizer;
    for (const auto& [name, factor] : other.filters) filters[name] = factor;
    learning_rate = other.learning_rate;
}

bool tunes_filters(const CostLayer& layer, const AutoqOptions& options) {
    if (options.tune_filters == FilterTuning::none || !is_product(layer)) return false;
    if (!std::regex_match(layer.name, regex_of(options.layers))) return false;
    return limit_of(layer, options).limits != nullptr &&
           (options.filter_exceptions.empty() || !std::regex_search(layer.name, regex_of(options.filter_exceptions)));
}

Space autoq_space(const CostNetwork& network, const AutoqOptions& options) {
    Space space;
    std::set<std::string> known;
    for_each_field(network, options, [&](const CostLayer&, const char*, const std::string& name,
                                         const QuantizerLists::List& list, const Limit& limit, bool) {
        if (!known.insert(name).second) return;  // shared by the layers of a group
        std::vector<Value> choices = candidates(list, limit, name);
        if (choices.size() == 1)
            space.fixed(name, choices[0]);
        else
            space.choice(name, choices);
    });
    for (const CostLayer& layer : network.layers) {
        if (!tunes_filters(layer, options)) continue;
        const std::string name = filter_parameter(layer, options);
        if (!known.insert(name).second) continue;
        space.choice(name, {std::begin(filter_factors), std::end(filter_factors)}, 1.0);
    }
    if (options.tune_learning_rate) space.integer("learning_rate", 0, rate_choices - 1);
    if (space.all().empty()) throw UsageError("AutoQ: no layer of the network is to be quantized");
    return space;
}

QuantizedPlan plan_of(const CostNetwork& network, const AutoqOptions& options, const Values& values) {
    QuantizedPlan plan;
    for_each_field(network, options, [&](const CostLayer& layer, const std::string& field, const std::string& name,
                                         const QuantizerLists::List&, const Limit&, bool in_range) {
        if (!in_range) return;
        auto& target = field == "kernel" ? plan.kernel : field == "bias" ? plan.bias : plan.activation;
        target[layer.name] = std::get<std::string>(values.at(name));
    });
    for (const CostLayer& layer : network.layers) {
        if (!tunes_filters(layer, options)) continue;
        const double factor = std::get<double>(values.at(filter_parameter(layer, options)));
        if (factor != 1) plan.filters[layer.name] = factor;
    }
    if (options.tune_learning_rate) plan.learning_rate = static_cast<int>(std::get<std::int64_t>(values.at("learning_rate")));
    return plan;
}

std::int64_t scaled_width(std::int64_t width, double factor) {
    return std::max<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(width) * factor), 1);
}

std::string dictionary_of(const QuantizedPlan& plan) {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    for (const auto& [name, quantizer] : plan.kernel) json[name]["kernel_quantizer"] = quantizer;
    for (const auto& [name, quantizer] : plan.bias) json[name]["bias_quantizer"] = quantizer;
    for (const auto& [name, quantizer] : plan.activation) json[name] = quantizer;
    return json.dump();
}

CostNetwork with_plan(CostNetwork network, const QuantizedPlan& plan) {
    const auto type = [](const std::map<std::string, std::string>& quantizers, const std::string& layer)
        -> std::optional<cost::DataType> {
        const auto found = quantizers.find(layer);
        if (found == quantizers.end()) return std::nullopt;
        return cost::type_of_text(found->second);
    };
    for (CostLayer& layer : network.layers) {
        layer.types.kernel = type(plan.kernel, layer.name);
        if (layer.bias) layer.types.bias = type(plan.bias, layer.name);
        layer.types.activation = type(plan.activation, layer.name);
        layer.quantized = layer.types.kernel || layer.types.activation;
    }
    return network;
}

double reference_cost(const CostNetwork& network, const AutoqOptions& options) {
    return cost_of(network, options, options.reference);
}
double trial_cost(const CostNetwork& network, const AutoqOptions& options) {
    return cost_of(network, options, options.trial);
}

std::vector<double> learning_rates(double rate, double reference, double trial) {
    require(reference > 0, "AutoQ: the reference costs nothing");
    const double first = 1 + std::min(0.0, (trial - reference) / reference), last = 1.1;
    std::vector<double> rates;
    for (int i = 0; i < rate_choices; ++i) rates.push_back(rate * (first + (last - first) * i / (rate_choices - 1)));
    return rates;
}

std::vector<Block> make_blocks(const CostNetwork& network, const AutoqOptions& options,
                               const std::vector<std::string>& patterns, bool by_cost, std::int64_t trials) {
    const std::map<std::string, double> costs = layer_costs(network, options);
    const double reference = reference_cost(network, options) * options.factor.stress;
    std::set<std::string> taken;
    std::vector<Block> blocks;
    for (const std::string& pattern : patterns) {
        Block block;
        block.pattern = pattern;
        for (const CostLayer& layer : network.layers) {
            if (!matches_start(pattern, layer.name) || !taken.insert(layer.name).second) continue;
            block.layers.push_back(layer.name);
            block.cost += costs.at(layer.name);
        }
        if (block.layers.empty()) continue;
        block.most_trials =
            static_cast<std::int64_t>(std::max(10.0, static_cast<double>(trials) * block.cost / reference));
        blocks.push_back(std::move(block));
    }
    if (blocks.empty()) throw UsageError("AutoQ: the blocks hold no layer of the network");
    if (by_cost)
        std::stable_sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) { return a.cost > b.cost; });
    return blocks;
}

}  // namespace bitloom::search
