// The fused optimizer step beside the CPU's, bit for bit.

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "cuda/tables.h"
#include "engine/random.h"
#include "engine/tensor.h"

namespace bitloom::cuda::test {
namespace {

/// Two equal sets of parameters of several sizes and both types, one misaligned, with state.
struct Parameters {
    std::vector<Tensor> memory;
    std::vector<OptimRow> rows;

    Parameters() {
        std::uint64_t seed = 0;
        for (const DType dtype : {DType::f32, DType::f64}) {
            for (const std::int64_t count : {1, 3, 4, 257, 1029, 5000}) {
                OptimRow row;
                row.dtype = dtype;
                row.count = count;
                row.value = make(count, dtype, ++seed, -1, 1);
                row.gradient = make(count, dtype, ++seed, -1, 1);
                for (void*& state : row.state) state = make(count, dtype, ++seed, 0, 1);
                row.learning_rate = 0.01 * static_cast<double>(seed);
                row.weight_decay = count % 2 ? 0 : 1e-3;
                row.step = static_cast<std::int64_t>(seed);
                rows.push_back(row);
            }
        }
    }
    void* make(std::int64_t count, DType dtype, std::uint64_t seed, double low, double high) {
        Tensor values = Tensor::empty({count + 1}, dtype);
        Rng rng(seed, "optimizer");
        fill_uniform(values, low, high, rng);
        memory.push_back(values);
        return memory.back().rows(count == 257 ? 1 : 0, count).raw_write();
    }
};

void expect_same_steps(const std::function<void(const OptimKernels&, const OptimRows&)>& step, const std::string& what) {
    Parameters host, device;
    for (int i = 0; i < 3; ++i) {
        step(cpu_optim_kernels, OptimRows(host.rows));
        OptimRows rows(device.rows);
        rows.device = device.rows.data();
        step(optim_kernel_table(), rows);
        for (std::size_t k = 0; k < host.memory.size(); ++k) {
            const auto expected = host.memory[k].values<double>(), actual = device.memory[k].values<double>();
            for (std::size_t e = 0; e < expected.size(); ++e)
                ASSERT_EQ(expected[e], actual[e]) << what << ", step " << i << ", tensor " << k << ", element " << e;
        }
        for (OptimRow& row : host.rows) ++row.step;
        for (OptimRow& row : device.rows) ++row.step;
    }
}

}  // namespace

TEST(EmulatedOptimizer, StepsAsTheCpu) {
    for (const Convention convention : {Convention::pytorch, Convention::keras}) {
        const std::string who = convention == Convention::pytorch ? "PyTorch" : "Keras";
        for (const bool flag : {false, true}) {
            for (const double momentum : {0.0, 0.9}) {
                expect_same_steps([&](const OptimKernels& k, const OptimRows& r) { k.sgd(r, {momentum, flag, convention}); },
                                  cat(who, " SGD, momentum ", momentum, ", Nesterov ", flag));
                expect_same_steps([&](const OptimKernels& k, const OptimRows& r) { k.rmsprop(r, {0.9, momentum, 1e-7, convention}); },
                                  cat(who, " RMSprop, momentum ", momentum));
            }
            expect_same_steps([&](const OptimKernels& k, const OptimRows& r) { k.adam(r, {0.9, 0.999, 1e-8, flag, convention}); },
                              cat(who, " Adam, AMSGrad ", flag));
        }
    }
}

TEST(EmulatedOptimizer, UpdatesNothingWhileHalted) {
    Parameters device;
    const Parameters untouched;
    std::int32_t halted = 1;
    OptimRows rows(device.rows);
    rows.device = device.rows.data();
    rows.halted = &halted;
    optim_kernel_table().adam(rows, {});
    for (std::size_t k = 0; k < untouched.memory.size(); ++k)
        EXPECT_EQ(device.memory[k].values<double>(), untouched.memory[k].values<double>());
    halted = 0;
    optim_kernel_table().adam(rows, {});
    EXPECT_NE(device.memory[0].values<double>(), untouched.memory[0].values<double>());
}

TEST(EmulatedOptimizer, RefusesRowsThatAreNotOnTheDevice) {
    Parameters parameters;
    EXPECT_THROW(optim_kernel_table().sgd(OptimRows(parameters.rows), {}), Error);
}

}  // namespace bitloom::cuda::test
