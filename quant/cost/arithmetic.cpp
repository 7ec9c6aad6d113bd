#include "quant/cost/arithmetic.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "engine/error.h"

namespace bitloom::cost {

namespace {

// Rows: kind of the weight; columns: kind of the input, both in the order of NumberKind.
constexpr Gate M = Gate::multiply, S = Gate::shift, X = Gate::mux, O = Gate::exclusive_or, A = Gate::conjunction,
               D = Gate::add, F = Gate::float_multiply;
constexpr std::array<std::array<Gate, 6>, 6> gates{{{M, S, X, X, A, F},
                                                    {S, D, X, X, A, F},
                                                    {X, X, X, X, A, F},
                                                    {X, X, X, O, A, F},
                                                    {A, A, A, A, A, F},
                                                    {F, F, F, F, F, F}}};

Gate gate_of(const DataType& weight, const DataType& input) {
    return gates[static_cast<std::size_t>(weight.kind)][static_cast<std::size_t>(input.kind)];
}

Multiplier fixed_product(const DataType& w, const DataType& x) {
    const bool is_signed = w.is_signed || x.is_signed;
    const int integer = w.integer + x.integer;
    const int bits = integer + w.fraction() + x.fraction() + static_cast<int>(is_signed);
    return {M, 1, std::sqrt(static_cast<double>(x.bits) * w.bits), fixed_type(bits, integer, is_signed)};
}

Multiplier mux(const DataType& w, const DataType& x) {
    const bool selects_input = w.kind == NumberKind::binary || w.kind == NumberKind::ternary;
    const DataType& selected = selects_input ? x : w;
    const DataType& selector = selects_input ? w : x;
    Multiplier result{X, selector.kind == NumberKind::binary ? 0.3 : 0.6, static_cast<double>(selected.bits), selected};
    if (!selected.is_signed && selector.is_signed) result.output.bits += 1;
    result.output.is_signed = w.is_signed || x.is_signed;
    return result;
}

// A po2 factor shifts the fixed operand by its exponent.
Multiplier shifter(const DataType& w, const DataType& x, std::int64_t distinct_weights) {
    const bool weight_shifts = w.kind == NumberKind::power_of_two;
    const DataType& po2 = weight_shifts ? w : x;
    const DataType& fixed = weight_shifts ? x : w;
    const ExponentSpan span = exponent_span(po2);
    const int bits = fixed.bits + span.high + span.low + static_cast<int>(!fixed.is_signed && po2.is_signed);
    Multiplier result{S, 1, 0, fixed_type(bits, fixed.integer + span.high, w.is_signed || x.is_signed)};
    if (distinct_weights > 0) {
        result.factor = 0.3 * static_cast<double>(distinct_weights);
        result.gate_bits = fixed.bits;
    } else {
        const double b = std::sqrt(std::ldexp(static_cast<double>(fixed.bits), po2.bits));
        result.gate_bits = b * std::log10(b);
    }
    return result;
}

Multiplier exponent_sum(const DataType& w, const DataType& x) {
    const int bits = std::max(w.bits, x.bits) + 1;
    const double limit = w.max_value < 0 || x.max_value < 0 ? -1 : w.max_value * x.max_value;
    return {D, 1, static_cast<double>(bits), power_of_two_type(bits, w.is_signed || x.is_signed, limit)};
}

Multiplier conjunction(const DataType& w, const DataType& x) {
    const DataType& kept = w.kind == NumberKind::binary01 ? x : w;  // the other operand is 0 or 1
    Multiplier result{A, 0.1, 0, kept};
    result.output.bits = std::max(w.bits, x.bits);
    result.output.is_signed = w.is_signed || x.is_signed;
    result.gate_bits = result.output.bits;
    return result;
}

// Results are named by what they are, not by the operand they were made from.
std::string result_name(const DataType& type) {
    switch (type.kind) {
        case NumberKind::fixed: return "quantized_bits";
        case NumberKind::power_of_two: return type.is_signed ? "quantized_po2" : "quantized_relu_po2";
        case NumberKind::ternary: return "ternary";
        case NumberKind::binary:
        case NumberKind::binary01: return "binary";
        case NumberKind::floating: break;
    }
    return "floating_point";
}

int bits_to_count(std::int64_t terms) {
    require(terms >= 1, "a sum of ", terms, " products");
    return std::bit_width(static_cast<std::uint64_t>(terms - 1));  // ceil(log2 terms)
}

}  // namespace

std::string_view gate_name(Gate gate) {
    switch (gate) {
        case Gate::shift: return "shifter";
        case Gate::mux: return "mux";
        case Gate::exclusive_or: return "xor";
        case Gate::conjunction: return "and";
        case Gate::add: return "adder";
        case Gate::multiply:
        case Gate::float_multiply: break;
    }
    return "mul";
}

Multiplier make_multiplier(const DataType& weight, const DataType& input, std::int64_t distinct_weights) {
    Multiplier result;
    switch (gate_of(weight, input)) {
        case Gate::multiply: result = fixed_product(weight, input); break;
        case Gate::shift: result = shifter(weight, input, distinct_weights); break;
        case Gate::mux: result = mux(weight, input); break;
        case Gate::add: result = exponent_sum(weight, input); break;
        case Gate::conjunction: result = conjunction(weight, input); break;
        case Gate::exclusive_or: result = {O, 0.3, 1, weight}; break;
        case Gate::float_multiply: {
            const int bits = std::max(weight.is_float() ? weight.bits : 0, input.is_float() ? input.bits : 0);
            result = {F, 1, static_cast<double>(bits), float_type(bits)};
        }
    }
    // Products of unlike values among {-1, 1}, {-1, 0, 1} and {0, 1} are ternary; what {0, 1} switches takes the two bits of
    // that type, a multiplexer's result the width of what it selects.
    const auto has_few_values = [](const DataType& type) {
        return type.kind == NumberKind::binary || type.kind == NumberKind::ternary || type.kind == NumberKind::binary01;
    };
    if (has_few_values(weight) && has_few_values(input) && weight.kind != input.kind) {
        result.output.kind = NumberKind::ternary;
        if (result.gate == Gate::conjunction) {
            result.output = ternary_type();
            result.gate_bits = result.output.bits;
        }
    }
    result.output.name = result_name(result.output);
    return result;
}

DataType multiply_type(const std::vector<DataType>& inputs) {
    require(!inputs.empty(), "a product of no inputs has no type");
    DataType product = inputs[0];
    for (std::size_t i = 1; i < inputs.size(); ++i) product = make_multiplier(product, inputs[i]).output;
    return product;
}

DataType widen_by_scale(const DataType& product, int low, int high) {
    if (product.is_float()) return product;
    const DataType fixed = to_fixed(product);
    return fixed_type(fixed.bits + high - low, fixed.integer + high, fixed.is_signed);
}

DataType accumulate(const DataType& product, std::int64_t terms) {
    if (product.is_float()) return float_type(product.bits);
    const DataType fixed = to_fixed(product);
    const int growth = bits_to_count(terms);
    return fixed_type(fixed.bits + growth, fixed.integer + growth, fixed.is_signed);
}

DataType accumulate(const DataType& product, std::int64_t terms, const DataType& bias) {
    return sum_type(accumulate(product, terms), bias);
}

std::int64_t accumulated_terms(const Shape& kernel, bool depthwise) {
    require(kernel.rank() >= 2, "a kernel of shape ", kernel, " has no products to sum");
    std::int64_t terms = 1;
    for (int axis = 0; axis < (depthwise ? 2 : kernel.rank() - 1); ++axis) terms *= kernel[axis];
    return terms;
}

}  // namespace bitloom::cost
