#include "quant/search/autoq.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/error.h"
#include "models/registry.h"

namespace bitloom::search {
namespace {

cost::CostNetwork svhn() {
    const auto network = make_model({.name = "svhn_cnn"});
    return cost::describe_network(*network, {32, 32, 3});
}

// svhn-qkeras.md, 5.8: 6 kernels, 1 bias, 5 activations, 5 filter factors.
TEST(Autoq, PublishedSpace) {
    const Space space = autoq_space(svhn(), AutoqOptions::published());
    EXPECT_EQ(space.all().size(), 17u);
    EXPECT_EQ(space.at("conv_0_kernel_quantizer").choices.size(), 5u);
    EXPECT_EQ(space.at("output_dense_bias_quantizer").choices.size(), 3u);
    EXPECT_EQ(space.at("dense_act_1_activation_quantizer").choices.size(), 6u);  // 16 bits exceed the limit
    EXPECT_EQ(space.at("network_filters_conv_2").initial, Value(1.0));
    EXPECT_THROW(space.at("network_filters_output_dense"), Error);
}

TEST(Autoq, OlderPresetHasFixedKernels) {
    const Space space = autoq_space(svhn(), AutoqOptions::older());
    EXPECT_EQ(space.at("conv_0_kernel_quantizer").domain, Domain::fixed);
    EXPECT_EQ(space.dimensions(), 5);  // the activations
}

TEST(Autoq, RegularExpressionsShareOneChoice) {
    AutoqOptions options;
    options.limits = {{"conv_[01]$", {Limit{2}}}, {"Dense", {Limit{4}, Limit{4}}}};
    options.tune_filters = FilterTuning::block;
    const Space space = autoq_space(svhn(), options);
    EXPECT_EQ(space.at("conv_[01]$_kernel_quantizer").choices.size(), 3u);
    EXPECT_THROW(space.at("conv_0_kernel_quantizer"), Error);
    EXPECT_THROW(space.at("conv_2_kernel_quantizer"), Error);
    const QuantizedPlan plan = plan_of(svhn(), options, space.defaults());
    EXPECT_EQ(plan.kernel.at("conv_0"), plan.kernel.at("conv_1"));
    EXPECT_FALSE(plan.kernel.contains("conv_2"));
    EXPECT_TRUE(plan.activation.empty());
    EXPECT_NO_THROW(space.at("network_filters"));
}

TEST(Autoq, LayersOutsideOfTheRangeHaveNoHyperparametersUnlessAsInTheSource) {
    AutoqOptions options;
    options.layers = "conv_0|conv_act_0";
    EXPECT_EQ(autoq_space(svhn(), options).all().size(), 3u);
    options.all_layers = true;
    const Space space = autoq_space(svhn(), options);
    EXPECT_NO_THROW(space.at("dense_1_kernel_quantizer"));
    EXPECT_FALSE(plan_of(svhn(), options, space.defaults()).kernel.contains("dense_1"));
}

TEST(Autoq, LimitsAsText) {
    const Limits limits = limits_from_json(R"({"conv_[01]$": [2], "Dense": [["binary", "ternary"], 8]})");
    ASSERT_EQ(limits.size(), 2u);
    EXPECT_EQ(limits[0].first, "conv_[01]$");
    ASSERT_EQ(limits[0].second.size(), 1u);
    EXPECT_EQ(limits[0].second[0].bits, 2);
    EXPECT_TRUE(limits[0].second[0].quantizers.empty());
    ASSERT_EQ(limits[1].second.size(), 2u);
    EXPECT_EQ(limits[1].second[0].quantizers, (std::vector<std::string>{"binary", "ternary"}));
    EXPECT_EQ(limits[1].second[1].bits, 8);
}

TEST(Autoq, BadLimitsAsText) {
    for (const char* text : {"", "[]", "{", R"({"Dense": 8})", R"({"Dense": [8.5]})", R"({"Dense": [true]})",
                             R"({"Dense": [-1]})", R"({"Dense": [65]})", R"({"Dense": [4294967304]})",
                             R"({"Dense": [[]]})", R"({"Dense": [[8]]})", R"({"Dense": [null]})"}) {
        try {
            limits_from_json(text);
            ADD_FAILURE() << text << " was read";
        } catch (const UsageError& error) {
            if (std::string_view(text).find("Dense") != std::string_view::npos) {
                EXPECT_NE(std::string_view(error.what()).find("'Dense'"), std::string_view::npos) << error.what();
            }
        }
    }
}

// Its compilation recurses: 100,000 parentheses used to end the program.
TEST(Autoq, PatternsBeyondAllMeasure) {
    AutoqOptions options;
    options.layers = std::string(100'000, '(') + std::string(100'000, ')');
    EXPECT_THROW(autoq_space(svhn(), options), UsageError);
    EXPECT_THROW(make_blocks(svhn(), AutoqOptions{}, {options.layers}, false, 10), UsageError);
    // Taken step by step and back again, these never come to an end.
    for (const char* pattern : {"(.*)*(.*)*(.*)*(.*)*(.*)*x", "((((.*)*)*)*)*y", "(.?){30}(.?){30}%"}) {
        options.layers = pattern;
        EXPECT_THROW(autoq_space(svhn(), options), UsageError) << pattern;  // no layer is called so
    }
    options.layers = "(.*)*(.*)*(.*)*(.*)*(.*)*_0";
    EXPECT_NO_THROW(autoq_space(svhn(), options).at("conv_0_kernel_quantizer"));
}

TEST(Autoq, ListsOfOnesOwn) {
    AutoqOptions options;
    options.quantizers = quantizer_lists_from_json(
        R"json({"kernel": {"quantized_bits(3,0,1)": 3, "ternary": 2}, "activation": {"quantized_relu(2,1)": 2}})json", options.quantizers);
    options.limits = {{"conv_0", {Limit{3}}}, {"conv_1", {Limit{2}}}, {"Activation", {Limit{4}}}};
    const Space space = autoq_space(svhn(), options);
    EXPECT_EQ(space.at("conv_0_kernel_quantizer").choices.size(), 2u);
    EXPECT_EQ(space.at("conv_1_kernel_quantizer").choices.front(), Value(std::string("ternary")));
    EXPECT_EQ(space.at("conv_act_2_activation_quantizer").domain, Domain::fixed);
    EXPECT_EQ(options.quantizers.bias, QuantizerLists::published().bias);  // left out
    for (const char* text : {"[]", "{", R"json({"kernels": {}})json", R"json({"kernel": {}})json", R"json({"kernel": ["ternary"]})json",
                             R"json({"kernel": {"ternary": 0}})json", R"json({"kernel": {"ternary": "2"}})json", R"json({"kernel": {"ternery": 2}})json"})
        EXPECT_THROW(quantizer_lists_from_json(text, {}), UsageError) << text;
}

TEST(Autoq, BadLimits) {
    AutoqOptions options;
    options.limits = {{"Dense", {Limit{0}}}};
    EXPECT_THROW(autoq_space(svhn(), options), UsageError);
    options.limits = {{"Dense", {Limit{8, {"quantized_bits(7)"}}}}};
    EXPECT_THROW(autoq_space(svhn(), options), UsageError);
    options.limits = {{"conv_[", {Limit{8}}}};
    EXPECT_THROW(autoq_space(svhn(), options), UsageError);
    options.limits = {{"LSTM", {Limit{8}}}};
    EXPECT_THROW(autoq_space(svhn(), options), UsageError);
}

TEST(Autoq, CostsAndDictionary) {
    AutoqOptions options;
    options.goal = CostGoal::bits;
    EXPECT_EQ(reference_cost(svhn(), options), 170816);
    QuantizedPlan plan;
    plan.kernel["conv_1"] = "binary";
    plan.activation["conv_act_0"] = "quantized_relu(4,2)";
    EXPECT_EQ(trial_cost(with_plan(svhn(), plan), options), 170816 - 7 * 2304 - 4 * 3600);
    const auto dictionary = nlohmann::json::parse(dictionary_of(plan));
    EXPECT_EQ(dictionary.at("conv_1").at("kernel_quantizer"), "binary");
    EXPECT_EQ(dictionary.at("conv_act_0"), "quantized_relu(4,2)");
    options.goal = CostGoal::energy;
    EXPECT_LT(trial_cost(with_plan(svhn(), plan), options), reference_cost(svhn(), options));
}

TEST(Autoq, WidthsAndRates) {
    EXPECT_EQ(scaled_width(16, 0.75), 12);
    EXPECT_EQ(scaled_width(1, 0.5), 1);
    EXPECT_EQ(scaled_width(42, 1.5), 63);
    const std::vector<double> rates = learning_rates(0.01, 100, 60);
    ASSERT_EQ(rates.size(), 5u);
    EXPECT_NEAR(rates.front(), 0.006, 1e-12);
    EXPECT_NEAR(rates.back(), 0.011, 1e-12);
    EXPECT_NEAR(learning_rates(0.01, 100, 200).front(), 0.01, 1e-12);
}

TEST(Autoq, BlocksByCost) {
    const std::vector<std::string> patterns{"c.*_0$", "c.*_1$", "c.*_2$", "d.*_0$", "d.*_1$", "output_dense"};
    const std::vector<Block> blocks = make_blocks(svhn(), {}, patterns, true, 500);
    ASSERT_EQ(blocks.size(), 6u);
    EXPECT_EQ(blocks[0].layers.size(), 2u);
    for (std::size_t i = 1; i < blocks.size(); ++i) EXPECT_GE(blocks[i - 1].cost, blocks[i].cost);
    EXPECT_EQ(blocks.back().pattern, "output_dense");
    EXPECT_EQ(blocks.back().most_trials, 10);  // at least
    EXPECT_GT(blocks.front().most_trials, 100);
    EXPECT_EQ(make_blocks(svhn(), {}, patterns, false, 500)[0].pattern, "c.*_0$");
    EXPECT_THROW(make_blocks(svhn(), {}, {"lstm"}, true, 10), UsageError);
}

}  // namespace
}  // namespace bitloom::search
