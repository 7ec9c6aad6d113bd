// What every operation must satisfy, over the rows of op_cases.h.

#include "ops/op_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tests/ops/gradcheck.h"
#include "tests/ops/op_cases.h"
#include "tests/ops/parity.h"
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

/// Ops whose gradient is not that of their forward function: no row of theirs is compared with differences.
bool is_straight_through(const OpCase& c) { return c.op == "surrogate" || c.op == "cast"; }

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

/// Sums of small integers are exact in float32 in any order, so the fast kernels must give the reference's very values;
/// in bf16 too, where either rounds the exact sum once.
class IntegerParity : public ::testing::TestWithParam<OpCase> {};
TEST_P(IntegerParity, CpuEqualsReference) { expect_integer_parity(GetParam(), DType::f32, cpu_device); }
TEST_P(IntegerParity, CpuEqualsReferenceInBf16) {
    if (GetParam().in_bf16) expect_integer_parity(GetParam(), DType::bf16, cpu_device);
}
INSTANTIATE_TEST_SUITE_P(Ops, IntegerParity,
                         ::testing::ValuesIn(cases_where([](const OpCase& c) { return c.exact_on_integers; })),
                         row_name);

class RealParity : public ::testing::TestWithParam<OpCase> {};
TEST_P(RealParity, CpuIsCloseToDoubleReference) { expect_real_parity(GetParam(), cpu_device); }
INSTANTIATE_TEST_SUITE_P(Ops, RealParity, ::testing::ValuesIn(cases()), row_name);

class Bf16Parity : public ::testing::TestWithParam<OpCase> {};
TEST_P(Bf16Parity, CpuIsCloseToDouble) { expect_bf16_parity(GetParam(), cpu_device); }
TEST_P(Bf16Parity, ReferenceIsCloseToDouble) { expect_bf16_parity(GetParam(), reference_device); }
INSTANTIATE_TEST_SUITE_P(Ops, Bf16Parity, ::testing::ValuesIn(cases_where([](const OpCase& c) { return c.in_bf16; })),
                         row_name);

}  // namespace bitloom::ops::test
