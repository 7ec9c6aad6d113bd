// What every operation must satisfy, over the rows of op_cases.h.

#include "ops/op_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tests/ops/gradcheck.h"
#include "tests/ops/op_cases.h"
#include "tests/ops/variants.h"

namespace bitloom::ops::test {

namespace {

const std::vector<OpCase>& cases() {
    static const std::vector<OpCase> all = all_cases();
    return all;
}

std::vector<OpCase> cases_where(bool (*wanted)(const OpCase&)) {
    std::vector<OpCase> chosen;
    std::copy_if(cases().begin(), cases().end(), std::back_inserter(chosen), wanted);
    return chosen;
}

std::string row_name(const ::testing::TestParamInfo<OpCase>& info) { return info.param.op + "_" + info.param.name; }

using MakeInput = Tensor (*)(const OpCase&, int, DType, Device);
using MakeSeed = Tensor (*)(const OpCase&, const Shape&, DType, Device);

struct NamedValues {
    std::string name;
    Shape shape;
    std::vector<double> values;  // empty where no gradient flowed
};

/// Values that bf16 can hold, where an input is bf16 in a network of bf16 activations.
Tensor bf16_input(const OpCase& c, int index, DType dtype, Device device) {
    const DType stored = input_dtype(c, index, DType::bf16);
    return real_input(c, index, DType::f32, device).to(stored).to(dtype);
}
Tensor bf16_seed(const OpCase& c, const Shape& output, DType dtype, Device device) {
    return real_seed(c, output, DType::f32, device).to(DType::bf16).to(dtype);
}

/// Ops whose gradient is not that of their forward function: no row of theirs is compared with differences.
bool is_straight_through(const OpCase& c) { return c.op == "surrogate" || c.op == "cast"; }

/// The op's output and the gradients of its inputs.
std::vector<NamedValues> run(const OpCase& c, DType dtype, Device device, MakeInput make_input, MakeSeed make_seed) {
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

}  // namespace

TEST(OpTable, EveryOpHasFiveRows) {
    std::map<std::string, int> rows;
    std::set<std::string> names;
    for (const OpCase& c : cases()) {
        if (c.differentiable_check || is_straight_through(c)) ++rows[c.op];
        EXPECT_TRUE(names.insert(c.op + "_" + c.name).second) << "two rows are called " << c;
    }
    for (const std::string_view op : op_names)
        EXPECT_GE(rows[std::string(op)], 5)
            << op << " needs five rows under the gradient check in tests/ops/cases_*.cpp";
    for (const auto& [op, count] : rows)
        EXPECT_NE(std::find(op_names.begin(), op_names.end(), op), op_names.end()) << op << " is not in ops/op_table.h";
}

TEST(OpTable, EveryVariantHasFiveRows) {
    std::map<std::string, int> rows;
    for (const OpCase& c : cases())
        if (c.differentiable_check || is_straight_through(c)) ++rows[c.op + " " + c.variant];
    for (const std::string_view name : unary_names) EXPECT_GE(rows[cat("unary ", name)], 5) << name;
    for (const std::string_view name : binary_names) EXPECT_GE(rows[cat("binary ", name)], 5) << name;
    for (const StepFunction function : step_functions)
        EXPECT_GE(rows[cat("surrogate ", name_of(function))], 5) << name_of(function);
    for (const Surrogate rule : surrogates) EXPECT_GE(rows[cat("surrogate ", name_of(rule))], 5) << name_of(rule);
}

TEST(OpTable, RowsExerciseTheOpTheyName) {
    for (const OpCase& c : cases()) {
        SCOPED_TRACE(cat(c.op, "/", c.name));
        if (std::any_of(c.inputs.begin(), c.inputs.end(), [](const Shape& s) { return s.numel() > 10000; })) continue;
        std::vector<Tensor> inputs;
        for (std::size_t i = 0; i < c.inputs.size(); ++i)
            inputs.push_back(real_input(c, static_cast<int>(i), DType::f32, reference_device));
        Tape tape;
        const Var y = c.build(tape, put_on_tape(c, tape, inputs));
        ASSERT_GE(tape.node_count(), 1);
        EXPECT_EQ(tape.node_op(tape.node_count() - 1), c.op);
    }
}

/// Decision 2 of the architecture: gradients are proved in double precision on the reference device.
class GradientCheck : public ::testing::TestWithParam<OpCase> {};
TEST_P(GradientCheck, EqualsCentralDifferences) {
    const OpCase& c = GetParam();
    std::vector<Tensor> all, varied;
    std::vector<bool> fixed;
    for (std::size_t i = 0; i < c.inputs.size(); ++i) {
        const int index = static_cast<int>(i);
        all.push_back(real_input(c, index, DType::f64, reference_device));
        fixed.push_back(std::find(c.fixed_inputs.begin(), c.fixed_inputs.end(), index) != c.fixed_inputs.end());
        if (!fixed[i]) varied.push_back(all[i]);
    }
    gradcheck(
        [&](Tape& tape, std::span<const Var> vars) {
            std::vector<Var> inputs;
            std::size_t next = 0;
            for (std::size_t i = 0; i < all.size(); ++i)
                inputs.push_back(fixed[i] ? tape.constant(all[i]) : vars[next++]);
            return c.build(tape, inputs);
        },
        varied, 1e-6, 1e-4);
}
INSTANTIATE_TEST_SUITE_P(Ops, GradientCheck,
                         ::testing::ValuesIn(cases_where([](const OpCase& c) { return c.differentiable_check; })),
                         row_name);

/// Expects the very values of the reference on small integers.
void expect_integer_parity(const OpCase& c, DType dtype) {
    const auto expected = run(c, dtype, reference_device, integer_input, integer_seed);
    const auto actual = run(c, dtype, cpu_device, integer_input, integer_seed);
    ASSERT_EQ(expected.size(), actual.size());
    for (std::size_t k = 0; k < expected.size(); ++k) {
        SCOPED_TRACE(expected[k].name);
        ASSERT_EQ(expected[k].shape, actual[k].shape);
        ASSERT_EQ(expected[k].values.size(), actual[k].values.size());
        int reported = 0;
        for (std::size_t i = 0; i < expected[k].values.size() && reported < 5; ++i) {
            if (expected[k].values[i] == actual[k].values[i]) continue;  // +0 and -0 count as equal
            ++reported;
            ADD_FAILURE() << "element " << i << ": reference " << expected[k].values[i] << ", cpu "
                          << actual[k].values[i];
        }
    }
}

/// Sums of small integers are exact in float32 in any order, so the fast kernels must give the reference's very values;
/// in bf16 too, where either rounds the exact sum once.
class IntegerParity : public ::testing::TestWithParam<OpCase> {};
TEST_P(IntegerParity, CpuEqualsReference) { expect_integer_parity(GetParam(), DType::f32); }
TEST_P(IntegerParity, CpuEqualsReferenceInBf16) {
    if (GetParam().in_bf16) expect_integer_parity(GetParam(), DType::bf16);
}
INSTANTIATE_TEST_SUITE_P(Ops, IntegerParity,
                         ::testing::ValuesIn(cases_where([](const OpCase& c) { return c.exact_on_integers; })),
                         row_name);

/// Expects a relative L2 error of at most `l2_bound`, and of every element `element_bound` of the largest. Where a
/// gradient cancels to almost nothing, its terms were still of order one, hence the floor.
void expect_close(const std::vector<NamedValues>& expected, const std::vector<NamedValues>& actual, double l2_bound,
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
class RealParity : public ::testing::TestWithParam<OpCase> {};
TEST_P(RealParity, CpuIsCloseToDoubleReference) {
    const OpCase& c = GetParam();
    const double n = static_cast<double>(std::max<std::int64_t>(1, c.accumulation));
    expect_close(run(c, DType::f64, reference_device, real_input, real_seed),
                 run(c, DType::f32, cpu_device, real_input, real_seed), 4e-6 * std::sqrt(std::max(1.0, n / 1000)),
                 4e-6 + 5e-7 * std::sqrt(n));
}
INSTANTIATE_TEST_SUITE_P(Ops, RealParity, ::testing::ValuesIn(cases()), row_name);

/// Inputs and gradients that bf16 holds exactly, parameters in f32. One rounding to bf16 is off by at most u = 2^-9, by
/// u / sqrt(3) = 1.1e-3 in the mean; sums run in f32, whose error is nothing beside it. A result has passed at most
/// four roundings (the weight's inside a product, that of a saved output, of an intermediate, its own), so its relative
/// L2 error stays below 2.3e-3 in the mean; 5e-3 allowed. A single element: four times u of the largest, 8e-3. Twice
/// both where the gradient is a difference, or a sum that cancels, of rounded values: 1 - y^2, y (1 - y), and that of a
/// divisor.
class Bf16Parity : public ::testing::TestWithParam<OpCase> {};
TEST_P(Bf16Parity, CpuAndReferenceAreCloseToDouble) {
    const OpCase& c = GetParam();
    const auto expected = run(c, DType::f64, reference_device, bf16_input, bf16_seed);
    const bool cancels = c.variant == "tanh" || c.variant == "sigmoid" || c.variant == "divide";
    const double slack = cancels ? 2 : 1;
    for (const Device device : {cpu_device, reference_device}) {
        SCOPED_TRACE(device);
        expect_close(expected, run(c, DType::bf16, device, bf16_input, bf16_seed), 5e-3 * slack, 8e-3 * slack);
    }
}
INSTANTIATE_TEST_SUITE_P(Ops, Bf16Parity, ::testing::ValuesIn(cases_where([](const OpCase& c) { return c.in_bf16; })),
                         row_name);

}  // namespace bitloom::ops::test
