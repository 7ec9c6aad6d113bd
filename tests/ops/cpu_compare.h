#pragma once
// What the tests of the cpu kernels share: operands, comparisons, a number of threads.

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>
#include <string>

#include "engine/random.h"
#include "ops/kernels.h"

namespace bitloom::ops::test {

inline const OpKernels& fast() { return cpu_op_kernels(); }
inline const OpKernels& slow() { return reference_op_kernels(); }

/// Small integers, so that every sum is exact.
inline Tensor integers(const Shape& shape, std::uint64_t seed, int low = -3, int high = 3) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "cpu_test");
    float* p = t.write<float>();
    for (std::int64_t i = 0; i < t.numel(); ++i)
        p[i] = static_cast<float>(low + static_cast<int>(rng.below(static_cast<std::uint64_t>(high - low + 1))));
    return t;
}
inline Tensor reals(const Shape& shape, std::uint64_t seed, double low = -1, double high = 1) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "cpu_test");
    fill_uniform(t, low, high, rng);
    return t;
}
inline Tensor poisoned(const Shape& shape, DType dtype = DType::f32) { return Tensor::full(shape, 77, dtype); }

inline void expect_same(const Tensor& actual, const Tensor& expected, const std::string& what) {
    ASSERT_EQ(actual.shape(), expected.shape()) << what;
    const auto a = actual.values<float>(), e = expected.values<float>();
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], e[i]) << what << ", element " << i;
}
inline void expect_near(const Tensor& actual, const Tensor& expected, double relative, double absolute,
                        const std::string& what) {
    const auto a = actual.values<double>(), e = expected.values<double>();
    for (std::size_t i = 0; i < a.size(); ++i)
        ASSERT_NEAR(a[i], e[i], absolute + relative * std::abs(e[i])) << what << ", element " << i;
}

/// Runs the rest of a scope on so many OpenMP threads.
class Threads {
public:
    explicit Threads(int n) : before_(omp_get_max_threads()) { omp_set_num_threads(n); }
    ~Threads() { omp_set_num_threads(before_); }

private:
    int before_;
};

}  // namespace bitloom::ops::test
