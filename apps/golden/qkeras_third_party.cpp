// third_party/*: the cases of QKeras' own tests, but for QTools and the forgiving factor (qkeras_search.cpp).

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/golden/families.h"
#include "apps/golden/qkeras_case.h"
#include "engine/random.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/pooling.h"
#include "ops/loss.h"
#include "ops/pointwise.h"
#include "ops/shaping.h"
#include "quant/qkeras/codebook.h"
#include "quant/qkeras/folding.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/parse.h"

namespace bitloom::golden {

namespace {

using namespace quant::qkeras;

double tolerance_of(const Case& c) { return c.number_or("rtol", 1e-5); }

/// The quantizer that a test is named after.
std::string tested_quantizer(std::string name) {
    for (const std::string_view prefix : {"disable_", "test_", "stochastic_round_"})
        if (name.starts_with(prefix)) name = name.substr(prefix.size());
    for (const std::string_view suffix : {"_limits", "_inference_mode", "_with_auto_po2_scale", "_range", "_maxvalue", "_quadratic"})
        if (name.ends_with(suffix)) name.resize(name.size() - suffix.size());
    return name == "stochastic_bernoulli" ? "bernoulli" : name;
}

void expect_values(const Case& c, const TensorQuantizer& quantizer) {
    for (const Device device : quantizer_devices) {
        const Evaluated got = evaluate_quantizer(quantizer, c.tensor("test_values"), device);
        const std::string wanted = c.has("expected_values") ? "expected_values" : "expected_output";
        expect_close(cat(wanted, " (", device, ")"), got.y, c.tensor(wanted), tolerance_of(c));
        if (c.has("expected_scale"))
            expect_close(cat("expected_scale (", device, ")"), got.quantized.scale, c.tensor("expected_scale"), tolerance_of(c));
    }
}

void activation(const Case& c) {
    Quantizer q = quantizer_from(c, tested_quantizer(c.part(2)));
    if (c.part(2).ends_with("_with_auto_po2_scale") && q.alpha.kind == Alpha::Kind::none) q.alpha.kind = Alpha::Kind::automatic_po2;
    expect_values(c, TensorQuantizer(q, settings_from(c)));
}

Pass training_pass(std::uint64_t counter) {
    Pass pass;
    pass.training = true;
    pass.stream = stream(1, "golden", counter);
    return pass;
}

/// The mean over draws of a constant, within 10 % or 1e-6.
void mean_of_rounding(const Case& c) {
    Quantizer q = make_quantizer(quantizer_kind(tested_quantizer(c.part(2))));
    q.use_stochastic_rounding = true;
    const Tensor x = Tensor::full({1, c.integer("test_values_count")}, c.number("test_values_constant"));
    const Evaluated got = evaluate_quantizer(TensorQuantizer(q, settings_from(c)), x, cpu_device, training_pass(0));
    double mean = 0;
    for (const double v : got.y.values<double>()) mean += v / static_cast<double>(x.numel());
    const double want = c.number("expected_values");
    require(std::abs(mean - want) <= std::max(0.1 * std::abs(want), 1e-6), "the mean of ", x.numel(), " draws is ", mean,
            ", expected ", want);
}

/// x = 1000 rows of 10 values from U(-bound, bound), sorted: the mean over rows of y / scale, within 0.1; scale within 10 %.
void mean_of_rows(const Case& c) {
    constexpr std::int64_t rows = 1000;
    Quantizer q = quantizer_from(c, tested_quantizer(c.part(2)));
    const std::int64_t columns = c.tensor("expected_values").numel();
    std::vector<float> x(static_cast<std::size_t>(rows * columns));
    Rng rng(42, "golden/" + c.path());
    const double bound = c.number("bound");
    for (float& v : x) v = static_cast<float>(rng.uniform(-bound, bound));
    for (std::int64_t r = 0; r < rows; ++r) std::sort(x.begin() + r * columns, x.begin() + (r + 1) * columns);
    const Evaluated got = evaluate_quantizer(TensorQuantizer(q, settings_from(c)), Tensor::from({rows, columns}, x), cpu_device,
                                             training_pass(1));
    std::vector<double> scale = got.quantized.scale.values<double>(), mean(static_cast<std::size_t>(columns));
    if (scale.size() == 1) scale.assign(mean.size(), scale.front());
    const std::vector<double> y = got.y.values<double>();
    for (std::size_t i = 0; i < y.size(); ++i) {
        const std::size_t column = i % mean.size();
        mean[column] += y[i] / scale[column] / static_cast<double>(rows);
    }
    const std::vector<double> want = c.tensor("expected_values").values<double>();
    for (std::size_t i = 0; i < want.size(); ++i)
        require(std::abs(mean[i] - want[i]) <= 0.1, "mean ", i, " of y / scale is ", mean[i], ", expected ", want[i]);
    if (!c.has("expected_scale")) return;
    const std::vector<double> want_scale = c.tensor("expected_scale").values<double>();
    for (std::size_t i = 0; i < scale.size(); ++i) {
        const double expected = want_scale[want_scale.size() == 1 ? 0 : i];
        require(std::abs(scale[i] - expected) <= 0.1 * std::abs(expected), "scale ", i, " is ", scale[i], ", expected ", expected);
    }
}

/// Plain cases, means of stochastic rounding, and statistics of stochastic quantizers.
void activation_test(const Case& c) {
    if (c.given("test_values_count")) return mean_of_rounding(c);
    if (c.given("bound")) return mean_of_rows(c);
    activation(c);
}

void noise(const Case& c) {
    const std::string name = c.part(2).starts_with("quantized_relu") ? "quantized_relu" : "quantized_bits";
    expect_values(c, TensorQuantizer(quantizer_from(c, name), settings_from(c)));
}

void limits(const Case& c) {
    const Quantizer q = quantizer_from(c, tested_quantizer(c.part(2)));
    expect_close("max", max_value_of(q), c.number("max"), tolerance_of(c));
    expect_close("min", min_value_of(q), c.number("min"), tolerance_of(c));
}

void range(const Case& c) {
    const std::vector<double> got = range_of(quantizer_from(c, tested_quantizer(c.part(2))));
    const Tensor want = c.tensor("expected_values", DType::f64);
    expect_close("expected_values", Tensor::from({static_cast<std::int64_t>(got.size())}, got), want, tolerance_of(c));
}

void integer_bits_case(const Case& c) {
    const std::vector<double> low = c.tensor("min_value").values<double>(), high = c.tensor("max_value").values<double>();
    const std::vector<double> want = c.tensor("expected_values", DType::f64).values<double>();
    for (std::size_t i = 0; i < want.size(); ++i) {
        const auto got = integer_bits(low[i], high[i], c.integer("bits"), c.flag("symmetric"), c.flag("keep_negative"), c.flag("is_clipping"));
        expect_equal(cat("value ", i), static_cast<double>(got), want[i]);
    }
}

/// x ~ U(-m, m): binary's automatic scale is m / 2, ternary's in the mean (m + m / 3) / 2, within 2 %; auto_po2 the nearest
/// power of two of each. A hundred thousand rows stand for the test's million: the scale's error is far below 1 % then.
void scale_statistics(const Case&) {
    constexpr std::int64_t rows = 100000, columns = 10;
    for (const double m : {1.0, 0.1, 0.01, 0.001}) {
        Tensor x = Tensor::empty({rows, columns});
        Rng rng(42, "golden/scale_statistics");
        fill_uniform(x, -m, m, rng);
        for (const std::string name : {"binary", "ternary"}) {
            const auto scale_with = [&](const std::string& alpha) {
                Tape tape(Tape::Mode::inference);
                const TensorQuantizer q(parse_quantizer(name + "(alpha='" + alpha + "')"));
                return q.quantize(tape.constant(x)).scale.values<double>();
            };
            const std::vector<double> scale = scale_with("auto"), rounded = scale_with("auto_po2");
            const double want = name == "binary" ? m / 2 : (m + m / 3) / 2;
            double mean = 0;
            for (const double s : scale) mean += s / columns;
            require(std::abs(mean - want) <= 0.02 * want, name, ", m = ", m, ": scale ", mean, ", expected ", want);
            for (const double r : rounded) {
                const double expected = std::exp2(std::nearbyint(std::log2(mean)));
                require(r == expected, name, ", m = ", m, ": auto_po2 scale ", r, ", expected ", expected);
            }
        }
    }
}

// Layers -------------------------------------------------------------------------------------------------------------

std::optional<Quantizer> quantizer_in(const nlohmann::json& kwargs, const std::string& key) {
    if (!kwargs.contains(key) || kwargs[key].is_null()) return std::nullopt;
    return quantizer_from_json(kwargs[key].dump());
}
std::optional<Quantizer> quantizer_attribute(const Case& c, const std::string& name) {
    if (!c.given(name)) return std::nullopt;
    return parse_quantizer(c.text(name));
}

/// Axes of a tensor in another order: axis i of the result is axis `order[i]` of x.
Tensor permuted(const Tensor& x, const std::vector<int>& order) {
    Tape tape(Tape::Mode::inference);
    return ops::transpose(tape.constant(x), order).value();
}

Tensor first_of(const Case& c, std::initializer_list<const char*> names) {
    for (const char* name : names)
        if (c.has(name)) return c.tensor(name);
    fail("none of its datasets is called ", *names.begin());
}
/// Undefined where there is no such dataset.
Tensor optional_of(const Case& c, std::initializer_list<const char*> names) {
    for (const char* name : names)
        if (c.has(name)) return c.tensor(name);
    return {};
}

/// Whether all values have the 11 significant bits of a half: they were stored as such, and rounded.
bool are_halves(const Tensor& t) {
    for (const double v : t.values<double>()) {
        int exponent = 0;
        const double digits = std::frexp(v, &exponent) * 2048;
        if (digits != std::floor(digits)) return false;
    }
    return true;
}

using Function = Var (*)(const Var&);

/// A function of Keras by its name, which stands where a quantizer might; null for other text.
Function plain_activation(const std::string& name) {
    static const std::map<std::string, Function> functions{
        {"linear", [](const Var& x) { return x; }},     {"relu", [](const Var& x) { return ops::relu(x); }},
        {"sigmoid", [](const Var& x) { return ops::sigmoid(x); }}, {"tanh", [](const Var& x) { return ops::tanh(x); }},
        {"softmax", [](const Var& x) { return ops::softmax(x); }}};
    const auto found = functions.find(name);
    return found == functions.end() ? nullptr : found->second;
}

/// `activation`: null, or what follows the layer.
void expect_output(const Case& c, Module& layer, const Tensor& input, Function activation = nullptr) {
    layer.assign_paths("layer");
    const Tensor want = first_of(c, {"expected_output", "expected_values", "y"});
    constexpr double half_ulp = 0x1p-11;
    const double tolerance = c.has("y") && are_halves(want) ? half_ulp : tolerance_of(c);
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    const Var y = layer(context, tape.constant(input));
    expect_close("output", (activation ? activation(y) : y).value(), want, tolerance);
}

nlohmann::json kwargs_of(const Case& c) {
    nlohmann::json kwargs = nlohmann::json::object();
    if (c.given("layer_kwargs")) kwargs = nlohmann::json::parse(c.text("layer_kwargs"), nullptr, false);
    require(kwargs.is_object(), "layer_kwargs are no JSON object");
    for (const std::string key : {"kernel_quantizer", "bias_quantizer", "activation", "activation_quantizer"})
        if (!kwargs.contains(key) && c.given(key)) kwargs[key] = c.text(key);
    return kwargs;
}

/// Activations of layers: a quantizer, or a function of Keras.
struct LayerActivation {
    std::optional<Quantizer> quantizer{};
    Function function = nullptr;
};
LayerActivation activation_in(const nlohmann::json& kwargs) {
    for (const std::string key : {"activation_quantizer", "activation"}) {
        if (!kwargs.contains(key) || kwargs[key].is_null() || kwargs[key] == "None") continue;
        if (kwargs[key].is_string())
            if (const Function function = plain_activation(kwargs[key].get<std::string>())) return {std::nullopt, function};
        return {quantizer_in(kwargs, key)};
    }
    return {};
}

void dense(const Case& c) {
    const auto kwargs = kwargs_of(c);
    const Tensor x = first_of(c, {"input_data", "input"}), w = first_of(c, {"weight_data", "kernel"}), b = optional_of(c, {"bias_data", "bias"});
    layers::Dense layer({.in = w.dim(0), .out = w.dim(1), .bias = b.defined()});
    layer.weight.value = permuted(w, {1, 0});
    if (b.defined()) layer.bias.value = b;
    const LayerActivation activation = activation_in(kwargs);
    quantize_layer(layer, {quantizer_in(kwargs, "kernel_quantizer"), quantizer_in(kwargs, "bias_quantizer"), activation.quantizer}, {});
    expect_output(c, layer, x, activation.function);
}

layers::PaddingRule padding_of(const Case& c) {
    const std::string padding = c.text_or("padding", "valid");
    require(padding == "valid" || padding == "same" || padding == "VALID" || padding == "SAME", "unknown padding '", padding, "'");
    return padding == "same" || padding == "SAME" ? layers::PaddingRule::same() : layers::PaddingRule::valid();
}

std::pair<std::int64_t, std::int64_t> pair_of(const Case& c, const std::string& name, std::int64_t fallback) {
    if (!c.given(name)) return {fallback, fallback};
    const nlohmann::json values = nlohmann::json::parse(c.text(name), nullptr, false);
    if (values.is_number_integer()) return {values.get<std::int64_t>(), values.get<std::int64_t>()};
    require(values.is_array() && values.size() == 2, name, " is no pair: ", c.text(name));
    return {values[0].get<std::int64_t>(), values[1].get<std::int64_t>()};
}

void convolution(const Case& c, const Tensor& x, const Tensor& w, layers::Extent2d stride) {
    const auto kwargs = kwargs_of(c);
    Tensor b = optional_of(c, {"bias", "bias_data"});
    if (!c.flag_or("use_bias", true)) b = Tensor();
    layers::Conv2d layer({.in = w.dim(2), .out = w.dim(3), .kernel = {w.dim(0), w.dim(1)}, .stride = stride, .padding = padding_of(c), .bias = b.defined()});
    layer.weight.value = permuted(w, {3, 0, 1, 2});
    if (b.defined()) layer.bias.value = b;
    const LayerActivation activation = activation_in(kwargs);
    const LayerQuantizers quantizers{quantizer_in(kwargs, "kernel_quantizer"), quantizer_in(kwargs, "bias_quantizer"), activation.quantizer,
                                     optional_of(c, {"mask"})};
    quantize_layer(layer, quantizers, {});
    expect_output(c, layer, x, activation.function);
}

void conv2d(const Case& c) {
    const auto [h, w] = pair_of(c, "strides", 1);
    convolution(c, first_of(c, {"input", "input_data"}), first_of(c, {"kernel", "weight_data"}), {h, w});
}

/// A map of height 1.
void conv1d(const Case& c) {
    const Tensor x = c.tensor("input"), w = c.tensor("kernel");
    convolution(c, x.reshape({x.dim(0), 1, x.dim(1), x.dim(2)}), w.reshape({1, w.dim(0), w.dim(1), w.dim(2)}), {1, c.integer_or("strides", 1)});
}

void conv2d_transpose(const Case& c) {
    const auto kwargs = kwargs_of(c);
    const Tensor w = c.tensor("kernel"), b = optional_of(c, {"bias"});  // [h, w, out, in]
    require(c.text_or("padding", "valid") == "valid", "only VALID is meant");
    const auto [sh, sw] = pair_of(c, "strides", 1);
    layers::ConvTranspose2d layer({.in = w.dim(3), .out = w.dim(2), .kernel = {w.dim(0), w.dim(1)}, .stride = {sh, sw}, .bias = b.defined()});
    layer.weight.value = permuted(w, {3, 0, 1, 2});
    if (b.defined()) layer.bias.value = b;
    const LayerActivation activation = activation_in(kwargs);
    quantize_layer(layer, {quantizer_in(kwargs, "kernel_quantizer"), quantizer_in(kwargs, "bias_quantizer"), activation.quantizer}, {});
    expect_output(c, layer, c.tensor("input"), activation.function);
}

void depthwise_conv2d(const Case& c) {
    const auto kwargs = kwargs_of(c);
    const Tensor w = first_of(c, {"kernel", "weight_data"}), b = optional_of(c, {"bias", "bias_data"});  // [h, w, in, multiplier]
    const auto [sh, sw] = pair_of(c, "strides", 1);
    layers::DepthwiseConv2d layer({.in = w.dim(2), .kernel = {w.dim(0), w.dim(1)}, .stride = {sh, sw}, .padding = padding_of(c), .bias = b.defined()}, w.dim(3));
    layer.weight.value = permuted(w, {2, 3, 0, 1}).reshape({w.dim(2) * w.dim(3), w.dim(0), w.dim(1), 1});
    if (b.defined()) layer.bias.value = b;
    const LayerActivation activation = activation_in(kwargs);
    quantize_layer(layer, {quantizer_in(kwargs, "kernel_quantizer"), quantizer_in(kwargs, "bias_quantizer"), activation.quantizer}, {});
    expect_output(c, layer, first_of(c, {"input", "input_data"}), activation.function);
}

/// y = x Q(w) + Q(b), element by element with broadcasting.
void mac(const Case& c) {
    const auto kwargs = kwargs_of(c);
    Tape tape(Tape::Mode::inference);
    const auto quantized = [&](const Tensor& v, const std::string& name, bool kernel) {
        std::optional<Quantizer> q = quantizer_in(kwargs, name);
        if (!q && kernel) q = quantizer_in(kwargs, "weight_quantizer");
        if (!q) return tape.constant(v);
        return TensorQuantizer(kernel ? with_layer_defaults(*q) : *q)(tape.constant(v));
    };
    Var y = ops::multiply(tape.constant(c.tensor("input_data")), quantized(c.tensor("weight_data"), "kernel_quantizer", true));
    if (c.has("bias_data")) y = ops::add(y, quantized(c.tensor("bias_data"), "bias_quantizer", false));
    const LayerActivation activation = activation_in(kwargs);
    if (activation.quantizer) y = TensorQuantizer(*activation.quantizer)(y);
    if (activation.function) y = activation.function(y);
    expect_close("expected_output", y.value(), c.tensor("expected_output"), tolerance_of(c));
}

void pooling(const Case& c) {
    const std::string kind = c.text("pooling");
    const bool global = kind.find("Global") != std::string::npos;
    const auto average = quantizer_attribute(c, "average_quantizer"), activation = quantizer_attribute(c, "activation_quantizer");
    const bool unsupported = c.text_or("data_format", "channels_last") == "channels_first";
    const auto evaluate = [&] {
        if (unsupported) throw UsageError("channels_first: activations are NHWC");
        const auto [h, w] = pair_of(c, "pool_size", 2);
        const auto [sh, sw] = c.given("strides") ? pair_of(c, "strides", 1) : std::pair(h, w);
        std::unique_ptr<Module> layer;
        if (global)
            layer = std::make_unique<layers::GlobalAvgPool2d>();
        else
            layer = std::make_unique<layers::AvgPool2d>(layers::Pool2dConfig{{h, w}, {sh, sw}, padding_of(c)});
        quantize_pooling(*layer, average, activation, {});
        expect_output(c, *layer, c.tensor("input"));
    };
    if (!c.has("y")) {
        // The source refuses it, and so must we.
        try {
            evaluate();
        } catch (const UsageError&) {
            return c.ignore();
        }
        fail("an error was expected");
    }
    evaluate();
}

void codebook(const Case& c) {
    const Tensor got = codebook_weights(c.tensor("weights"), c.integer("bits"), static_cast<int>(c.integer("axis")), parse_quantizer(c.text("quantizer")));
    expect_close("expected_result", got, c.tensor("expected_result"), tolerance_of(c));
}

// Folding ------------------------------------------------------------------------------------------------------------

void fold(const Case& c) {
    const Tensor w = c.tensor("kernel");
    const bool depthwise = c.part(2).find("depthwise") != std::string::npos;
    std::unique_ptr<layers::Conv2d> layer;
    const layers::Conv2dConfig config{.in = w.dim(2), .out = w.dim(3), .kernel = {w.dim(0), w.dim(1)}, .bias = c.has("bias")};
    if (depthwise) {
        layer = std::make_unique<layers::DepthwiseConv2d>(config, w.dim(3));
        layer->weight.value = permuted(w, {2, 3, 0, 1}).reshape({w.dim(2) * w.dim(3), w.dim(0), w.dim(1), 1});
    } else {
        layer = std::make_unique<layers::Conv2d>(config);
        layer->weight.value = permuted(w, {3, 0, 1, 2});
    }
    if (c.has("bias")) layer->bias.value = c.tensor("bias");
    layers::BatchNormConfig norm = layers::keras_batch_norm(layer->config().out);
    norm.epsilon = c.number("epsilon");
    layers::BatchNorm bn(norm);
    bn.weight.value = c.tensor("gamma"), bn.bias.value = c.tensor("beta");
    bn.running_mean = c.tensor("moving_mean"), bn.running_var = c.tensor("moving_variance");
    const FoldedWeights folded = fold_weights(*layer, bn);
    Tensor kernel = folded.kernel;
    if (depthwise)
        kernel = permuted(kernel.reshape({w.dim(2), w.dim(3), w.dim(0), w.dim(1)}), {2, 3, 0, 1});
    else
        kernel = permuted(kernel, {1, 2, 3, 0});
    expect_close("expected_folded_kernel", kernel, c.tensor("expected_folded_kernel"), tolerance_of(c));
    expect_close("expected_folded_bias", folded.bias, c.tensor("expected_folded_bias"), tolerance_of(c));
}

void bias_type(const Case& c) {
    Shape kernel;
    for (const auto& extent : nlohmann::json::parse(c.text("kernel_shape"))) kernel.append(extent.get<std::int64_t>());
    const Quantizer got = bias_from_accumulator(parse_quantizer(c.text("input_quantizer")), parse_quantizer(c.text("kernel_quantizer")), kernel,
                                                c.part(2).find("depthwise") != std::string::npos);
    expect_equal("expected", to_string(got), to_string(parse_quantizer(c.text("expected"))));
}

void folding_case(const Case& c) { c.given("expected") ? bias_type(c) : fold(c); }

}  // namespace

void add_qkeras_third_party(Families& families) {
    const std::string root = "third_party/";
    families.add(root + "qactivation_test/**", activation_test);
    families.add(root + "leakyrelu_test/**", activation_test);
    families.add(root + "qnoise_test/**", noise);
    families.add(root + "min_max_test/**", limits);
    families.add(root + "range_test/**", range);
    families.add(root + "qalpha_test/test_get_integer_bits/**", integer_bits_case);
    families.add(root + "qalpha_test/scale_statistics", scale_statistics);
    families.add(root + "qlayers_test/test_qdense/**", dense);
    families.add(root + "qconvolutional_test/test_qconv1d/**", conv1d);
    families.add(root + "qconvolutional_test/test_qconv2dtranspose/**", conv2d_transpose);
    families.add(root + "qconvolutional_test/test_qconv2d_masks_weights/**", conv2d);
    families.add(root + "qconvolutional_test/test_qdepthwiseconv2d/**", depthwise_conv2d);
    families.add(root + "qmac_test/**", mac);
    families.add(root + "qpooling_test/**", pooling);
    families.add(root + "codebook_test/**", codebook);
    families.add(root + "bn_folding_test/**", folding_case);
}

}  // namespace bitloom::golden
