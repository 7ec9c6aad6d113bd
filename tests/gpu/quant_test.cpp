// The schemes' kernels on the GPU: every row of tests/quant. Exponentials, logarithms and hyperbolic tangents are those of
// another library there.

#include "tests/gpu/gpu.h"
#include "tests/quant/kernel_rows.h"

namespace bitloom::test {
namespace {

using quant::test::Library;
using quant::test::QuantizerRow;

class GpuQuant : public OnGpu {};

TEST_F(GpuQuant, QuantizersHaveTheBitsOfTheCpu) {
    for (const QuantizerRow& row : quant::test::quantizer_rows()) quant::test::expect_row(row, gpu, Library::other);
}
TEST_F(GpuQuant, UniformNumbersAreThoseOfTheReference) { quant::test::expect_uniform_stream(gpu, nullptr); }
TEST_F(GpuQuant, FusedNormHasTheBitsOfTheSinglePassesAndAgreesWithTheReference) { quant::test::expect_fused_norm(gpu); }
TEST_F(GpuQuant, Bf16GivesWhatF32GivesRoundedOnce) { quant::test::expect_bf16(gpu); }
TEST_F(GpuQuant, BitPlanesAgreeWithTheReference) { quant::test::expect_bit_planes(gpu); }
TEST_F(GpuQuant, FixedPrecisionAndActivationsAgreeWithTheReference) {
    quant::test::expect_fixed_precision_and_activations(gpu);
}
TEST_F(GpuQuant, TheRegulariserIsThatOfTheCpu) { quant::test::expect_group_lasso(gpu); }
TEST_F(GpuQuant, NoKernelIsMissing) {
    quant::for_each_kernel([](std::string_view name, auto member) { EXPECT_NE(quant::quant_kernels(gpu).*member, nullptr) << name; });
    bsq::for_each_kernel([](std::string_view name, auto member) { EXPECT_NE(bsq::bsq_kernels(gpu).*member, nullptr) << name; });
}

}  // namespace
}  // namespace bitloom::test
