// tuner/*, autoq/*: search algorithms and the scores and sizes that AutoQKeras goes by.

#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "apps/golden/families.h"
#include "models/registry.h"
#include "quant/cost/bits.h"
#include "quant/cost/forgiving_factor.h"
#include "quant/search/tuner.h"

namespace bitloom::golden {

namespace {

using search::Hyperparameter;
using search::Space;
using search::Value;

Tensor as_tensor(const std::vector<double>& values) {
    return Tensor::from({static_cast<std::int64_t>(values.size())}, values);
}

void hyperband(const Case& c) {
    std::vector<double> table;
    for (const auto& r : search::hyperband_rounds(c.integer("max_epochs"), c.integer("factor")))
        for (const std::int64_t value : {r.bracket, r.round, r.size, r.epochs})
            table.push_back(static_cast<double>(value));
    const Tensor got = as_tensor(table);
    expect_equal("table", got, c.tensor("table", DType::f64).reshape({c.tensor("table").numel()}));
}

double number_after(const std::string& text, std::string_view key, double fallback) {
    const std::size_t at = text.find(key);
    if (at == std::string::npos) return fallback;
    double value = fallback;
    std::from_chars(text.data() + at + key.size(), text.data() + text.size(), value);
    return value;
}

void gaussian_process(const Case& c) {
    const Tensor x = c.tensor("x", DType::f64), y = c.tensor("y", DType::f64), query = c.tensor("query", DType::f64);
    using Rows = Eigen::Map<const Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>;
    const std::vector<double> xs = x.values<double>(), ys = y.values<double>(), qs = query.values<double>();
    const std::string kernel = c.text_or("kernel", "Matern nu=2.5 length 1");
    search::GaussianProcessOptions options;
    options.noise = c.number_or("alpha", 1e-4);
    options.length = number_after(kernel, "length ", 1);
    options.kernel = number_after(kernel, "nu=", 2.5) == 1.5 ? search::Matern::half3 : search::Matern::half5;
    const search::GaussianProcess process(Rows(xs.data(), x.shape()[0], x.shape()[1]),
                                          Eigen::Map<const Eigen::VectorXd>(ys.data(), y.numel()), options);
    std::vector<double> mean, deviation, acquisition;
    Eigen::VectorXd gradient(query.shape()[1]);
    for (std::int64_t i = 0; i < query.shape()[0]; ++i) {
        const Eigen::VectorXd point = Rows(qs.data(), query.shape()[0], query.shape()[1]).row(i);
        mean.push_back(process.predict(point).mean);
        deviation.push_back(process.predict(point).deviation);
        acquisition.push_back(process.lower_bound(point, c.number_or("beta", 2.6), gradient));
    }
    expect_close("mean", as_tensor(mean), c.tensor("mean", DType::f64), 1e-4);
    expect_close("std", as_tensor(deviation), c.tensor("std", DType::f64), 1e-4);
    expect_close("acquisition", as_tensor(acquisition), c.tensor("acquisition", DType::f64), 1e-4);
}

double as_number(const Value& value) {
    if (const auto* real = std::get_if<double>(&value)) return *real;
    if (const auto* flag = std::get_if<bool>(&value)) return *flag ? 1 : 0;
    return static_cast<double>(std::get<std::int64_t>(value));
}

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts{""};
    for (const char c : text) {
        if (c == separator)
            parts.emplace_back();
        else
            parts.back() += c;
    }
    return parts;
}

/// choiceN, int_MIN_MAX[_STEP], float_MIN_MAX[_STEP], log_MIN_MAX, boolean.
Hyperparameter hyperparameter_named(const std::string& name) {
    Space space;
    if (name.starts_with("choice")) {
        std::vector<Value> choices;
        for (std::int64_t i = 0; i < std::stoll(name.substr(6)); ++i) choices.emplace_back(i);
        return space.choice(name, choices);
    }
    if (name.starts_with("bool")) return space.boolean(name);
    const std::vector<std::string> parts = split(name, '_');
    require(parts.size() == 3 || parts.size() == 4, "an encoding that this program does not know: ", name);
    if (parts[0] == "int")
        return space.integer(name, std::stoll(parts[1]), std::stoll(parts[2]),
                             parts.size() == 4 ? std::stoll(parts[3]) : 1);
    const double step = parts.size() == 4 ? std::stod(parts[3]) : 0;
    if (parts[0] == "float") return space.real(name, std::stod(parts[1]), std::stod(parts[2]), step);
    require(parts[0] == "log", "an encoding that this program does not know: ", name);
    return space.real(name, std::stod(parts[1]), std::stod(parts[2]), step, search::Sampling::logarithmic);
}

/// Stored as float32, but decoded before that: the shortest decimal between is what decides at the border of two values.
double as_written(float stored) {
    char text[32];
    const auto end = std::to_chars(text, text + sizeof text, stored).ptr;
    double value = stored;
    std::from_chars(text, end, value);
    return value;
}

void encoding(const Case& c) {
    std::vector<double> probs;
    for (const float p : c.tensor("probs").values<float>()) probs.push_back(as_written(p));
    for (const std::string& path : c.file().datasets(c.path())) {
        const std::string name = path.substr(path.rfind('/') + 1);
        const std::size_t cut = name.rfind('_');
        if (name == "probs") continue;
        require(cut != std::string::npos, "an encoding that this program does not know: ", name);
        const Hyperparameter parameter = hyperparameter_named(name.substr(0, cut));
        std::vector<double> got;
        if (name.substr(cut) == "_prob") {
            // Of every value in order.
            const std::int64_t count = c.tensor(name).numel();
            for (std::int64_t i = 0; i < count; ++i) {
                if (parameter.domain == search::Domain::choice)
                    got.push_back(parameter.encode(i));
                else if (parameter.domain == search::Domain::boolean)
                    got.push_back(parameter.encode(i != 0));
                else if (parameter.domain == search::Domain::integer)
                    got.push_back(parameter.encode(static_cast<std::int64_t>(
                        parameter.least + static_cast<double>(i) * std::max(parameter.step, 1.0))));
                else
                    got.push_back(parameter.encode(parameter.least + static_cast<double>(i) * parameter.step));
            }
        } else {
            for (const double p : probs) got.push_back(as_number(parameter.decode(p)));
        }
        expect_close(name, as_tensor(got), c.tensor(name, DType::f64), 1e-6);
    }
}

void forgiving_factor(const Case& c) {
    const Tensor cases = c.tensor("cases", DType::f64);
    const std::vector<double> rows = cases.values<double>();
    std::vector<double> delta, score;
    for (std::int64_t i = 0; i < cases.shape()[0]; ++i) {
        const double* row = rows.data() + 6 * i;
        const cost::ForgivingFactor factor{row[2], row[3], row[4], row[5]};
        delta.push_back(factor.delta(row[0], row[1]));
        score.push_back(factor.score(0.9, row[0], row[1]));
    }
    expect_close("delta", as_tensor(delta), c.tensor("delta", DType::f64), 1e-6);
    expect_close("score_at_acc_0p9", as_tensor(score), c.tensor("score_at_acc_0p9", DType::f64), 1e-6);
}

/// float_cnn at a width of the scan; 0: float.
cost::CostNetwork network_of_width(std::int64_t width) {
    const auto network = make_model({.name = "svhn_cnn"});
    return cost::describe_network(
        *network, {32, 32, 3}, "output_softmax", [width](const Module& layer, const std::string&) {
            cost::LayerTypes types;
            const int bits = static_cast<int>(width);
            if (width > 0 && (layer.type() == "Conv2d" || layer.type() == "Dense"))
                types.kernel = types.bias = bits == 1   ? cost::binary_type()
                                            : bits == 2 ? cost::ternary_type()
                                                        : cost::fixed_type(bits, 0);
            if (width > 0 && layer.type() == "ReLU") types.activation = cost::fixed_type(bits, 0, false);
            return types;
        });
}

void model_bits(const Case& c) {
    const cost::ModelBits bits = cost::model_bits(network_of_width(c.integer_or("bits", 0)));
    const auto compare = [&](const char* names, const char* values, std::int64_t cost::LayerBits::* part) {
        std::vector<double> got;
        std::set<std::string> listed;
        for (const auto& name : nlohmann::json::parse(c.text(names))) {
            listed.insert(name.get<std::string>());
            for (const cost::LayerBits& layer : bits.layers)
                if (layer.name == name) got.push_back(static_cast<double>(layer.*part));
        }
        expect_equal(values, as_tensor(got), c.tensor(values, DType::f64));
        for (const cost::LayerBits& layer : bits.layers)
            require(layer.*part == 0 || listed.contains(layer.name), values, ": ", layer.name, " has ", layer.*part,
                    " bits, expected none");
    };
    compare("param_layers", "param_bits", &cost::LayerBits::parameters);
    compare("act_layers", "act_bits", &cost::LayerBits::activations);
    expect_equal("parameters", static_cast<double>(bits.parameters), c.number("parameters"));
    expect_equal("activations", static_cast<double>(bits.activations), c.number("activations"));
    expect_equal("total", static_cast<double>(bits.total()), c.number("total"));
}

}  // namespace

void add_qkeras_search(Families& families) {
    families.add("tuner/hyperband/*", hyperband);
    families.add("tuner/gp", gaussian_process);
    families.add("tuner/encoding", encoding);
    families.add("autoq/forgiving_factor", forgiving_factor);
    families.add("autoq/model_bits/*", model_bits);
}

}  // namespace bitloom::golden
