// Every row of tests/ops on the emulated GPU: forward and backward against the reference.

#include <algorithm>

#include "cuda/tables.h"
#include "emulated_device.h"
#include "emulation.h"
#include "ops/convolution_algorithm.h"
#include "tests/ops/kernel_calls.h"
#include "tests/ops/parity.h"

namespace bitloom::cuda::test {
namespace {

using namespace ops::test;

const std::vector<OpCase>& cases() {
    static const std::vector<OpCase> all = all_cases();
    return all;
}
std::string row_name(const ::testing::TestParamInfo<OpCase>& info) { return info.param.op + "_" + info.param.name; }

bool is_large(const OpCase& c) {
    return std::any_of(c.inputs.begin(), c.inputs.end(), [](const Shape& shape) { return shape.numel() > 10000; });
}

/// Rows run with the first thread first, then with the last: a result that depends on it lacks a barrier. Large rows, which
/// are slow here, run one way.
template <class Check>
void in_both_orders(const OpCase& c, Check&& check) {
    install_emulation();
    check();
    if (is_large(c)) return;
    SCOPED_TRACE("last thread first");
    emulation::set_order(emulation::Order::backward);
    check();
    emulation::set_order(emulation::Order::forward);
}

class Emulated : public ::testing::TestWithParam<OpCase> {};
TEST_P(Emulated, EqualsReferenceOnIntegers) {
    const OpCase& c = GetParam();
    if (c.exact_on_integers) in_both_orders(c, [&] { expect_integer_parity(c, DType::f32, emulated_gpu); });
}
TEST_P(Emulated, EqualsReferenceOnIntegersInBf16) {
    const OpCase& c = GetParam();
    if (c.exact_on_integers && c.in_bf16)
        in_both_orders(c, [&] { expect_integer_parity(c, DType::bf16, emulated_gpu); });
}
TEST_P(Emulated, IsCloseToDoubleReference) {
    const OpCase& c = GetParam();
    if (!is_large(c) || !c.exact_on_integers) in_both_orders(c, [&] { expect_real_parity(c, emulated_gpu, 1e-6); });
}
TEST_P(Emulated, IsCloseToDoubleReferenceInBf16) {
    const OpCase& c = GetParam();
    if (c.in_bf16 && !is_large(c)) in_both_orders(c, [&] { expect_bf16_parity(c, emulated_gpu); });
}
INSTANTIATE_TEST_SUITE_P(Ops, Emulated, ::testing::ValuesIn(cases()), row_name);

TEST(EmulatedSentinels, F32) { expect_guards_untouched(op_kernel_table(), DType::f32, cpu_device); }
TEST(EmulatedSentinels, Bf16) { expect_guards_untouched(op_kernel_table(), DType::bf16, cpu_device); }
TEST(EmulatedSentinels, F32ByIm2col) {
    ops::use_convolution_algorithm("im2col");
    expect_guards_untouched(op_kernel_table(), DType::f32, cpu_device);
    ops::use_convolution_algorithm("auto");
}

}  // namespace
}  // namespace bitloom::cuda::test
