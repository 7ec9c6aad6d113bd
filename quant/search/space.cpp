#include "quant/search/space.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "engine/error.h"
#include "engine/io/json_values.h"

namespace bitloom::search {

namespace {

double number(const Value& value) {
    if (const auto* integer = std::get_if<std::int64_t>(&value)) return static_cast<double>(*integer);
    if (const auto* real = std::get_if<double>(&value)) return *real;
    if (const auto* flag = std::get_if<bool>(&value)) return *flag ? 1 : 0;
    fail("'", std::get<std::string>(value), "' is no number");
}

// Slack at the end of a grid whose last point is not exact in binary (Keras Tuner's arange).
constexpr double grid_slack = 1e-7;

}  // namespace

std::string to_text(const Value& value) {
    if (const auto* text = std::get_if<std::string>(&value)) return *text;
    if (const auto* flag = std::get_if<bool>(&value)) return *flag ? "true" : "false";
    if (const auto* integer = std::get_if<std::int64_t>(&value)) return std::to_string(*integer);
    return nlohmann::json(std::get<double>(value)).dump();
}

std::int64_t Hyperparameter::grid_size() const {
    if (domain != Domain::integer && step == 0) return 0;
    const double width = step == 0 ? 1 : step;
    return static_cast<std::int64_t>(std::ceil((most + grid_slack - least) / width));
}

Value Hyperparameter::grid_value(std::int64_t index) const {
    const double value = least + static_cast<double>(index) * (step == 0 ? 1 : step);
    if (domain == Domain::integer) return static_cast<std::int64_t>(std::llround(value));
    return value;
}

double Hyperparameter::from_place(double place) const {
    if (sampling == Sampling::logarithmic) return least * std::pow(most / least, place);
    return place * (most - least) + least;
}

Value Hyperparameter::sample(Rng& rng) const {
    switch (domain) {
        case Domain::choice: return choices[rng.below(choices.size())];
        case Domain::boolean: return rng.coin();
        case Domain::fixed: return choices[0];
        case Domain::integer:
        case Domain::real: break;
    }
    if (sampling == Sampling::linear && grid_size() > 0)
        return grid_value(static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(grid_size()))));
    return decode(rng.uniform());
}

double Hyperparameter::encode(const Value& value) const {
    switch (domain) {
        case Domain::fixed: return 0.5;
        case Domain::boolean: return number(value) != 0 ? 0.75 : 0.25;
        case Domain::choice: {
            const auto found = std::find(choices.begin(), choices.end(), value);
            require(found != choices.end(), name, ": ", to_text(value), " is not among the choices");
            return (static_cast<double>(found - choices.begin()) + 0.5) / static_cast<double>(choices.size());
        }
        case Domain::integer:
        case Domain::real: break;
    }
    const double v = number(value);
    require(v >= least - grid_slack && v <= most + grid_slack, name, ": ", v, " is outside of ", least, " to ", most);
    if (most == least) return 0.5;
    return sampling == Sampling::logarithmic ? std::log(v / least) / std::log(most / least) : (v - least) / (most - least);
}

Value Hyperparameter::decode(double place) const {
    switch (domain) {
        case Domain::fixed: return choices[0];
        case Domain::boolean: return place >= 0.5;
        case Domain::choice: {
            const auto n = static_cast<double>(choices.size());
            return choices[static_cast<std::size_t>(std::clamp(std::floor(place * n), 0.0, n - 1))];
        }
        case Domain::integer:
        case Domain::real: break;
    }
    const double value = from_place(place);
    const std::int64_t size = grid_size();
    if (size == 0) return std::clamp(value, least, most);
    const double width = step == 0 ? 1 : step;
    std::int64_t index = std::clamp<std::int64_t>(static_cast<std::int64_t>(std::floor((value - least) / width)), 0, size - 1);
    if (index + 1 < size &&
        std::abs(number(grid_value(index + 1)) - value) < std::abs(number(grid_value(index)) - value))
        ++index;
    return grid_value(index);
}

Hyperparameter& Space::add(Hyperparameter parameter) {
    for (const Hyperparameter& known : parameters_)
        require(known.name != parameter.name, "search space: '", parameter.name, "' is there twice");
    const bool ranged = parameter.domain == Domain::integer || parameter.domain == Domain::real;
    if (ranged) {
        require(parameter.least <= parameter.most && parameter.step >= 0, "search space: '", parameter.name,
                "' has an empty range");
        require(parameter.sampling == Sampling::linear || parameter.least > 0, "search space: '", parameter.name,
                "' is logarithmic and must be positive");
    }
    if (parameter.domain == Domain::choice || parameter.domain == Domain::fixed)
        require(!parameter.choices.empty(), "search space: '", parameter.name, "' has no values");
    parameter.encode(parameter.initial);
    parameters_.push_back(std::move(parameter));
    return parameters_.back();
}

Hyperparameter& Space::choice(std::string name, std::vector<Value> choices) {
    require(!choices.empty(), "search space: '", name, "' has no values");
    Value first = choices[0];
    return choice(std::move(name), std::move(choices), std::move(first));
}
Hyperparameter& Space::choice(std::string name, std::vector<Value> choices, Value initial) {
    Hyperparameter parameter;
    parameter.name = std::move(name);
    parameter.choices = std::move(choices);
    parameter.initial = std::move(initial);
    return add(std::move(parameter));
}
Hyperparameter& Space::integer(std::string name, std::int64_t least, std::int64_t most, std::int64_t step) {
    return integer(std::move(name), least, most, step, least);
}
Hyperparameter& Space::integer(std::string name, std::int64_t least, std::int64_t most, std::int64_t step,
                               std::int64_t initial) {
    Hyperparameter parameter;
    parameter.name = std::move(name);
    parameter.domain = Domain::integer;
    parameter.least = static_cast<double>(least);
    parameter.most = static_cast<double>(most);
    parameter.step = static_cast<double>(step);
    parameter.initial = initial;
    return add(std::move(parameter));
}
Hyperparameter& Space::real(std::string name, double least, double most, double step, Sampling sampling) {
    Hyperparameter parameter;
    parameter.name = std::move(name);
    parameter.domain = Domain::real;
    parameter.least = least;
    parameter.most = most;
    parameter.step = step;
    parameter.sampling = sampling;
    parameter.initial = least;
    return add(std::move(parameter));
}
Hyperparameter& Space::boolean(std::string name, bool initial) {
    Hyperparameter parameter;
    parameter.name = std::move(name);
    parameter.domain = Domain::boolean;
    parameter.initial = initial;
    return add(std::move(parameter));
}
Hyperparameter& Space::fixed(std::string name, Value value) {
    Hyperparameter parameter;
    parameter.name = std::move(name);
    parameter.domain = Domain::fixed;
    parameter.initial = value;
    parameter.choices = {std::move(value)};
    return add(std::move(parameter));
}

const Hyperparameter& Space::at(const std::string& name) const {
    for (const Hyperparameter& parameter : parameters_)
        if (parameter.name == name) return parameter;
    fail("search space: no hyperparameter '", name, "'");
}

bool Space::active(const Hyperparameter& parameter, const Values& values) const {
    return std::all_of(parameter.conditions.begin(), parameter.conditions.end(), [&](const Condition& condition) {
        const auto found = values.find(condition.name);
        return found != values.end() && std::find(condition.values.begin(), condition.values.end(), found->second) !=
                                            condition.values.end();
    });
}

Values Space::defaults() const {
    Values values;
    for (const Hyperparameter& parameter : parameters_)
        if (active(parameter, values)) values[parameter.name] = parameter.initial;
    return values;
}

Values Space::sample(Rng& rng) const {
    Values values;
    for (const Hyperparameter& parameter : parameters_)
        if (active(parameter, values)) values[parameter.name] = parameter.sample(rng);
    return values;
}

int Space::dimensions() const {
    return static_cast<int>(std::count_if(parameters_.begin(), parameters_.end(), [](const Hyperparameter& parameter) {
        return parameter.domain != Domain::fixed;
    }));
}

std::vector<double> Space::encode(const Values& values) const {
    std::vector<double> point;
    for (const Hyperparameter& parameter : parameters_) {
        if (parameter.domain == Domain::fixed) continue;
        const auto found = values.find(parameter.name);
        point.push_back(parameter.encode(found == values.end() ? parameter.initial : found->second));
    }
    return point;
}

Values Space::decode(const std::vector<double>& point) const {
    require(static_cast<int>(point.size()) == dimensions(), "search space: a point of ", point.size(),
            " coordinates, expected ", dimensions());
    Values values;
    std::size_t i = 0;
    for (const Hyperparameter& parameter : parameters_) {
        const double place = parameter.domain == Domain::fixed ? 0.5 : point[i++];
        if (active(parameter, values)) values[parameter.name] = parameter.decode(place);
    }
    return values;
}

std::int64_t Space::combinations() const {
    constexpr std::int64_t limit = std::int64_t{1} << 62;
    std::int64_t product = 1;
    for (const Hyperparameter& parameter : parameters_) {
        std::int64_t n = 1;
        switch (parameter.domain) {
            case Domain::choice: n = static_cast<std::int64_t>(parameter.choices.size()); break;
            case Domain::boolean: n = 2; break;
            case Domain::fixed: break;
            case Domain::integer:
            case Domain::real: {
                if (parameter.domain == Domain::real && parameter.step == 0) return 0;
                n = static_cast<std::int64_t>((parameter.most - parameter.least) / std::max(parameter.step, 1e-300)) + 1;
            }
        }
        if (product > limit / std::max<std::int64_t>(n, 1)) return limit;
        product *= n;
    }
    return product;
}

std::string Space::to_string() const {
    std::ostringstream out;
    for (const Hyperparameter& parameter : parameters_) {
        out << parameter.name << ": ";
        switch (parameter.domain) {
            case Domain::choice:
            case Domain::fixed:
                for (std::size_t i = 0; i < parameter.choices.size(); ++i)
                    out << (i ? ", " : "") << to_text(parameter.choices[i]);
                break;
            case Domain::boolean: out << "true or false"; break;
            case Domain::integer:
            case Domain::real:
                out << parameter.least << " to " << parameter.most;
                if (parameter.step > 0) out << " by " << parameter.step;
                if (parameter.sampling == Sampling::logarithmic) out << ", logarithmic";
        }
        for (const Condition& condition : parameter.conditions) {
            out << "; where " << condition.name << " is ";
            for (std::size_t i = 0; i < condition.values.size(); ++i)
                out << (i ? " or " : "") << to_text(condition.values[i]);
        }
        out << '\n';
    }
    return out.str();
}

std::string values_to_json(const Values& values) {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    for (const auto& [name, value] : values) std::visit([&, n = name](const auto& v) { json[n] = v; }, value);
    return json.dump();
}

Values values_from_json(const std::string& text) {
    Values values;
    try {
        const auto json = json_from_text<nlohmann::json>(text);
        require(json.is_object(), "it is no object");
        for (const auto& [name, value] : json.items()) {
            if (value.is_boolean())
                values[name] = value.get<bool>();
            else if (value.is_number_integer())
                values[name] = integer_from_json(value);
            else if (value.is_number())
                values[name] = value.get<double>();
            else if (value.is_string())
                values[name] = value.get<std::string>();
            else
                fail(in_quotes(name), " is no plain value");
        }
    } catch (const std::exception& error) {
        fail("cannot read hyperparameters: ", error.what());
    }
    return values;
}

}  // namespace bitloom::search
