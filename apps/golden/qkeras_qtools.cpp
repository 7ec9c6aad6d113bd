// qtools/*, third_party/{qtools_model_test,qtools_util_test,test_forgiving_factor}: number types, energy, bits.

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "apps/golden/cost_words.h"
#include "apps/golden/families.h"
#include "models/registry.h"
#include "quant/cost/bits.h"
#include "quant/cost/energy.h"
#include "quant/cost/attached.h"
#include "quant/qkeras/number_type.h"
#include "quant/qkeras/parse.h"
#include "quant/qkeras/quantize.h"

namespace bitloom::golden {

namespace {

using cost::CostNetwork;
using cost::DataType;
using Json = nlohmann::json;

/// A list, or one integer.
std::vector<std::int64_t> integers(const Case& c, std::string_view attribute) {
    const Json value = Json::parse(c.text(attribute), nullptr, false);
    if (value.is_number_integer()) return {value.get<std::int64_t>()};
    require(value.is_array(), attribute, " is no list: ", c.text(attribute));
    return value.get<std::vector<std::int64_t>>();
}

Shape shape_of(const std::vector<std::int64_t>& extents) { return Shape(std::span<const std::int64_t>(extents)); }

// ---- qtools/*: float_cnn with quantizers, its energies and its data-type map.

/// Kernels in the order of the layers, and activations; one stands for all.
struct NetworkTypes {
    std::vector<DataType> kernels, activations;
};

CostNetwork float_cnn(const NetworkTypes& types) {
    const auto model = make_model({.name = "svhn_cnn"});
    CostNetwork network = cost::describe_network(*model, {32, 32, 3});
    const auto take = [](const std::vector<DataType>& list, std::size_t& next) -> std::optional<DataType> {
        if (list.empty()) return std::nullopt;
        if (list.size() == 1) return list[0];
        require(next < list.size(), "the case names ", list.size(), " quantizers, fewer than there are layers");
        return list[next++];
    };
    std::size_t kernel = 0, activation = 0;
    for (cost::CostLayer& layer : network.layers) {
        if (layer.has_kernel()) layer.types.kernel = layer.types.bias = take(types.kernels, kernel);
        if (layer.activation == "relu") layer.types.activation = take(types.activations, activation);
        layer.quantized = layer.types.kernel || layer.types.activation;
    }
    return network;
}

NetworkTypes network_types(const Case& c) {
    NetworkTypes types;
    if (const std::int64_t bits = c.integer_or("bits", 0); bits > 0) {
        const int b = static_cast<int>(bits);
        types.kernels = {b == 1 ? cost::binary_type() : b == 2 ? cost::ternary_type() : cost::fixed_type(b, 0)};
        types.activations = {cost::type_of_text(cat("quantized_relu(", b, ",0)"))};
        return types;
    }
    types.kernels = listed_types(c.text_or("config", ""), "kernels");
    types.activations = listed_types(c.text_or("config", ""), "activations");
    return types;
}

/// A type as the map prints it: fixed-point int_bits count the sign.
DataType source_type(const Json& printed) {
    const std::string name = printed.at("quantizer_type");
    const int bits = printed.at("bits");
    if (name == "floating_point") return cost::float_type(bits);
    const bool is_signed = printed.at("is_signed").is_boolean() ? printed.at("is_signed").get<bool>()
                                                                : printed.at("is_signed").get<int>() != 0;
    return cost::fixed_type(bits, printed.at("int_bits").get<int>() - static_cast<int>(is_signed), is_signed);
}

Json flattened(const Json& shape) {
    Json flat = Json::array();
    const auto visit = [&](const auto& self, const Json& value) -> void {
        if (value.is_array())
            for (const Json& element : value) self(self, element);
        else
            flat.push_back(value.is_null() ? Json(-1) : value);
    };
    visit(visit, shape);
    return flat;
}

// Python prints truth values as numbers here and as words there, absent bounds as None or -1, numbers as text.
bool same_value(const Json& got, const Json& want) {
    const auto number = [](const Json& j) -> std::optional<double> {
        if (j.is_boolean()) return j.get<bool>() ? 1 : 0;
        if (j.is_number()) return j.get<double>();
        if (j.is_null()) return -1;
        if (j.is_string()) {
            const std::string text = j;
            double value = 0;
            const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
            if (error == std::errc() && end == text.data() + text.size()) return value;
        }
        return std::nullopt;
    };
    const auto a = number(got), b = number(want);
    return a && b ? *a == *b : got == want;
}

void compare_json(const std::string& where, const Json& got, const Json& want) {
    if (want.is_string() && want.get<std::string>().starts_with("[")) {
        compare_json(where, got, python_literal(want.get<std::string>()));
    } else if (where.ends_with("shape")) {
        require(flattened(got) == flattened(want), where, ": got ", got.dump(), ", expected ", want.dump());
    } else if (want.is_object()) {
        require(got.is_object(), where, ": got ", got.dump(), ", expected ", want.dump());
        for (const auto& [key, value] : want.items()) {
            if (!got.contains(key)) require(same_value(nullptr, value), where, ": no ", key);
            if (got.contains(key)) compare_json(where + "." + key, got.at(key), value);
        }
        for (const auto& [key, value] : got.items())
            require(want.contains(key) || same_value(value, nullptr), where, ": ", key, " is one too many");
    } else if (want.is_array()) {
        require(got.is_array() && got.size() == want.size(), where, ": got ", got.dump(), ", expected ", want.dump());
        for (std::size_t i = 0; i < want.size(); ++i) compare_json(cat(where, "[", i, "]"), got.at(i), want.at(i));
    } else {
        require(same_value(got, want), where, ": got ", got.dump(), ", expected ", want.dump());
    }
}

void expect_energy(const std::string& what, double got, double want) {
    require(std::abs(got - want) <= std::max(0.1, 1e-6 * std::abs(want)), what, ": got ", got, " pJ, expected ", want);
}

double column(const cost::LayerEnergy& energy, const std::string& name) {
    if (name == "inputs") return energy.inputs;
    if (name == "outputs") return energy.outputs;
    if (name == "parameters") return energy.parameters;
    if (name == "op_cost") return energy.operations;
    require(name == "counted_total", "unknown column ", name);
    return energy.counted;
}

void qtools(const Case& c) {
    const CostNetwork network = float_cnn(network_types(c));
    const Json map = Json::parse(c.text("datatype_map"));
    const std::vector<std::string> names = Json::parse(c.text("layers"));
    CostSettings settings = cost_settings(c.text_or("config", ""));
    // What the words leave open, the inputs listed with the case say.
    if (!settings.source_given)
        settings.types.source = source_type(
            python_literal(map.at(names.front()).at("input_quantizer_list").get<std::string>()).at(0));
    const std::vector<cost::LayerFlow> flow = cost::propagate_types(network, settings.types);
    std::vector<cost::LayerEnergy> energies = cost::layer_energies(network, flow, settings.energy);
    require(names.size() == energies.size(), names.size(), " layers listed, the network has ", energies.size());

    const Tensor table = c.tensor("energy_pJ", DType::f64);
    const std::vector<double> want = table.values<double>();
    const std::vector<std::string> columns = comma_list(c.text("columns"));
    std::size_t wrong_column = columns.size();
    for (std::size_t i = 0; i < names.size(); ++i)
        for (std::size_t k = 0; k < columns.size(); ++k) {
            const double expected = want[i * columns.size() + k];
            // Wrong in the reference, which multiplies an empty shape (svhn-qkeras.md, section 12); never counted.
            if (names[i] == "batch_normalization" && columns[k] == "outputs") {
                wrong_column = i;
                energies[i].outputs = std::round(100 * expected) / 100;
                continue;
            }
            expect_energy(names[i] + " " + columns[k], column(energies[i], columns[k]), expected);
        }
    expect_equal("total_pJ", static_cast<double>(cost::total_energy(energies)), c.number("total_pJ"));
    if (c.given("total_all_pJ") && wrong_column < names.size())
        expect_equal("total_all_pJ", static_cast<double>(cost::total_energy_of_all(energies)),
                     c.number("total_all_pJ"));

    const auto got = nlohmann::ordered_json::parse(cost::data_type_map(network, flow));
    std::size_t i = 0;
    for (const auto& [name, entry] : got.items()) compare_json(names[i], Json(entry), map.at(names[i])), ++i;
    require(i == map.size(), "the map has ", map.size(), " layers, expected ", i);
}

// ---- third_party/qtools_model_test/*

/// bits and int_bits of `what`; int_bits count the sign, int_bits_unsigned do not.
void expect_type(const Case& c, const std::string& what, const DataType& type) {
    const auto expect = [&](const std::string& name, int value) {
        if (c.given(what + name)) expect_equal(what + name, value, c.number(what + name));
    };
    expect("bits", type.bits);
    expect("int_bits", type.integer + static_cast<int>(type.is_signed && type.kind == cost::NumberKind::fixed));
    expect("int_bits_unsigned", type.integer);
    expect("signed", static_cast<int>(type.is_signed));
}

/// An input by quantizer, or by bits and int_bits.
DataType input_of(const Case& c, const std::string& name) {
    if (c.given(name)) return cost::type_of_text(c.text(name));
    const bool is_signed = c.flag_or(name + "_signed", true);
    return cost::fixed_type(static_cast<int>(c.integer(name + "_bits")),
                            static_cast<int>(c.integer(name + "_int_bits")) - static_cast<int>(is_signed), is_signed);
}

struct ProductLayer {
    cost::Multiplier multiplier;
    DataType accumulator;
    std::optional<DataType> fused;
};

ProductLayer product_layer(const Case& c, const DataType& input, std::int64_t terms) {
    ProductLayer layer;
    const DataType weight = cost::type_of_text(c.text_or("weight", "quantized_bits(8,0,1)"));
    layer.multiplier = cost::make_multiplier(weight, input);
    const bool has_bias = c.given("bias") || c.flag_or("use_bias", false);
    const auto sum_of = [&](const DataType& product) {
        if (!has_bias) return cost::accumulate(product, terms);
        return cost::accumulate(product, terms, cost::type_of_text(c.text_or("bias", "quantized_bits(8,0,1)")));
    };
    layer.accumulator = sum_of(layer.multiplier.output);
    if (c.given("scale_min") && c.given("scale_max")) {
        const auto exponent = [&](const char* name) { return static_cast<int>(std::lround(std::log2(c.number(name)))); };
        layer.fused = sum_of(
            cost::widen_by_scale(layer.multiplier.output, exponent("scale_min"), exponent("scale_max")));
    }
    return layer;
}

std::vector<std::int64_t> kernel_of(const Case& c) {
    for (const char* name : {"kernel_shape", "kernel"})
        if (c.given(name)) return integers(c, name);
    return {1, 1};
}

/// Height and width alone: with the channels of the test's network, whose images have three.
std::vector<std::int64_t> pointwise_kernel_of(const Case& c) {
    std::vector<std::int64_t> kernel = kernel_of(c);
    if (kernel.size() == 2) kernel.insert(kernel.end(), {c.integer_or("channels", 3), c.integer_or("filters", 16)});
    return kernel;
}

/// Without [in, out] behind height and width the kernel is a depthwise one, or that of a single channel.
std::int64_t terms_of(const std::vector<std::int64_t>& kernel, bool depthwise) {
    if (depthwise || (kernel.size() == 2 && kernel[0] * kernel[1] < 16)) return kernel.at(0) * kernel.at(1);
    return cost::accumulated_terms(shape_of(kernel));
}

DataType depthwise_accumulator(const Case& c) {
    const Case depthwise = c.at("../depthwise");
    if (!depthwise.file().has(depthwise.path())) return cost::fixed_type(22, 7);  // of qkeras.h5
    return product_layer(depthwise, input_of(depthwise, "input"), terms_of(kernel_of(depthwise), true)).accumulator;
}

void expect_product_layer(const Case& c, const DataType& input, const std::vector<std::int64_t>& kernel, bool depthwise) {
    const ProductLayer layer = product_layer(c, input, terms_of(kernel, depthwise));
    expect_type(c, "mult_", layer.multiplier.output);
    expect_type(c, "acc_", layer.accumulator);
    if (layer.fused) expect_type(c, "fused_", *layer.fused);
    if (c.given("mult_type"))
        expect_equal("mult_type", std::string(cost::gate_name(layer.multiplier.gate)), c.text("mult_type"));
    if (!c.given("op_count")) return;
    std::int64_t count = shape_of(kernel).numel();
    if (c.given("input_shape")) {
        const std::vector<std::int64_t> in = integers(c, "input_shape");
        const std::int64_t stride = c.integer_or("strides", 1);
        for (std::size_t axis = 0; axis < 2; ++axis) count *= (in.at(axis) - kernel.at(axis)) / stride + 1;
    }
    expect_equal("op_count", static_cast<double>(count), c.number("op_count"));
}

void pooling(const Case& c) {
    const std::vector<std::int64_t> pool = integers(c, "pool");
    std::int64_t area = 1;
    for (const std::int64_t extent : pool) area *= extent;
    if (pool.size() == 1) area *= pool[0];
    expect_type(c, "acc_", cost::accumulate(input_of(c, "input"), area));
}

void merge(const Case& c) {
    std::vector<DataType> inputs;
    for (const std::string& text : split_outside(c.text("inputs"), ';')) inputs.push_back(cost::type_of_text(text));
    const std::string kind = c.part(-1);
    if (kind.starts_with("add"))
        expect_type(c, "", cost::add_type(inputs));
    else if (kind.starts_with("multiply"))
        expect_type(c, "", cost::multiply_type(inputs));
    else
        expect_type(c, "", cost::maximum_type(inputs));
}

void energy_of_words(const Case& c) {
    const std::string config = c.text_or("config", "");
    const CostSettings settings = dense_settings_of_words(config);
    const CostNetwork network = dense_network_of_words(config);
    const std::vector<cost::LayerEnergy> energies =
        cost::layer_energies(network, cost::propagate_types(network, settings.types), settings.energy);
    const std::vector<std::string> order = comma_list(c.text_or("order", "inputs,outputs,parameters,op_cost"));
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
        const std::string& name = network.layers[i].name;
        if (!c.has(name)) continue;
        const std::vector<double> want = c.tensor(name, DType::f64).values<double>();
        require(want.size() == order.size(), name, " has ", want.size(), " entries, expected ", order.size());
        for (std::size_t k = 0; k < order.size(); ++k)
            expect_energy(name + " " + order[k], column(energies[i], order[k]), want[k]);
    }
    expect_equal("total", static_cast<double>(cost::total_energy(energies)), c.number("total"));
}

void model_test(const Case& c) {
    const std::string name = c.part(-1);
    if (name.starts_with("qenergy")) return energy_of_words(c);
    if (c.given("inputs")) return merge(c);
    if (c.given("pool")) return pooling(c);
    if (c.given("a") && c.given("b"))
        return expect_type(c, "", cost::sum_type(cost::type_of_text(c.text("a")), cost::type_of_text(c.text("b"))));
    if (name.starts_with("pointwise")) return expect_product_layer(c, depthwise_accumulator(c), pointwise_kernel_of(c), false);
    expect_product_layer(c, input_of(c, "input"), kernel_of(c), name.starts_with("depthwise"));
}

// ---- third_party/qtools_util_test/*

/// The scale of the weight quantizer: none or a number, found from weights ('auto_po2'), or one found so and then fixed
/// ('post_training_scale').
void adjust_multiplier(const Case& c) {
    const std::string scale_type = c.text_or("weight_quantizer_scale_type", "None");
    const bool has_scales = scale_type == "auto_po2" || scale_type == "post_training_scale";
    const std::string text = cat("quantized_bits(", c.integer("w_bits"), ",", c.integer("w_int_bits"), ",1,alpha=",
                                 has_scales ? "'auto_po2'" : scale_type, ")");
    const quant::qkeras::Quantizer quantizer = quant::qkeras::parse_quantizer(text);
    DataType product =
        cost::make_multiplier(quant::qkeras::number_type(quantizer), cost::type_of_text(c.text("input_quantizer"))).output;
    expect_equal("bits before", product.bits, c.number("expected_bits_before_adjustment"));
    expect_equal("int bits before", product.integer, c.number("expected_int_bits_before_adjustment"));
    std::string dataset;
    for (const std::string& path : c.file().datasets(c.path()))
        if (const std::string name = path.substr(path.rfind('/') + 1); name.starts_with("weights")) dataset = name;
    if (!has_scales) {
        c.ignore();  // weights without a scale to find
    } else {
        require(!dataset.empty(), "no weights");
        Tape tape(Tape::Mode::inference);
        const Tensor scale =
            quant::qkeras::TensorQuantizer(quantizer).quantize(tape.input(c.tensor(dataset))).scale;
        const std::vector<double> scales = scale.values<double>();
        const auto exponent = [](double s) { return static_cast<int>(std::lround(std::log2(s))); };
        product = cost::widen_by_scale(product, exponent(*std::min_element(scales.begin(), scales.end())),
                                       exponent(*std::max_element(scales.begin(), scales.end())));
    }
    expect_equal("bits after", product.bits, c.number("expected_bits_after_adjustment"));
    expect_equal("int bits after", product.integer, c.number("expected_int_bits_after_adjustment"));
}

// ---- third_party/test_forgiving_factor/*

cost::BitsOptions bits_options(const Case& c) {
    cost::BitsOptions options;
    options.input_bits = static_cast<int>(c.integer_or("input_bits", 8));
    options.output_bits = static_cast<int>(c.integer_or("output_bits", 8));
    options.reference_bits = static_cast<int>(c.integer_or("ref_bits", 8));
    if (c.given("config")) options.parts = counted_parts(c.text("config"));
    return options;
}

void reference_bits(const Case& c) {
    const cost::ModelBits bits =
        cost::model_bits(convolutional_network_of_words(c.text_or("model", "")), bits_options(c));
    expect_equal("ref_p", static_cast<double>(bits.parameters), c.number("ref_p"));
    expect_equal("ref_a", static_cast<double>(bits.activations), c.number("ref_a"));
    expect_equal("ref_size", static_cast<double>(bits.total()), c.number("ref_size"));
}

/// Layer c1 with other quantizers.
void first_layer_bits(const Case& c) {
    CostNetwork network = convolutional_network_of_words(c.text_or("model", ""));
    cost::CostLayer& layer = network.at("c1");
    const auto first_of = [&](std::initializer_list<const char*> names) {
        for (const char* name : names)
            if (c.given(name)) return c.text(name);
        fail("no attribute '", *names.begin(), "'");
    };
    layer.types.kernel = cost::type_of_text(first_of({"kernel", "kernel_quantizer", "weight", "quantizer"}));
    layer.types.bias = cost::type_of_text(first_of({"bias", "bias_quantizer", "kernel", "quantizer"}));
    layer.quantized = true;
    const cost::ModelBits bits = cost::model_bits(network, bits_options(c));
    const auto counted = std::find_if(bits.layers.begin(), bits.layers.end(),
                                      [](const cost::LayerBits& l) { return l.name == "c1"; });
    // The one number among the attributes that is no setting.
    std::string expected;
    for (const std::string& name : c.attributes()) {
        const bool setting = name == "input_bits" || name == "output_bits" || name == "ref_bits" ||
                             name == "enabled_upstream" || name == "rtol" || name == "case";
        if (!setting && c.given(name) && !c.file().attribute_is_text(c.path(), name)) expected = name;
    }
    require(!expected.empty(), "no attribute holds the expected number of bits");
    expect_equal(expected, static_cast<double>(counted->parameters), c.number(expected));
}

}  // namespace

void add_qkeras_qtools(Families& families) {
    families.add("qtools/*", qtools);
    families.add("third_party/qtools_model_test/*", model_test);
    families.add("third_party/qtools_util_test/test_adjust_multiplier_for_auto_po2/*", adjust_multiplier);
    families.add("third_party/test_forgiving_factor/bits", reference_bits);
    families.add("third_party/test_forgiving_factor/c1_quantized", first_layer_bits);
}

}  // namespace bitloom::golden
