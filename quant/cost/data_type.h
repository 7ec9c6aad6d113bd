#pragma once
// Number types of QTools (svhn-qkeras.md, section 5.9): what a tensor or a circuit between two layers carries.

#include <string>
#include <string_view>
#include <vector>

namespace bitloom::cost {

/// The kinds of numbers between which QTools distinguishes multipliers; the values are its mode indices.
enum class NumberKind { fixed = 0, power_of_two = 1, ternary = 2, binary = 3, binary01 = 4, floating = 5 };

struct DataType {
    NumberKind kind = NumberKind::fixed;
    int bits = 8;
    int integer = 0;        ///< integer bits without the sign; fixed, binary and ternary types
    bool is_signed = true;
    double max_value = -1;  ///< of power-of-two types; -1: no bound
    std::string name = "quantized_bits";  ///< of the quantizer that it came from, as the JSON dump prints it

    bool is_float() const { return kind == NumberKind::floating; }
    int fraction() const { return bits - integer - static_cast<int>(is_signed); }
    /// Same numbers; the name does not count.
    bool same_numbers(const DataType& other) const;
};

/// quantized_bits(bits, integer) with or without sign.
DataType fixed_type(int bits, int integer, bool is_signed = true);
DataType float_type(int bits);
DataType power_of_two_type(int bits, bool is_signed, double max_value = -1);
DataType ternary_type();
DataType binary_type();
DataType binary01_type();
/// What QTools takes where nothing is said: quantized_bits(8,0,1).
DataType default_type();

/// Exponents of a power-of-two type, 2^-low .. 2^high: low = 2^(n-1), high = 2^(n-1) - 1 with n = bits without the sign,
/// capped by ceil(log2 max_value) (0 for max_value <= 0 where one is set), and at least 0.
struct ExponentSpan {
    int low = 0, high = 0;
};
ExponentSpan exponent_span(const DataType& type);

/// The fixed-point type that holds every value of a power-of-two one: bits = sign + low + high, integer = high. Other
/// types come back as they are.
DataType to_fixed(const DataType& type);

/// fp16, fp32, int8 = (8,0), int16 = (16,7), int32 = (32,10). Throws UsageError for other text.
DataType standard_type(std::string_view name);
bool is_standard_type(std::string_view name);

/// Sum of two: integer = larger + 1, fraction = larger, signed if either is. A float makes the sum the wider float.
DataType sum_type(const DataType& a, const DataType& b);
/// Outputs of merge layers. Add: bits and integer the largest of the inputs' plus 1. Maximum and Minimum: the common type,
/// or else the largest bits and integer. Signed if any input is; any float makes the result the widest float. Power-of-two
/// inputs count as the fixed types that hold them. Throws Error for no inputs.
DataType add_type(const std::vector<DataType>& inputs);
DataType maximum_type(const std::vector<DataType>& inputs);

}  // namespace bitloom::cost
