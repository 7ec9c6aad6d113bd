#pragma once
// The table of operations under test. A row drives the gradient check, the parity of every device and the coverage
// check of ops/op_table.h; a new op or a new variant of one is tested by adding rows, not tests.

#include <cstdint>
#include <functional>
#include <ostream>
#include <span>
#include <string>
#include <vector>

#include "engine/tape.h"
#include "engine/tensor.h"

namespace bitloom::ops::test {

struct OpCase {
    std::string op;    ///< entry of op_names; the last node that `build` records carries it
    std::string name;  ///< unique within the op; letters, digits and underscores
    std::vector<Shape> inputs;
    /// Applies the op to the inputs and returns its output. Takes device and dtype from the inputs, makes labels, masks
    /// and other constants itself, and always the same ones.
    std::function<Var(Tape&, std::span<const Var>)> build;
    /// Which member of an enumeration the row exercises (a UnaryOp, BinaryOp, StepFunction or Surrogate), by its name.
    std::string variant = {};
    std::int64_t accumulation = 1;  ///< terms of the longest sum, forward or backward: tolerances grow with it
    bool exact_on_integers = true;  ///< on small integers every device gives the same bits, forward and backward
    bool differentiable_check =
        true;                   ///< central differences apply; false for straight-through gradients and large rows
    double low = -1, high = 1;  ///< range of random inputs
    bool kink_free = false;     ///< distinct values on a shuffled grid: no ties, none on a kink at a round number
    std::vector<int> fixed_inputs = {};     ///< inputs put on the tape without a gradient (moments, masks)
    std::vector<int> parameters = {};       ///< inputs that stay f32 beside bf16 ones (weights, biases, moments)
    bool in_bf16 = true;                    ///< the op takes bf16 activations
    std::vector<int> positive_inputs = {};  ///< drawn from [0.5, 1.5], or 1..3 as integers (variances, divisors)
};

inline std::ostream& operator<<(std::ostream& out, const OpCase& c) { return out << c.op << "/" << c.name; }

/// The dtype of input `index` beside activations of `dtype`.
DType input_dtype(const OpCase& c, int index, DType dtype);

std::vector<OpCase> structured_cases();  ///< convolution, dense, normalisation, pooling
std::vector<OpCase> pointwise_cases();   ///< all others
std::vector<OpCase> all_cases();

/// Values of input `index`, the same at every call: f32-representable, so that every dtype and device sees the same
/// numbers.
Tensor real_input(const OpCase& c, int index, DType dtype, Device device);
/// Integers in [-3, 3], about a third of them zero (positive inputs: 1 to 3).
Tensor integer_input(const OpCase& c, int index, DType dtype, Device device);
/// Gradient of the output to start the backward pass from.
Tensor real_seed(const OpCase& c, const Shape& output, DType dtype, Device device);
Tensor integer_seed(const OpCase& c, const Shape& output, DType dtype, Device device);
/// Puts the inputs on the tape; those in fixed_inputs without a gradient.
std::vector<Var> put_on_tape(const OpCase& c, Tape& tape, std::span<const Tensor> inputs);

}  // namespace bitloom::ops::test
