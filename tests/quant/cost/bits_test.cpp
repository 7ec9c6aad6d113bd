#include "quant/cost/bits.h"

#include <gtest/gtest.h>

#include <map>

#include "models/registry.h"
#include "quant/cost/flops.h"
#include "quant/cost/forgiving_factor.h"
#include "quant/cost/qtools.h"
#include "tests/quant/cost/svhn_network.h"

namespace bitloom::cost {
namespace {

// svhn-qkeras.md, section 7: bits of parameters and of activations.
TEST(Bits, TotalsOfTheBitWidthScan) {
    const std::map<int, std::pair<std::int64_t, std::int64_t>> totals{
        {0, {111136, 59680}}, {1, {16202, 29034}},  {2, {29764, 33412}},   {3, {43326, 37790}},
        {4, {56888, 42168}},  {6, {84012, 50924}},  {8, {111136, 59680}},  {10, {138260, 68436}},
        {12, {165384, 77192}}, {14, {192508, 85948}}, {16, {219632, 94704}}};
    for (const auto& [width, bits] : totals) {
        const ModelBits counted = model_bits(svhn_network(width));
        EXPECT_EQ(counted.parameters, bits.first) << width;
        EXPECT_EQ(counted.activations, bits.second) << width;
    }
    EXPECT_EQ(model_bits(svhn_network(0)).total(), 170816);
}

TEST(Bits, Table1OfThePaper) {
    const ModelBits bits = model_bits(svhn_network(0));
    const std::map<std::string, std::int64_t> table{{"conv_0", 3456},   {"conv_1", 18432},  {"conv_2", 27648},
                                                    {"dense_0", 32256}, {"dense_1", 21504}, {"output_dense", 5200}};
    for (const LayerBits& layer : bits.layers)
        if (table.contains(layer.name)) {
            EXPECT_EQ(layer.parameters, table.at(layer.name)) << layer.name;
        }
}

TEST(Bits, ClassesThatDoNotCountAreLeftOut) {
    BitsOptions options;
    options.parts["Conv2D"] = {false, true};
    options.parts["default"] = {false, false};  // the input
    const ModelBits bits = model_bits(svhn_network(0), options);
    EXPECT_EQ(bits.parameters, 111136 - 8 * (432 + 2304 + 3456));
    EXPECT_EQ(bits.activations, 59680 - 24576);
}

TEST(Bits, ParametersOfTheNetwork) {
    const auto network = make_model({.name = "svhn_cnn"});
    EXPECT_EQ(count_parameters(*network).total, 14222);
    EXPECT_EQ(count_parameters(*network).trainable, 13892);
}

TEST(Flops, OfThePublishedNetwork) {
    for (const FlopRule rule : {FlopRule::by_kind, FlopRule::by_name}) {
        const std::vector<LayerFlops> layers = count_flops(svhn_network(0), rule);
        ASSERT_EQ(layers.size(), 6u);
        const std::vector<std::int64_t> flops{777600, 778752, 110592, 8064, 5376, 1290};
        const std::vector<std::int64_t> weights{432, 2304, 3456, 4032, 2688, 650};
        for (std::size_t i = 0; i < layers.size(); ++i) {
            EXPECT_EQ(layers[i].flops, flops[i]);
            EXPECT_EQ(layers[i].weights, weights[i]);
        }
        EXPECT_EQ(total_flops(layers), 1681674);
    }
}

TEST(Flops, NamesDecideInThePublishedRule) {
    CostNetwork network = svhn_network(0);
    network.at("conv_1").name = "conv_act";
    network.at("conv_2").name = "stage";
    network.at("dense_0").name = "fc";
    EXPECT_EQ(count_flops(network, FlopRule::by_name).size(), 4u);
    EXPECT_EQ(count_flops(network, FlopRule::by_kind).size(), 6u);
}

// Section 11.
TEST(ForgivingFactor, WorkedExamples) {
    EXPECT_NEAR((ForgivingFactor{8, 8, 2, 1}.delta(1e6, 5e5)), 0.08, 1e-12);
    EXPECT_NEAR((ForgivingFactor{8, 8, 2, 1}.delta(1e6, 2e6)), -0.08, 1e-12);
    EXPECT_NEAR((ForgivingFactor{8, 8, 4, 0.8}.delta(1e6, 7e5)), 0.0077058, 1e-7);
    const ForgivingFactor published{4, 4, 2, 1};
    EXPECT_NEAR(published.delta(3917580, 1847050), 0.0433896, 1e-7);
    EXPECT_NEAR(published.score(0.9, 3917580, 1847050), 0.93905, 1e-5);
    EXPECT_NEAR((ForgivingFactor{8, 4, 2, 1}.delta(1e6, 2e6)), -0.04, 1e-12);  // dearer: delta_n
    EXPECT_THROW((ForgivingFactor{8, 8, 1, 1}.delta(1e6, 2e6)), Error);
    EXPECT_THROW(published.delta(0, 1), Error);
}

TEST(Roofline, EffortAndBytes) {
    const CostNetwork network = svhn_network(4);
    const std::vector<LayerFlow> flow = propagate_types(network, {});
    // conv_0 reads 32-bit floats from the batch norm before it, the others 4 bits.
    EXPECT_DOUBLE_EQ(arithmetic_computation_effort(network, flow),
                     388800.0 * 32 * 4 + (389376.0 + 55296 + 4032 + 2688 + 640) * 16);
    EXPECT_DOUBLE_EQ(weight_bytes(network, flow), (13552.0 + 10) * 4 / 8);
    EXPECT_DOUBLE_EQ(activation_bytes(network, flow), (3072.0 * 16 + (3600 + 576 + 96 + 42 + 64) * 4 + 10 * 32) / 8);
}

}  // namespace
}  // namespace bitloom::cost
