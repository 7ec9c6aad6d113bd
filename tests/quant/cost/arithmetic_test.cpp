#include "quant/cost/arithmetic.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "quant/cost/qtools.h"
#include "tests/quant/cost/svhn_network.h"

namespace bitloom::cost {
namespace {

void expect_fixed(const DataType& type, int bits, int integer, bool is_signed) {
    EXPECT_EQ(type.kind, NumberKind::fixed);
    EXPECT_EQ(type.bits, bits);
    EXPECT_EQ(type.integer, integer);
    EXPECT_EQ(type.is_signed, is_signed);
}

TEST(Multiplier, GatesByKindOfWeightAndInput) {
    const std::vector<DataType> kinds{fixed_type(4, 0), power_of_two_type(4, true, 1), ternary_type(),
                                      binary_type(),    binary01_type(),               float_type(32)};
    const char* const table[6][6] = {{"mul", "shifter", "mux", "mux", "and", "mul"},
                                     {"shifter", "adder", "mux", "mux", "and", "mul"},
                                     {"mux", "mux", "mux", "mux", "and", "mul"},
                                     {"mux", "mux", "mux", "xor", "and", "mul"},
                                     {"and", "and", "and", "and", "and", "mul"},
                                     {"mul", "mul", "mul", "mul", "mul", "mul"}};
    for (int w = 0; w < 6; ++w)
        for (int x = 0; x < 6; ++x) {
            const Multiplier multiplier = make_multiplier(kinds[w], kinds[x]);
            EXPECT_EQ(gate_name(multiplier.gate), table[w][x]) << w << ' ' << x;
            EXPECT_EQ(multiplier.output.is_float(), w == 5 || x == 5) << w << ' ' << x;
        }
}

TEST(Multiplier, FixedProduct) {
    const Multiplier multiplier = make_multiplier(fixed_type(8, 3), fixed_type(8, 0, false));
    expect_fixed(multiplier.output, 16, 3, true);
    EXPECT_DOUBLE_EQ(multiplier.gate_bits, 8);
    EXPECT_DOUBLE_EQ(multiplier.factor, 1);
    expect_fixed(make_multiplier(fixed_type(4, 0), fixed_type(4, 2, false)).output, 4 + 3 + 1 - 0, 2, true);
}

TEST(Multiplier, MuxTakesTheOtherOperand) {
    const Multiplier binary = make_multiplier(binary_type(), fixed_type(4, 2, false));
    expect_fixed(binary.output, 5, 2, true);
    EXPECT_DOUBLE_EQ(binary.factor, 0.3);
    EXPECT_DOUBLE_EQ(binary.gate_bits, 4);
    const Multiplier ternary = make_multiplier(ternary_type(), fixed_type(3, 1, false));
    expect_fixed(ternary.output, 4, 1, true);
    EXPECT_DOUBLE_EQ(ternary.factor, 0.6);
    const Multiplier by_input = make_multiplier(fixed_type(4, 1), ternary_type());
    expect_fixed(by_input.output, 4, 1, true);
    EXPECT_DOUBLE_EQ(by_input.factor, 0.6);
    EXPECT_DOUBLE_EQ(by_input.gate_bits, 4);
    const Multiplier unsigned_weight = make_multiplier(fixed_type(4, 1, false), binary_type());
    expect_fixed(unsigned_weight.output, 5, 1, true);
}

TEST(Multiplier, Shifter) {
    const Multiplier by_weight = make_multiplier(power_of_two_type(4, true, 1), fixed_type(4, 2, false));
    expect_fixed(by_weight.output, 9, 2, true);
    EXPECT_NEAR(by_weight.gate_bits, 8 * std::log10(8), 1e-12);
    const Multiplier by_input = make_multiplier(fixed_type(3, 0), power_of_two_type(4, false, 4));
    expect_fixed(by_input.output, 13, 2, true);
    const Multiplier trained = make_multiplier(power_of_two_type(4, true, 1), fixed_type(6, 2), 7);
    EXPECT_DOUBLE_EQ(trained.factor, 0.3 * 7);
    EXPECT_DOUBLE_EQ(trained.gate_bits, 6);
}

TEST(Multiplier, PowersOfTwoAddTheirExponents) {
    const Multiplier multiplier = make_multiplier(power_of_two_type(4, true, 2), power_of_two_type(5, false, 4));
    EXPECT_EQ(multiplier.output.kind, NumberKind::power_of_two);
    EXPECT_EQ(multiplier.output.bits, 6);
    EXPECT_EQ(multiplier.output.max_value, 8);
    // low 2^4, high capped by log2 8
    expect_fixed(accumulate(multiplier.output, 1), 1 + 16 + 3, 3, true);
}

TEST(Multiplier, BinaryGates) {
    const Multiplier exclusive_or = make_multiplier(binary_type(), binary_type());
    EXPECT_EQ(exclusive_or.output.kind, NumberKind::binary);
    EXPECT_DOUBLE_EQ(exclusive_or.factor * exclusive_or.gate_bits, 0.3);
    const Multiplier conjunction = make_multiplier(binary01_type(), fixed_type(6, 0));
    expect_fixed(conjunction.output, 6, 0, true);
    EXPECT_DOUBLE_EQ(conjunction.factor, 0.1);
    EXPECT_DOUBLE_EQ(conjunction.gate_bits, 6);
    // -1, 0 and 1 take two bits.
    for (const Multiplier& product : {make_multiplier(binary01_type(), binary_type()), make_multiplier(binary_type(), binary01_type())}) {
        EXPECT_TRUE(product.output.same_numbers(ternary_type()));
        EXPECT_DOUBLE_EQ(product.factor * product.gate_bits, 0.2);
        expect_fixed(accumulate(product.output, 4), 4, 4, true);
    }
    EXPECT_EQ(make_multiplier(binary01_type(), binary01_type()).output.bits, 1);
}

TEST(Accumulator, GrowsByTheLogarithmOfTheTerms) {
    expect_fixed(accumulate(fixed_type(8, 1), 1), 8, 1, true);
    expect_fixed(accumulate(fixed_type(8, 1), 144), 16, 9, true);
    expect_fixed(accumulate(fixed_type(8, 1), 128), 15, 8, true);
    expect_fixed(accumulate(fixed_type(8, 1), 129), 16, 9, true);
    EXPECT_TRUE(accumulate(float_type(16), 100).same_numbers(float_type(16)));
}

TEST(Accumulator, BiasAddsABitAndTheFinerFraction) {
    expect_fixed(accumulate(fixed_type(15, 0), 7, fixed_type(12, 6)), 22, 7, true);
    expect_fixed(accumulate(fixed_type(6, 0), 144, binary01_type()), 15, 9, true);
    // 5.2: input quantized_relu(4,1), kernel quantized_bits(4,0,1) of shape 2x2x1xN gives quantized_bits(10,3,1).
    const Multiplier product = make_multiplier(fixed_type(4, 0), fixed_type(4, 1, false));
    expect_fixed(accumulate(product.output, accumulated_terms({2, 2, 1, 7})), 10, 3, true);
}

TEST(Accumulator, Terms) {
    EXPECT_EQ(accumulated_terms({3, 3, 16, 24}), 144);
    EXPECT_EQ(accumulated_terms({96, 42}), 96);
    EXPECT_EQ(accumulated_terms({1, 7, 5, 1}, true), 7);
    EXPECT_THROW(accumulated_terms({4}), Error);
}

TEST(Accumulator, ScalesOfAutoPo2WidenTheProduct) {
    const DataType product = fixed_type(16, 3);
    expect_fixed(widen_by_scale(product, -5, -4), 17, -1, true);
    expect_fixed(accumulate(widen_by_scale(product, -5, -4), 48, fixed_type(8, 3)), 24, 6, true);
}

TEST(Merge, Types) {
    expect_fixed(add_type({fixed_type(4, 0), fixed_type(6, 2, false), fixed_type(5, 1, false)}), 7, 3, true);
    expect_fixed(maximum_type({fixed_type(4, 0, false), fixed_type(6, 2, false)}), 6, 2, false);
    EXPECT_TRUE(maximum_type({ternary_type(), ternary_type()}).same_numbers(ternary_type()));
    expect_fixed(multiply_type({fixed_type(4, 0), fixed_type(5, 0), fixed_type(6, 0)}), 13, 0, true);
    EXPECT_TRUE(add_type({fixed_type(4, 0), float_type(16), float_type(32)}).same_numbers(float_type(32)));
    EXPECT_TRUE(maximum_type({fixed_type(40, 0), float_type(16)}).same_numbers(float_type(16)));
    EXPECT_THROW(add_type({}), Error);
}

TEST(DataTypes, ExponentsOfPowersOfTwo) {
    EXPECT_EQ(exponent_span(power_of_two_type(4, true)).low, 4);
    EXPECT_EQ(exponent_span(power_of_two_type(4, true)).high, 3);
    EXPECT_EQ(exponent_span(power_of_two_type(4, true, 3)).high, 2);
    EXPECT_EQ(exponent_span(power_of_two_type(4, true, 0)).high, 0);
    EXPECT_EQ(exponent_span(power_of_two_type(4, true, 0.25)).high, 0);
}

TEST(DataTypes, StandardNames) {
    expect_fixed(standard_type("int16"), 16, 7, true);
    EXPECT_TRUE(standard_type("fp16").same_numbers(float_type(16)));
    EXPECT_THROW(standard_type("fp8"), UsageError);
}

TEST(DataTypeMap, HoldsEveryLayerAndReadsAsJson) {
    const CostNetwork network = svhn_network(3);
    const auto map = nlohmann::json::parse(data_type_map(network, propagate_types(network, {})));
    EXPECT_EQ(map.size(), network.layers.size());
    const auto& conv = map.at("conv_1");
    EXPECT_EQ(conv.at("multiplier").at("bits"), 6);
    EXPECT_EQ(conv.at("multiplier").at("int_bits"), 1);
    EXPECT_EQ(conv.at("accumulator").at("bits"), 14);
    EXPECT_EQ(conv.at("accumulator").at("int_bits"), 9);
    EXPECT_EQ(conv.at("weight_quantizer").at("shape"), nlohmann::json({3, 3, 16, 16}));
    EXPECT_EQ(conv.at("operation_count"), 389376);
    EXPECT_EQ(map.at("output_dense").at("bias_quantizer").at("shape"), nlohmann::json({10}));
    EXPECT_EQ(map.at("max_pooling2d_1").at("output_quantizer").at("bits"), 14);
}

TEST(DataTypeMap, PrintsProductsOfExponentsAndOfTernaryValues) {
    CostNetwork network = svhn_network(3);
    network.at("conv_act_0").types.activation = power_of_two_type(4, false, 4);
    network.at("conv_1").types.kernel = power_of_two_type(4, true, 1);
    network.at("conv_act_1").types.activation = binary_type();
    network.at("conv_2").types.kernel = ternary_type();
    const auto map = nlohmann::json::parse(data_type_map(network, propagate_types(network, {})));
    EXPECT_EQ(map.at("conv_1").at("multiplier").at("op_type"), "add");
    const auto& product = map.at("conv_2").at("multiplier");  // of one bit, but a ternary type is one of two bits
    EXPECT_EQ(product.at("bits"), 2);
    EXPECT_EQ(product.at("int_bits"), 2);
    EXPECT_EQ(product.at("values"), nlohmann::json({0, -1, 1}));
}

}  // namespace
}  // namespace bitloom::cost
