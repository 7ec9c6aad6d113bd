#include <gtest/gtest.h>

#include <map>

#include "quant/cost/energy.h"
#include "tests/quant/cost/svhn_network.h"

namespace bitloom::cost {
namespace {

struct Energies {
    CostNetwork network;
    std::vector<LayerEnergy> layers;

    const LayerEnergy& at(const std::string& name) const {
        for (std::size_t i = 0; i < layers.size(); ++i)
            if (network.layers[i].name == name) return layers[i];
        throw std::out_of_range(name);
    }
};

Energies energies_of(CostNetwork network, const QToolsOptions& types = {}, const EnergyOptions& options = {}) {
    std::vector<LayerEnergy> layers = layer_energies(network, propagate_types(network, types), options);
    return {std::move(network), std::move(layers)};
}

// svhn-qkeras.md, section 11.
TEST(Energy, FirstConvolutionOfTheFloatNetwork) {
    const Energies energies = energies_of(svhn_network(0));
    const LayerEnergy& conv = energies.at("conv_0");
    EXPECT_DOUBLE_EQ(conv.operations, 1788480);
    EXPECT_DOUBLE_EQ(conv.inputs, 5842.62);
    EXPECT_DOUBLE_EQ(conv.parameters, 821.62);
    EXPECT_NEAR(conv.counted, 1795144.24, 1e-6);
}

// Section 7: totals in pJ at the settings of run_qtool.
TEST(Energy, TotalsOfTheBitWidthScan) {
    const std::map<int, std::int64_t> totals{{0, 3917580}, {1, 1811473},  {2, 1815484},  {3, 1832954},
                                             {4, 1847050}, {6, 1883384},  {8, 1930547},  {10, 1988541},
                                             {12, 2057352}, {14, 2137017}, {16, 2227489}};
    for (const auto& [bits, total] : totals) EXPECT_EQ(total_energy(energies_of(svhn_network(bits)).layers), total) << bits;
}

TEST(Energy, Table1OfThePaper) {
    const Energies energies = energies_of(svhn_network(0));
    const std::vector<std::pair<std::string, double>> nanojoules{
        {"conv_0", 1795}, {"conv_1", 1802}, {"conv_2", 262}, {"dense_0", 26}, {"dense_1", 18}, {"output_dense", 4}};
    for (const auto& [name, value] : nanojoules) EXPECT_NEAR(energies.at(name).counted / 1000, value, 0.5) << name;
}

TEST(Energy, ReferenceWithFixedMemories) {
    const EnergyOptions fixed{.weights = Memory::fixed, .activations = Memory::fixed};
    const Energies energies = energies_of(svhn_network(0), {.for_reference = true}, fixed);
    EXPECT_DOUBLE_EQ(energies.at("conv_0").inputs, 0);
    EXPECT_DOUBLE_EQ(energies.at("batch_normalization").inputs, 2921.31);  // of the network's input: never fixed
    EXPECT_DOUBLE_EQ(energies.at("output_softmax").outputs, 19.02);        // the network's output
    EXPECT_EQ(total_energy(energies.layers), 3867846);
}

TEST(Energy, DramAddsTheBufferOnlyForInputAndOutput) {
    EnergyOptions options;
    EXPECT_DOUBLE_EQ(memory_energy(Memory::dram, 10, 8, options), 20.3125 * 80);
    options.io_in_dram = true;
    EXPECT_DOUBLE_EQ(memory_energy(Memory::dram, 10, 8, options),
                     20.3125 * 80 + memory_energy(Memory::sram, 10, 8, options));
    EXPECT_DOUBLE_EQ(memory_energy(Memory::fixed, 10, 8, options), 0);
    EXPECT_DOUBLE_EQ(memory_energy(Memory::sram, 0, 8, options), 0);
}

TEST(Energy, SmallMemoriesAreNeverFree) {
    // The polynomial is negative nowhere that matters, but is floored at zero all the same.
    EXPECT_GE(sram_word_energy(0), 0);
    EXPECT_GT(memory_energy(Memory::sram, 3072, 16, {.least_sram_bits = 0}), 0);
    EXPECT_NEAR(memory_energy(Memory::sram, 3072, 16, {.least_sram_bits = 0}), 108.85, 0.005);
}

TEST(Energy, UnknownMemoryIsAUsageError) { EXPECT_THROW(memory_named("flash"), UsageError); }

// A sum of n inputs takes n - 1 additions an element, of the width of its result: one bit more than its widest input.
TEST(Energy, SumsOfSeveralInputs) {
    for (const LayerKind kind : {LayerKind::add, LayerKind::subtract}) {
        for (const int inputs : {2, 3, 5}) {
            CostNetwork network{.input = {4, 3, 2}};
            network.layers.push_back({.name = "sum",
                                      .kind = kind,
                                      .inputs = std::vector<int>(static_cast<std::size_t>(inputs), -1),
                                      .input_shapes = std::vector<Shape>(static_cast<std::size_t>(inputs), Shape{4, 3, 2}),
                                      .output_shape = {4, 3, 2}});
            const Energies energies = energies_of(network, {.source = fixed_type(8, 0)});
            EXPECT_NEAR(energies.at("sum").operations, 24 * (inputs - 1) * 0.003125 * 9, 0.0051) << inputs;
            EXPECT_DOUBLE_EQ(energies.at("sum").counted, energies.at("sum").operations);
        }
    }
}

}  // namespace
}  // namespace bitloom::cost
