// What is said where a GPU cannot be used; and, where one can, that memory, copies and kernels of the engine work on
// it.

#include "cuda/device.h"

#include <gtest/gtest.h>

#include <numeric>

#include "cuda/backend.h"
#include "engine/error.h"
#include "engine/kernels.h"
#include "engine/tensor.h"

namespace bitloom::cuda {
namespace {

TEST(Device, WhyAGpuCannotBeUsedIsOneClearLine) {
    const Survey good{.driver_version = 13000, .runtime_version = 13000, .gpus = 1, .error = {}};
    EXPECT_EQ(problem_with(good, 0), "");
    EXPECT_EQ(problem_with(good, 1), "device cuda:1: this machine has 1 GPU, cuda:0");
    Survey machine = good;
    machine.gpus = 4;
    EXPECT_EQ(problem_with(machine, 3), "");
    EXPECT_EQ(problem_with(machine, 7), "device cuda:7: this machine has 4 GPUs, cuda:0 to cuda:3");
    machine.gpus = 0;
    EXPECT_EQ(problem_with(machine, 0), "device cuda:0: the NVIDIA driver finds no GPU");
    machine.error = "initialization error";
    EXPECT_EQ(problem_with(machine, 2), "device cuda:2: initialization error");
    machine.driver_version = 12020;
    EXPECT_EQ(problem_with(machine, 0),
              "device cuda:0: the NVIDIA driver is too old: it serves CUDA 12.2, this build needs 13.0 or newer");
    machine.driver_version = 0;
    EXPECT_EQ(problem_with(machine, 5), "device cuda:5: this machine has no NVIDIA driver");
    EXPECT_EQ(problem_with("Tesla T4", 7, 5, 0),
              "device cuda:0: Tesla T4 has compute capability 7.5, this build needs 8.0 or newer");
    EXPECT_EQ(problem_with("A100", 8, 0, 0), "");
    EXPECT_EQ(problem_with("H200", 9, 0, 0), "");
}

TEST(Device, InstallSaysWhyNot) {
    const std::string problem = problem_with(survey(), 999);
    ASSERT_NE(problem, "");
    try {
        install(999);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(error.what(), problem);
    }
}

class Gpu : public testing::Test {
   protected:
    void SetUp() override {
        const std::string problem = problem_with(survey(), 0);
        if (!problem.empty()) GTEST_SKIP() << problem;
        install(0);
    }
    const bitloom::Device gpu{DeviceKind::cuda, 0};
};

TEST_F(Gpu, CopiesOfAllSizesComeBack) {
    for (const std::int64_t count : {1, 1000, 70'000, 1 << 20, (4 << 20) + 13}) {
        std::vector<std::int32_t> values(static_cast<std::size_t>(count));
        std::iota(values.begin(), values.end(), 5);
        Tensor there = Tensor::from<std::int32_t>({count}, values, gpu);
        EXPECT_EQ(there.clone().values<std::int32_t>(), values) << count;
    }
}

TEST_F(Gpu, EngineKernelsGiveWhatTheCpuGives) {
    for (const DType dtype : {DType::f32, DType::f64, DType::bf16}) {
        std::vector<double> results[2];
        for (int where = 0; where < 2; ++where) {
            Tensor a = Tensor::full({5, 777}, 1.25, dtype, where ? gpu : cpu_device),
                   b = Tensor::full({5, 777}, -0.3, dtype, a.device());
            const EngineKernels& kernels = engine_kernels(a.device());
            kernels.add(a, b);
            kernels.scale(a, 1.7);
            EXPECT_TRUE(kernels.all_finite(a));
            results[where] = a.to(DType::f32).values<double>();
        }
        EXPECT_EQ(results[0], results[1]) << name_of(dtype);
    }
}

TEST_F(Gpu, TooLargeAnAllocationIsOneClearLine) {
    try {
        Tensor::empty({std::int64_t{1} << 50}, DType::u8, gpu);
        FAIL();
    } catch (const Error& error) {
        EXPECT_EQ(std::string(error.what()).find("out of memory on cuda:0: asked for "), 0u) << error.what();
    }
    EXPECT_EQ(Tensor::full({3}, 2, DType::f32, gpu).values<float>(), (std::vector<float>{2, 2, 2}))
        << "the GPU goes on";
}

}  // namespace
}  // namespace bitloom::cuda
