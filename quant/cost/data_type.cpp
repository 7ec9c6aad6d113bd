#include "quant/cost/data_type.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "engine/error.h"
#include "engine/io/flag_values.h"

namespace bitloom::cost {

namespace {

DataType small_type(NumberKind kind, int bits, int integer, bool is_signed, std::string name) {
    DataType type;
    type.kind = kind;
    type.bits = bits;
    type.integer = integer;
    type.is_signed = is_signed;
    type.name = std::move(name);
    return type;
}

const std::vector<std::pair<std::string_view, DataType>>& standard_types() {
    static const std::vector<std::pair<std::string_view, DataType>> types{{"fp16", float_type(16)},
                                                                          {"fp32", float_type(32)},
                                                                          {"int8", fixed_type(8, 0)},
                                                                          {"int16", fixed_type(16, 7)},
                                                                          {"int32", fixed_type(32, 10)}};
    return types;
}

/// Bits of the widest float among them, 0 where none is one.
int widest_float(std::span<const DataType> inputs) {
    int widest = 0;
    for (const DataType& type : inputs)
        if (type.is_float()) widest = std::max(widest, type.bits);
    return widest;
}

DataType envelope(const std::vector<DataType>& inputs, int extra) {
    DataType result = fixed_type(0, 0, false);
    bool first = true;
    for (const DataType& input : inputs) {
        const DataType type = to_fixed(input);
        result.bits = first ? type.bits : std::max(result.bits, type.bits);
        result.integer = first ? type.integer : std::max(result.integer, type.integer);
        result.is_signed = result.is_signed || type.is_signed;
        first = false;
    }
    result.bits += extra;
    result.integer += extra;
    return result;
}

}  // namespace

bool DataType::same_numbers(const DataType& other) const {
    return kind == other.kind && bits == other.bits && (is_float() || is_signed == other.is_signed) &&
           (kind != NumberKind::power_of_two || max_value == other.max_value) &&
           (kind == NumberKind::power_of_two || is_float() || integer == other.integer);
}

DataType fixed_type(int bits, int integer, bool is_signed) {
    return small_type(NumberKind::fixed, bits, integer, is_signed, "quantized_bits");
}
DataType float_type(int bits) { return small_type(NumberKind::floating, bits, 0, true, "floating_point"); }
DataType power_of_two_type(int bits, bool is_signed, double max_value) {
    DataType type =
        small_type(NumberKind::power_of_two, bits, 0, is_signed, is_signed ? "quantized_po2" : "quantized_relu_po2");
    type.max_value = max_value;
    return type;
}
DataType ternary_type() { return small_type(NumberKind::ternary, 2, 2, true, "ternary"); }
DataType binary_type() { return small_type(NumberKind::binary, 1, 1, true, "binary"); }
DataType binary01_type() { return small_type(NumberKind::binary01, 1, 1, false, "binary"); }
DataType default_type() { return fixed_type(8, 0); }

ExponentSpan exponent_span(const DataType& type) {
    const int n = type.bits - static_cast<int>(type.is_signed);
    const int half = n >= 1 ? 1 << std::min(n - 1, 30) : 0;
    ExponentSpan span{half, std::max(half - 1, 0)};
    if (type.max_value != -1) {
        const int cap = type.max_value <= 0 ? 0 : static_cast<int>(std::ceil(std::log2(type.max_value)));
        span.high = std::max(std::min(span.high, cap), 0);
    }
    return span;
}

DataType to_fixed(const DataType& type) {
    if (type.kind != NumberKind::power_of_two) return type;
    const ExponentSpan span = exponent_span(type);
    return fixed_type(static_cast<int>(type.is_signed) + span.low + span.high, span.high, type.is_signed);
}

bool is_standard_type(std::string_view name) {
    return std::any_of(standard_types().begin(), standard_types().end(),
                       [&](const auto& entry) { return entry.first == name; });
}

DataType standard_type(std::string_view name) {
    for (const auto& [known, type] : standard_types())
        if (known == name) return type;
    throw UsageError(cat("unknown number type ", in_quotes(name), " (fp16, fp32, int8, int16, int32)"));
}

DataType sum_type(const DataType& a, const DataType& b) {
    const DataType both[] = {a, b};
    if (const int bits = widest_float(both)) return float_type(bits);
    const DataType x = to_fixed(a), y = to_fixed(b);
    const bool is_signed = x.is_signed || y.is_signed;
    const int integer = std::max(x.integer, y.integer) + 1;
    const int fraction = std::max(x.fraction(), y.fraction());
    return fixed_type(integer + static_cast<int>(is_signed) + fraction, integer, is_signed);
}

DataType add_type(const std::vector<DataType>& inputs) {
    require(!inputs.empty(), "a sum of no inputs has no type");
    if (const int bits = widest_float(inputs)) return float_type(bits);
    return envelope(inputs, 1);
}

DataType maximum_type(const std::vector<DataType>& inputs) {
    require(!inputs.empty(), "a maximum of no inputs has no type");
    if (const int bits = widest_float(inputs)) return float_type(bits);
    if (std::all_of(inputs.begin(), inputs.end(), [&](const DataType& t) { return t.same_numbers(inputs[0]); }))
        return inputs[0];
    return envelope(inputs, 0);
}

}  // namespace bitloom::cost
