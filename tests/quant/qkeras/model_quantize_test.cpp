// Dictionaries of quantizers, the scheme that reads them, and folded batch norms.

#include "quant/qkeras/model_quantize.h"

#include <gtest/gtest.h>

#include <map>

#include "engine/random.h"
#include "models/layers/sequential.h"
#include "models/layers/activation.h"
#include "models/registry.h"
#include "ops/reduction.h"
#include "quant/qkeras/codebook.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/parse.h"
#include "quant/scheme.h"

namespace bitloom::quant::qkeras {
namespace {

Tensor normal(const Shape& shape, double deviation, std::uint64_t seed) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "test");
    fill_normal(t, 0, deviation, rng);
    return t;
}

std::map<std::string, QuantizedLayer> by_path(Module& network) {
    std::map<std::string, QuantizedLayer> layers;
    for (const QuantizedLayer& layer : quantized_layers(network)) layers[layer.path] = layer;
    return layers;
}

TEST(ModelQuantize, NameBeforeClassAndWhatIsLeftAlone) {
    const auto network = make_model({.name = "svhn_cnn"});
    model_quantize(*network, R"j({
        "conv_0": {"kernel_quantizer": "binary(alpha=1)"},
        "QConv2D": {"kernel_quantizer": "quantized_bits(4,0,alpha=1)", "bias_quantizer": "quantized_bits(4)"},
        "dense_0": {"bias_quantizer": "quantized_bits(4)"},
        "QDense": {"kernel_quantizer": {"class_name": "ternary", "config": {"alpha": 1.0}}, "bias_quantizer": "quantized_bits(5)",
                   "activation_quantizer": "quantized_tanh(6)"},
        "conv_act_0": "quantized_relu(3,1)",
        "QActivation": {"relu": "quantized_relu(4)", "tanh": "quantized_tanh(4)"},
        "batch_normalization_2": {"gamma_quantizer": null}
    })j");
    auto layers = by_path(*network);
    EXPECT_EQ(layers["conv_0"].kernel, "binary(alpha=1)");
    EXPECT_EQ(layers["conv_1"].kernel, "quantized_bits(4,0,0,alpha=1)");
    EXPECT_EQ(layers["conv_1"].bias, "");              // it has none
    EXPECT_FALSE(layers.contains("dense_0"));          // no kernel quantizer under its name
    EXPECT_EQ(layers["output_dense"].kernel, "ternary(alpha=1)");
    EXPECT_EQ(layers["output_dense"].bias, "quantized_bits(5,0,0)");
    EXPECT_EQ(layers["output_dense"].activation, "quantized_tanh(6)");
    EXPECT_EQ(layers["conv_act_0"].activation, "quantized_relu(3,1)");
    EXPECT_EQ(layers["dense_act_1"].activation, "quantized_relu(4,0)");
    EXPECT_TRUE(layers["batch_normalization_2"].batch_norm);
    EXPECT_FALSE(layers.contains("batch_normalization_1"));
    EXPECT_FALSE(batch_norm_quantizers_of(network->at("batch_normalization_2"))->gamma);
    EXPECT_EQ(to_string(*batch_norm_quantizers_of(network->at("batch_normalization_2"))->beta), "quantized_po2(5)");
}

TEST(ModelQuantize, RefusesInOneLine) {
    const std::vector<std::pair<std::string, std::string>> cases{
        {"{", "no valid JSON"},
        {"[]", "must be a JSON object"},
        {R"j({"conv_7": {"kernel_quantizer": "binary()"}})j", "'conv_7'"},
        {R"j({"conv_9x": {}, "QConv2D": {}})j", "perhaps conv_"},
        {R"j({"QConv3D": {"kernel_quantizer": "binary()"}})j", "'QConv3D'"},
        {R"j({"conv_0": {"kernel": "binary()"}})j", "unknown key 'kernel'"},
        {R"j({"conv_0": "binary()"})j", "conv_0: needs an object"},
        {R"j({"conv_0": {"kernel_quantizer": "binari()"}})j", "conv_0.kernel_quantizer: quantizer 'binari()'"},
        {R"j({"QConv2D": {"kernel_quantizer": "quantized_bits(4,0"}})j", "unbalanced parentheses"},
        {R"j({"QConv2D": {"kernel_quantizer": "quantized_bits(0)"}})j", "bits must be 1 to 32, got 0"},
        {R"j({"QConv2D": {"kernel_quantizer": 4}})j", "needs text"},
        {R"j({"conv_act_0": 4})j", "conv_act_0"},
        {R"j({"batch_normalization": {"gamma_quantizer": "quantized_po2(4)", "inverse_quantizer": "quantized_bits(8)"}})j", "inverse quantizer"},
    };
    for (const auto& [dictionary, why] : cases) {
        const auto network = make_model({.name = "svhn_cnn"});
        try {
            model_quantize(*network, dictionary);
            ADD_FAILURE() << dictionary << " was accepted";
        } catch (const UsageError& error) {
            EXPECT_NE(std::string(error.what()).find(why), std::string::npos) << dictionary << " -> " << error.what();
            EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
        }
    }
}

TEST(ModelQuantize, PredefinedDictionaries) {
    const std::map<std::string, std::pair<std::string, std::string>> conv_0_and_dense_1{
        {"dense_binary", {"", "stochastic_binary(alpha='auto_po2')"}},
        {"mix", {"stochastic_binary(alpha='auto_po2')", "quantized_bits(3,0,1,alpha='auto_po2')"}},
        {"binary", {"stochastic_binary(alpha='auto_po2')", "stochastic_binary(alpha='auto_po2')"}},
        {"ternary", {"ternary(alpha='auto_po2')", "ternary(alpha='auto_po2')"}},
        {"4bit", {"quantized_bits(4,0,1,alpha='auto_po2')", "quantized_bits(4,0,1,alpha='auto_po2')"}},
        {"4bitBinary", {"quantized_bits(4,0,1,alpha='auto_po2')", "stochastic_binary(alpha='auto_po2')"}}};
    EXPECT_EQ(predefined_dictionary_names().size(), conv_0_and_dense_1.size());
    for (const std::string& name : predefined_dictionary_names()) {
        const auto network = make_model({.name = "svhn_cnn"});
        make_scheme("qkeras", "{\"predefined\": \"" + name + "\"}")->attach(*network);
        auto layers = by_path(*network);
        EXPECT_EQ(layers["conv_0"].kernel, conv_0_and_dense_1.at(name).first) << name;
        EXPECT_EQ(layers["dense_1"].kernel, conv_0_and_dense_1.at(name).second) << name;
        Tape tape;
        Context context{tape, true};
        const Var y = ops::reduce_sum((*network)(context, tape.constant(normal({2, 32, 32, 3}, 1, 1))));
        EXPECT_TRUE(std::isfinite(y.value().item())) << name;
        tape.backward(y);
    }
    EXPECT_THROW(predefined_dictionary("5bit"), UsageError);
}

TEST(QKerasScheme, BitsAndConfiguration) {
    for (const std::int64_t bits : {1, 2, 3, 16}) {
        const auto network = make_model({.name = "svhn_cnn"});
        const auto scheme = make_scheme("qkeras", cat("{\"bits\": ", bits, "}"));
        scheme->attach(*network);
        auto layers = by_path(*network);
        const std::string want = bits == 1 ? "binary(alpha=1)" : bits == 2 ? "ternary(alpha=1)" : cat("quantized_bits(", bits, ",0,0,alpha=1)");
        EXPECT_EQ(layers["output_dense"].kernel, want);
        EXPECT_EQ(layers["output_dense"].bias, want);
        EXPECT_EQ(layers["conv_act_2"].activation, cat("quantized_relu(", bits, ",0)"));
        EXPECT_EQ(make_scheme("qkeras", scheme->configuration())->configuration(), scheme->configuration());
    }
    for (const std::string bad : {R"j({})j", R"j({"bits": 0})j", R"j({"bits": 17})j", R"j({"bits": 4.5})j", R"j({"bits": 4, "predefined": "mix"})j",
                                  R"j({"bits": 4, "colour": 1})j", R"j({"predefined": "other"})j", R"j({"bits": 4, "compat": "0.7"})j",
                                  R"j({"bits": 4, "fold_batch_norm": 1})j", R"j({"activation_bits": 4, "dictionary": {}})j"}) {
        EXPECT_THROW(make_scheme("qkeras", bad), UsageError) << bad;
    }
    const auto network = make_model({.name = "svhn_cnn"});
    EXPECT_THROW(make_scheme("qkeras", R"j({"dictionary": {"QDepthwiseConv2D": {"kernel_quantizer": "binary()"}}})j")->attach(*network), UsageError);
    EXPECT_THROW(make_scheme("qkeras", R"j({"bits": 4, "fold_batch_norm": true})j")->attach(*network), UsageError);  // no image shape
}

// Folding ------------------------------------------------------------------------------------------------------------

struct Folded {
    std::vector<double> y, dx, dkernel, moving;
};

/// conv - BN - ReLU in training or inference, `steps` passes; `fold`: with folding and these quantizers, else plain layers.
Folded run_pair(bool fold, FoldingMode mode, bool training, const std::string& kernel_quantizer, std::int64_t delay, int steps, bool unfolded = false) {
    layers::Sequential network;
    auto& conv = network.append<layers::Conv2d>("conv", layers::Conv2dConfig{.in = 3, .out = 4, .kernel = 3});
    auto& bn = network.append<layers::BatchNorm>("bn", layers::keras_batch_norm(4));
    network.append<layers::ReLU>("relu");
    network.assign_paths();
    conv.weight.value = normal({4, 3, 3, 3}, 0.3, 1);
    conv.bias.value = normal({4}, 0.3, 2);
    Rng rng(3, "bn");
    fill_uniform(bn.weight.value, 0.5, 1.5, rng);
    fill_uniform(bn.bias.value, -0.5, 0.5, rng);
    fill_uniform(bn.running_mean, -0.5, 0.5, rng);
    fill_uniform(bn.running_var, 0.5, 2, rng);
    if (fold) {
        FoldingOptions options{mode, delay};
        if (!kernel_quantizer.empty()) options.kernel = options.bias = parse_quantizer(kernel_quantizer);
        quantize_folded(conv, bn, options, {});
        EXPECT_TRUE(is_folded_away(bn));
    }
    Folded result;
    for (int i = 0; i < steps; ++i) {
        if (unfolded && i + 1 == steps) unfold(network, {});
        Tape tape;
        Context context{tape, training};
        const Var x = tape.input(normal({2, 6, 6, 3}, 1, 7 + static_cast<std::uint64_t>(i)), true);
        const Var y = network(context, x);
        tape.backward(y, normal(y.shape(), 1, 99));
        result.y = y.value().values<double>();
        result.dx = tape.grad(x).values<double>();
        result.dkernel = conv.weight.grad.values<double>();
    }
    result.moving = bn.running_var.values<double>();
    return result;
}

void expect_same(const std::vector<double>& a, const std::vector<double>& b, const char* what) {
    ASSERT_EQ(a.size(), b.size()) << what;
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-5 * std::max(1.0, std::abs(b[i]))) << what << " at " << i;
}

TEST(Folding, WithoutQuantizersIsTheUnfoldedPair) {
    for (const FoldingMode mode : {FoldingMode::batch_stats, FoldingMode::ema_stats})
        for (const bool training : {false, true}) {
            const Folded plain = run_pair(false, mode, training, "", -1, 2), folded = run_pair(true, mode, training, "", -1, 2);
            expect_same(folded.y, plain.y, "y");
            expect_same(folded.dx, plain.dx, "dx");
            expect_same(folded.dkernel, plain.dkernel, "dkernel");
            expect_same(folded.moving, plain.moving, "moving variance");
        }
}

TEST(Folding, FreezesAfterItsDelay) {
    // Calls 0 and 1 train the batch norm with delay 1; the third folds with the moving averages, which stand still.
    const Folded two = run_pair(true, FoldingMode::ema_stats, true, "", 1, 2), three = run_pair(true, FoldingMode::ema_stats, true, "", 1, 3);
    EXPECT_EQ(two.moving, three.moving);
    const Folded free = run_pair(true, FoldingMode::ema_stats, true, "", -1, 3);
    EXPECT_NE(three.moving, free.moving);
}

TEST(Folding, QuantizersActOnTheFoldedWeightsAndUnfoldingKeepsTheOutput) {
    const std::string quantizer = "quantized_bits(6,1,alpha=1)";
    const Folded folded = run_pair(true, FoldingMode::ema_stats, false, quantizer, -1, 1);
    const Folded unfolded = run_pair(true, FoldingMode::ema_stats, false, quantizer, -1, 1, true);
    const Folded plain = run_pair(false, FoldingMode::ema_stats, false, "", -1, 1);
    expect_same(unfolded.y, folded.y, "y");
    EXPECT_NE(folded.y, plain.y);
    for (std::size_t i = 0; i < plain.y.size(); ++i) EXPECT_NEAR(folded.y[i], plain.y[i], 0.5);
}

TEST(Folding, OfANetworkByItsGraph) {
    const auto network = make_model({.name = "resnet20"});
    ModelQuantizeOptions options;
    options.fold_batch_norm = true;
    options.input = {32, 32, 3};
    model_quantize(*network, scan_dictionary(4, 4), options);
    int folded = 0;
    for (const QuantizedLayer& layer : quantized_layers(*network)) folded += layer.folded;
    EXPECT_EQ(folded, 21);  // 19 convolutions and two shortcuts
    Tape tape;
    Context context{tape, true};
    const Var y = ops::reduce_sum((*network)(context, tape.constant(normal({2, 32, 32, 3}, 1, 1))));
    tape.backward(y);
    EXPECT_TRUE(std::isfinite(y.value().item()));
}

TEST(Folding, BiasTypeFromTheAccumulator) {
    EXPECT_EQ(to_string(bias_from_accumulator(parse_quantizer("quantized_relu(4,1)"), parse_quantizer("quantized_bits(4,0,1)"), {2, 2, 1, 2})),
              "quantized_bits(10,3,1)");
}

TEST(Codebook, ExactCentres) {
    EXPECT_EQ(optimal_centres({0, 0.1, 1, 1.1, 5}, 3), (std::vector<double>{0.05, 1.05, 5}));
    EXPECT_EQ(optimal_centres({2, 2, 2}, 4), (std::vector<double>{2}));
    EXPECT_EQ(optimal_centres({3, 1}, 1), (std::vector<double>{2}));
}

}  // namespace
}  // namespace bitloom::quant::qkeras
