// Every kernel of every host device, with its operands in guarded memory: it writes each output whole, nothing beside
// it, none of its inputs, and no result depends on memory beyond an input.

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tests/ops/kernel_calls.h"

namespace bitloom::ops::test {

TEST(KernelSentinels, CoverEveryKernel) {
    std::set<std::string> called;
    for (const Call& call : all_calls()) called.insert(call.kernel);
    int kernels = 0;
    for_each_kernel([&](std::string_view name, auto) {
        ++kernels;
        EXPECT_TRUE(called.contains(std::string(name))) << name << " has no call here";
    });
    EXPECT_EQ(kernels, op_kernel_count);
    EXPECT_EQ(static_cast<int>(called.size()), op_kernel_count);
}

TEST(KernelSentinels, ReferenceF32) { expect_guards_untouched(op_kernels(reference_device), DType::f32, reference_device); }
TEST(KernelSentinels, ReferenceF64) { expect_guards_untouched(op_kernels(reference_device), DType::f64, reference_device); }
TEST(KernelSentinels, ReferenceBf16) { expect_guards_untouched(op_kernels(reference_device), DType::bf16, reference_device); }
TEST(KernelSentinels, CpuF32) { expect_guards_untouched(op_kernels(cpu_device), DType::f32, cpu_device); }
TEST(KernelSentinels, CpuBf16) { expect_guards_untouched(op_kernels(cpu_device), DType::bf16, cpu_device); }

/// The guards themselves: each kind of fault is seen.
TEST(GuardedMemory, SeesEveryKindOfFault) {
    const auto faults = [](auto&& damage) {
        ::testing::TestPartResultArray results;
        {
            ::testing::ScopedFakeTestPartResultReporter reporter(
                ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
            GuardedMemory memory(DType::f32, cpu_device, true);
            Tensor& x = memory.input({3});
            Tensor& y = memory.output({3});
            std::copy_n(x.read<float>(), 3, y.write<float>());
            damage(x.write<float>(), y.write<float>());
            memory.verify();
        }
        return results.size();
    };
    EXPECT_EQ(faults([](float*, float*) {}), 0);
    EXPECT_GE(faults([](float*, float* y) { y[3] = 0; }), 1);
    EXPECT_GE(faults([](float*, float* y) { y[-1] = 0; }), 1);
    EXPECT_GE(faults([](float* x, float*) { x[3] = 0; }), 1);
    EXPECT_GE(faults([](float* x, float*) { x[1] += 1; }), 1);
    EXPECT_GE(faults([](float* x, float* y) { y[2] = x[3]; }), 1);
}

}  // namespace bitloom::ops::test
