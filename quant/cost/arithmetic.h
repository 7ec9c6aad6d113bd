#pragma once
// The multipliers and accumulators that QTools builds a layer from (svhn-qkeras.md, section 5.9).

#include <cstdint>
#include <string_view>

#include "engine/shape.h"
#include "quant/cost/data_type.h"

namespace bitloom::cost {

/// The circuits that stand in for a multiplication.
enum class Gate { multiply, shift, mux, exclusive_or, conjunction, add, float_multiply };
/// mul, shifter, mux, xor, and, adder; a float multiplication is a mul.
std::string_view gate_name(Gate gate);

struct Multiplier {
    Gate gate = Gate::multiply;
    double factor = 1;     ///< cost in units of the gate's
    double gate_bits = 0;  ///< width that the gate is costed at
    DataType output;
};
/// By the table of (weight, input). `distinct_weights`: 0, or with trained weights the number of distinct values, by
/// which a shifter is costed.
Multiplier make_multiplier(const DataType& weight, const DataType& input, std::int64_t distinct_weights = 0);

/// Product of a merge layer: the multiplier rule from left to right. Throws Error for no inputs.
DataType multiply_type(const std::vector<DataType>& inputs);

/// Scales 2^low .. 2^high of an auto_po2 kernel widen a product: integer += high, fraction -= low. Floats stay.
DataType widen_by_scale(const DataType& product, int low, int high);

/// Sum of `terms` products: bits and integer grow by ceil(log2 terms); a power-of-two product becomes fixed first.
DataType accumulate(const DataType& product, std::int64_t terms);
/// The same with a bias added.
DataType accumulate(const DataType& product, std::int64_t terms, const DataType& bias);

/// Products that an output sums: all axes of a kernel (HWIO, or [in, out]) but the last; of a depthwise one height * width.
std::int64_t accumulated_terms(const Shape& kernel, bool depthwise = false);

}  // namespace bitloom::cost
