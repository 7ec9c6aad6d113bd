#pragma once
// Rows of op_cases.h on one device beside the reference: what every backend's parity tests share.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "tests/ops/op_cases.h"

namespace bitloom::ops::test {

using MakeInput = Tensor (*)(const OpCase&, int, DType, Device);
using MakeSeed = Tensor (*)(const OpCase&, const Shape&, DType, Device);

struct NamedValues {
    std::string name;
    Shape shape;
    std::vector<double> values;  // empty where no gradient flowed
};

/// Values that bf16 can hold, where an input is bf16 in a network of bf16 activations.
inline Tensor bf16_input(const OpCase& c, int index, DType dtype, Device device) {
    const DType stored = input_dtype(c, index, DType::bf16);
    return real_input(c, index, DType::f32, device).to(stored).to(dtype);
}
inline Tensor bf16_seed(const OpCase& c, const Shape& output, DType dtype, Device device) {
    return real_seed(c, output, DType::f32, device).to(DType::bf16).to(dtype);
}

/// The op's output and the gradients of its inputs.
inline std::vector<NamedValues> run(const OpCase& c, DType dtype, Device device, MakeInput make_input,
                                    MakeSeed make_seed) {
    std::vector<Tensor> inputs;
    for (std::size_t i = 0; i < c.inputs.size(); ++i)
        inputs.push_back(make_input(c, static_cast<int>(i), input_dtype(c, static_cast<int>(i), dtype), device));
    Tape tape;
    const std::vector<Var> vars = put_on_tape(c, tape, inputs);
    const Var y = c.build(tape, vars);
    std::vector<NamedValues> results{{"output", y.shape(), y.value().values<double>()}};
    tape.backward(y, make_seed(c, y.shape(), y.dtype(), device));
    for (std::size_t i = 0; i < vars.size(); ++i) {
        if (!vars[i].requires_grad()) continue;
        const Tensor& grad = tape.grad(vars[i]);
        results.push_back({cat("gradient of input ", i), grad.shape(),
                           grad.defined() ? grad.values<double>() : std::vector<double>{}});
    }
    return results;
}

/// Expects the very values of the reference on small integers.
inline void expect_integer_parity(const OpCase& c, DType dtype, Device device) {
    const auto expected = run(c, dtype, reference_device, integer_input, integer_seed);
    const auto actual = run(c, dtype, device, integer_input, integer_seed);
    ASSERT_EQ(expected.size(), actual.size());
    for (std::size_t k = 0; k < expected.size(); ++k) {
        SCOPED_TRACE(expected[k].name);
        ASSERT_EQ(expected[k].shape, actual[k].shape);
        ASSERT_EQ(expected[k].values.size(), actual[k].values.size());
        int reported = 0;
        for (std::size_t i = 0; i < expected[k].values.size() && reported < 5; ++i) {
            if (expected[k].values[i] == actual[k].values[i]) continue;  // +0 and -0 count as equal
            ++reported;
            ADD_FAILURE() << "element " << i << ": reference " << expected[k].values[i] << ", " << device << " "
                          << actual[k].values[i];
        }
    }
}

/// Expects a relative L2 error of at most `l2_bound`, and of every element `element_bound` of the largest. Where a
/// gradient cancels to almost nothing, its terms were still of order one, hence the floor.
inline void expect_close(const std::vector<NamedValues>& expected, const std::vector<NamedValues>& actual, double l2_bound,
                         double element_bound) {
    ASSERT_EQ(expected.size(), actual.size());
    constexpr double floor = 1e-3;
    for (std::size_t k = 0; k < expected.size(); ++k) {
        SCOPED_TRACE(expected[k].name);
        ASSERT_EQ(expected[k].shape, actual[k].shape);
        ASSERT_EQ(expected[k].values.size(), actual[k].values.size());
        double error2 = 0, norm2 = 0, largest_error = 0, largest = 0;
        for (std::size_t i = 0; i < expected[k].values.size(); ++i) {
            const double reference = expected[k].values[i], error = std::abs(actual[k].values[i] - reference);
            ASSERT_TRUE(std::isfinite(actual[k].values[i]))
                << "element " << i << " is not finite, reference " << reference;
            error2 += error * error;
            norm2 += reference * reference;
            largest_error = std::max(largest_error, error);
            largest = std::max(largest, std::abs(reference));
        }
        const double count = static_cast<double>(expected[k].values.size());
        EXPECT_LE(std::sqrt(error2), l2_bound * (std::sqrt(norm2) + floor * std::sqrt(count)));
        EXPECT_LE(largest_error, element_bound * (largest + floor));
    }
}

/// A float32 sum of n terms of random sign, in any order, is off by about u sqrt(n) times its own standard deviation,
/// with u = 2^-24 = 6e-8; a pointwise function by a few u. So the relative L2 error may be 4e-6 sqrt(max(1, n / 1000)),
/// which is 2 u sqrt(n) for long sums and leaves short ones room for the roundings of a composed formula. Single
/// elements scatter more than their mean: 4e-6 + 5e-7 sqrt(n), some eight u sqrt(n), of the largest.
/// `l2_bound` replaces the 4e-6.
inline void expect_real_parity(const OpCase& c, Device device, double l2_bound = 4e-6) {
    const double n = static_cast<double>(std::max<std::int64_t>(1, c.accumulation));
    expect_close(run(c, DType::f64, reference_device, real_input, real_seed),
                 run(c, DType::f32, device, real_input, real_seed), l2_bound * std::sqrt(std::max(1.0, n / 1000)),
                 std::max(4e-6, 2 * l2_bound) + 5e-7 * std::sqrt(n));
}

/// Inputs and gradients that bf16 holds exactly, parameters in f32. One rounding to bf16 is off by at most u = 2^-9, by
/// u / sqrt(3) = 1.1e-3 in the mean; sums run in f32, whose error is nothing beside it. A result has passed at most
/// four roundings (the weight's inside a product, that of a saved output, of an intermediate, its own), so its relative
/// L2 error stays below 2.3e-3 in the mean; 5e-3 allowed. A single element: four times u of the largest, 8e-3. Twice
/// both where the gradient is a difference, or a sum that cancels, of rounded values: 1 - y^2, y (1 - y), and that of a
/// divisor.
inline void expect_bf16_parity(const OpCase& c, Device device) {
    const bool cancels = c.variant == "tanh" || c.variant == "sigmoid" || c.variant == "divide";
    const double slack = cancels ? 2 : 1;
    expect_close(run(c, DType::f64, reference_device, bf16_input, bf16_seed),
                 run(c, DType::bf16, device, bf16_input, bf16_seed), 5e-3 * slack, 8e-3 * slack);
}

}  // namespace bitloom::ops::test
