// Winograd's convolutions: the transformed filters of weights that they keep must follow every change of these; and bf16.

#include <gtest/gtest.h>

#include "ops/convolution.h"
#include "ops/cpu/onednn.h"
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

// Integers that every transform keeps exact, filters of multiples of 4 since these are divided by 4: bf16 then rounds nothing
// but the results of the two passes whose results are bf16.
TEST(WinogradBf16, EqualsTheReferenceOnIntegers) {
    if (cpu::simd_lanes < 16 || !cpu::onednn::multiplies_bf16()) GTEST_SKIP() << "this CPU multiplies no bf16";
    struct Case {
        Shape x;
        std::int64_t out, pad;
    };
    // Odd and even numbers of tiles, which are multiplied in pairs; maps that tiles reach beyond.
    for (const auto& [x_shape, out, pad] : {Case{{9, 5, 5, 32}, 32, 1}, {{7, 6, 6, 64}, 32, 1}, {{8, 6, 8, 32}, 64, 1}, {{11, 7, 9, 32}, 48, 0}}) {
        const Shape w_shape{out, 3, 3, x_shape[3]};
        const Conv2dGeometry g = conv2d_geometry(x_shape, w_shape, {.padding = Padding::symmetric(pad)});
        if (!cpu::takes_winograd(g, DType::bf16)) GTEST_SKIP() << "bf16 goes to AMX here";
        const Shape y_shape{g.batch, g.out_h, g.out_w, g.out_c};
        const Tensor x = integers(x_shape, 1), dy = integers(y_shape, 2);
        Tensor weight = integers(w_shape, 3, -2, 2);
        for (float& w : std::span(weight.write<float>(), static_cast<std::size_t>(weight.numel()))) w *= 4;
        const std::string what = cat(x_shape, " to ", out, " channels");

        Tensor y = Tensor::empty(y_shape, DType::bf16), expected_y = Tensor::empty(y_shape);
        fast().conv2d_forward(g, x.to(DType::bf16), weight, nullptr, y);
        slow().conv2d_forward(g, x, weight, nullptr, expected_y);
        expect_same(y.to(DType::f32), expected_y.to(DType::bf16).to(DType::f32), what + " forward");

        Tensor dx = Tensor::empty(x_shape, DType::bf16), expected_dx = Tensor::empty(x_shape);
        fast().conv2d_backward_data(g, dy.to(DType::bf16), weight, dx);
        slow().conv2d_backward_data(g, dy, weight, expected_dx);
        expect_same(dx.to(DType::f32), expected_dx.to(DType::bf16).to(DType::f32), what + " backward data");

        Tensor dw = Tensor::empty(w_shape), expected_dw = Tensor::empty(w_shape);
        fast().conv2d_backward_weights(g, x.to(DType::bf16), dy.to(DType::bf16), dw, nullptr);
        slow().conv2d_backward_weights(g, x, dy, expected_dw, nullptr);
        expect_same(dw, expected_dw, what + " backward weights");
    }
}

}  // namespace
}  // namespace bitloom::ops::test
