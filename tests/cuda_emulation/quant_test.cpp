// The schemes' kernels on the emulated GPU: every row of tests/quant.

#include <gtest/gtest.h>

#include "cuda/quant/tables.h"
#include "emulated_device.h"
#include "emulation.h"
#include "tests/quant/kernel_rows.h"

namespace bitloom::cuda::test {
namespace {

using quant::test::Library;
using quant::test::QuantizerRow;

/// With the first thread first, then with the last: a result that depends on it lacks a barrier.
template <class Check>
void in_both_orders(Check&& check) {
    install_emulation();
    check();
    SCOPED_TRACE("last thread first");
    emulation::set_order(emulation::Order::backward);
    check();
    emulation::set_order(emulation::Order::forward);
}

TEST(EmulatedQuantizers, HaveTheBitsOfTheCpu) {
    in_both_orders([] {
        for (const QuantizerRow& row : quant::test::quantizer_rows())
            quant::test::expect_row(row, emulated_gpu, Library::same);
    });
}

TEST(EmulatedQuantizers, DrawTheStreamOfTheReference) {
    install_emulation();
    quant::test::expect_uniform_stream(emulated_gpu, nullptr);
    const Tensor counter = Tensor::from({2}, std::vector<std::int32_t>{0x56789a00, 0x1234}, emulated_gpu);
    quant::test::expect_uniform_stream(emulated_gpu, &counter);
}

TEST(EmulatedFusedNorm, HasTheBitsOfTheSinglePassesAndAgreesWithTheReference) {
    in_both_orders([] { quant::test::expect_fused_norm(emulated_gpu); });
}

TEST(EmulatedQuantizers, InBf16GiveWhatF32GivesRoundedOnce) {
    in_both_orders([] { quant::test::expect_bf16(emulated_gpu); });
}

TEST(EmulatedBitPlanes, AgreeWithTheReference) {
    install_emulation();
    quant::test::expect_bit_planes(emulated_gpu);
}
TEST(EmulatedBitPlanes, FixedPrecisionAndActivationsAgreeWithTheReference) {
    in_both_orders([] { quant::test::expect_fixed_precision_and_activations(emulated_gpu); });
}
TEST(EmulatedBitPlanes, TheRegulariserIsThatOfTheCpu) {
    in_both_orders([] { quant::test::expect_group_lasso(emulated_gpu); });
}

TEST(EmulatedSchemes, StayWithinTheirOperands) {
    quant::test::expect_guards_untouched(quant_kernel_table(), bsq_kernel_table());
}
TEST(EmulatedSchemes, NoKernelIsMissing) {
    quant::for_each_kernel([](std::string_view name, auto member) { EXPECT_NE(quant_kernel_table().*member, nullptr) << name; });
    bsq::for_each_kernel([](std::string_view name, auto member) { EXPECT_NE(bsq_kernel_table().*member, nullptr) << name; });
}

}  // namespace
}  // namespace bitloom::cuda::test
