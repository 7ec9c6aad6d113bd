// Winograd's convolutions keep the transformed filters of weights: they must follow every change of these.

#include <gtest/gtest.h>

#include "ops/convolution.h"
#include "ops/cpu/simd.h"
#include "ops/cpu/winograd.h"
#include "tests/ops/cpu_compare.h"

namespace bitloom::ops::test {
namespace {

class WinogradWeights : public testing::Test {
   protected:
    void SetUp() override {
        if (cpu::simd_lanes < 16) GTEST_SKIP() << "Winograd's convolutions need registers of 16 floats";
        ASSERT_TRUE(cpu::takes_winograd(g_, DType::f32));
    }
    void expect_reference(const Tensor& weight, const std::string& what) const {
        Tensor y = Tensor::empty(map_), dx = Tensor::empty(map_), expected = Tensor::empty(map_);
        fast().conv2d_forward(g_, x_, weight, nullptr, y);
        slow().conv2d_forward(g_, x_, weight, nullptr, expected);
        expect_same(y, expected, what + " forward");
        fast().conv2d_backward_data(g_, x_, weight, dx);
        slow().conv2d_backward_data(g_, x_, weight, expected);
        expect_same(dx, expected, what + " backward data");
    }
    const Shape map_{9, 8, 8, 32}, shape_{32, 3, 3, 32};
    const Conv2dGeometry g_ = conv2d_geometry(map_, shape_, {.padding = Padding::symmetric(1)});
    const Tensor x_ = integers(map_, 1);
};

TEST_F(WinogradWeights, ChangedInPlace) {
    Tensor weight = integers(shape_, 2);
    for (const std::uint64_t step : {3, 4, 5}) {
        expect_reference(weight, cat("before change ", step));
        weight.copy_from(integers(shape_, step));
    }
    weight.write<float>()[0] += 1;  // as an optimizer writes
    expect_reference(weight, "after one value changed");
}

TEST_F(WinogradWeights, RowsOfOneTensor) {
    const Tensor all = integers({64, 3, 3, 32}, 2);
    for (const std::int64_t first : {0, 32, 0}) expect_reference(all.rows(first, 32), cat("rows from ", first));
}

// More than are kept; memory of dead ones comes back at the same address.
TEST_F(WinogradWeights, ManyThatDie) {
    for (std::uint64_t i = 0; i < 70; ++i) {
        const Tensor weight = integers(shape_, i);
        Tensor y = Tensor::empty(map_), expected = Tensor::empty(map_);
        fast().conv2d_forward(g_, x_, weight, nullptr, y);
        if (i % 10 != 0) continue;
        slow().conv2d_forward(g_, x_, weight, nullptr, expected);
        expect_same(y, expected, cat("weight ", i));
    }
}

}  // namespace
}  // namespace bitloom::ops::test
