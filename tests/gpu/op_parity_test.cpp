// Every row of tests/ops on the GPU, forward and backward, with the tolerances of the CUDA backend: bit for bit on small
// integers; relative L2 error against the double reference of 1e-6 sqrt(max(1, n / 1000)) in fp32, n the length of the
// longest sum, 1e-3 in TF32, 5e-3 in bf16; the same bits in two runs.

#include "ops/convolution_algorithm.h"
#include "ops/precision.h"
#include "tests/gpu/gpu.h"
#include "tests/ops/parity.h"

namespace bitloom::test {
namespace {

using namespace ops::test;

const std::vector<OpCase>& cases() {
    static const std::vector<OpCase> all = all_cases();
    return all;
}
std::string row_name(const ::testing::TestParamInfo<OpCase>& info) { return info.param.op + "_" + info.param.name; }

bool convolves(const OpCase& c) { return c.op == "conv2d" || c.op == "conv2d_transpose"; }

/// Calls check once, for convolutions once an algorithm.
template <class Check>
void by_every_algorithm(const OpCase& c, Check&& check) {
    if (!convolves(c)) return check();
    for (const std::string& name : ops::convolution_algorithm_names()) {
        SCOPED_TRACE(name);
        ops::use_convolution_algorithm(name);
        check();
    }
    ops::use_convolution_algorithm("auto");
}

class GpuOps : public OnGpu, public ::testing::WithParamInterface<OpCase> {
   protected:
    void TearDown() override { ops::use_convolution_algorithm("auto"); }
};

TEST_P(GpuOps, EqualsReferenceOnIntegers) {
    const OpCase& c = GetParam();
    if (!c.exact_on_integers) return;
    by_every_algorithm(c, [&] {
        expect_integer_parity(c, DType::f32, gpu);
        if (c.in_bf16) expect_integer_parity(c, DType::bf16, gpu);
    });
}

TEST_P(GpuOps, IsCloseToDoubleReference) {
    by_every_algorithm(GetParam(), [&] { expect_real_parity(GetParam(), gpu, 1e-6); });
}

TEST_P(GpuOps, IsCloseToDoubleReferenceInBf16) {
    if (GetParam().in_bf16) by_every_algorithm(GetParam(), [&] { expect_bf16_parity(GetParam(), gpu); });
}

TEST_P(GpuOps, IsCloseToDoubleReferenceInTf32) {
    const OpCase& c = GetParam();
    if (!convolves(c) && c.op != "dense") return;  // no products in the others
    ops::use_precision("tf32", gpu);
    by_every_algorithm(c, [&] { expect_real_parity(c, gpu, 1e-3); });
    ops::use_precision("fp32", gpu);
}

TEST_P(GpuOps, GivesTheSameBitsTwice) {
    const OpCase& c = GetParam();
    for (const DType dtype : {DType::f32, DType::bf16}) {
        if (dtype == DType::bf16 && !c.in_bf16) continue;
        by_every_algorithm(c, [&] {
            const auto first = run(c, dtype, gpu, real_input, real_seed), second = run(c, dtype, gpu, real_input, real_seed);
            for (std::size_t k = 0; k < first.size(); ++k)
                EXPECT_EQ(first[k].values, second[k].values) << name_of(dtype) << ", " << first[k].name;
        });
    }
}

INSTANTIATE_TEST_SUITE_P(Ops, GpuOps, ::testing::ValuesIn(cases()), row_name);

}  // namespace
}  // namespace bitloom::test
