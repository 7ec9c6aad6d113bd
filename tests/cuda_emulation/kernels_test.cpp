// Kernels where the rows of tests/ops do not go: every number of Philox, moments that cancel, long sums, NaN, wide loads.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "cuda/ops/fast_divisor.cuh"
#include "cuda/tables.h"
#include "emulation.h"
#include "engine/random.h"
#include "ops/strided.h"

namespace bitloom::cuda::test {
namespace {

using namespace ops;

const OpKernels& fast() { return op_kernel_table(); }
const OpKernels& slow() { return reference_op_kernels(); }

Tensor reals(const Shape& shape, std::uint64_t seed, double low = -1, double high = 1) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "kernels_test");
    fill_uniform(t, low, high, rng);
    return t;
}
Tensor integers(const Shape& shape, std::uint64_t seed, DType dtype = DType::f32) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "kernels_test");
    for (std::int64_t i = 0; i < t.numel(); ++i) t.write<float>()[i] = static_cast<float>(static_cast<int>(rng.below(9)) - 4);
    return t.to(dtype);
}
Tensor poisoned(const Shape& shape, DType dtype = DType::f32) { return Tensor::full(shape, 77, dtype); }
Tensor wide(const Tensor& t) { return t.to(DType::f64); }

void expect_same(const Tensor& actual, const Tensor& expected, const std::string& what) {
    const auto a = actual.values<double>(), e = expected.values<double>();
    ASSERT_EQ(a.size(), e.size()) << what;
    for (std::size_t i = 0; i < a.size(); ++i)
        ASSERT_TRUE(a[i] == e[i] || (std::isnan(a[i]) && std::isnan(e[i]))) << what << ", element " << i << ": " << a[i] << ", expected " << e[i];
}
void expect_near(const Tensor& actual, const Tensor& expected, double relative, double absolute, const std::string& what) {
    const auto a = actual.values<double>(), e = expected.values<double>();
    for (std::size_t i = 0; i < a.size(); ++i)
        ASSERT_NEAR(a[i], e[i], absolute + relative * std::abs(e[i])) << what << ", element " << i;
}

}  // namespace

TEST(EmulatedDropout, DrawsTheStreamOfTheReference) {
    for (const std::int64_t n : {1, 3, 31, 32, 33, 1000, 20001}) {
        const Tensor x = reals({n}, 1);
        for (const double rate : {0.0, 0.3, 0.5, 0.999}) {
            Tensor y = poisoned({n}), y2 = poisoned({n}), y3 = poisoned({n});
            const PhiloxStream s = stream(7, "dropout", 0x123456789abcull);
            fast().dropout(rate, s, x, y);
            slow().dropout(rate, s, x, y2);
            expect_same(y, y2, cat(n, " elements, rate ", rate));
            // The counter in device memory, as a captured step holds it.
            const std::uint64_t counter = 0x123456789a00ull;
            PhiloxStream captured = stream(7, "dropout", 0xbc);
            captured.device_counter = &counter;
            fast().dropout(rate, captured, x, y3);
            expect_same(y3, y2, "counter in device memory");
        }
    }
}

TEST(EmulatedBatchNorm, IsCloseToTheDoubleReference) {
    struct Size {
        std::int64_t rows, channels;
    };
    for (const auto& [rows, channels] : {Size{1, 5}, Size{7, 3}, Size{128, 42}, Size{513, 16}, Size{2049, 24}, Size{1000, 64},
                                         Size{333, 100}, Size{40, 1028}}) {
        const Shape shape{rows, channels}, c{channels};
        const std::string what = cat(shape);
        // A mean of a thousand deviations: sums of squares about zero would leave no digit of the variance.
        const Tensor x = reals(shape, 1, 999, 1001), r = reals(shape, 2), gamma = reals(c, 3, 0.5, 2), beta = reals(c, 4),
                     dy = reals(shape, 5);
        Tensor y = poisoned(shape), mean = poisoned(c), variance = poisoned(c), dx = poisoned(shape), dr = poisoned(shape),
               dg = poisoned(c), db = poisoned(c);
        Tensor y2 = wide(y), mean2 = wide(mean), variance2 = wide(mean), dx2 = wide(y), dr2 = wide(y), dg2 = wide(mean),
               db2 = wide(mean);
        fast().batch_norm_forward(x, gamma, beta, &r, 1e-3, NormEpilogue::relu, y, mean, variance);
        const Tensor wr = wide(r);
        slow().batch_norm_forward(wide(x), wide(gamma), wide(beta), &wr, 1e-3, NormEpilogue::relu, y2, mean2, variance2);
        expect_near(mean, mean2, 1e-7, 0, what + " mean");
        expect_near(variance, variance2, 1e-5, 1e-6, what + " variance");
        expect_near(y, y2, 1e-3, 1e-3, what + " y");  // one bit of x is 6e-5
        // Backward from the same saved tensors.
        const Tensor y_saved = y2.to(DType::f32), mean_saved = mean2.to(DType::f32), variance_saved = variance2.to(DType::f32);
        const Tensor wy = wide(y_saved);
        fast().batch_norm_backward(dy, x, &y_saved, gamma, mean_saved, variance_saved, 1e-3, NormEpilogue::relu, &dx, &dr, dg, db);
        slow().batch_norm_backward(wide(dy), wide(x), &wy, wide(gamma), wide(mean_saved), wide(variance_saved), 1e-3,
                                   NormEpilogue::relu, &dx2, &dr2, dg2, db2);
        expect_near(db, db2, 1e-5, 1e-4, what + " dbeta");
        expect_near(dg, dg2, 1e-4, 1e-3, what + " dgamma");
        expect_near(dr, dr2, 0, 0, what + " dresidual");
        expect_near(dx, dx2, 1e-4, 1e-4, what + " dx");
        if (HasFatalFailure()) return;
    }
}

TEST(EmulatedBatchNorm, PassesNotANumberOn) {
    Tensor x = Tensor::zeros({8, 4}), y = poisoned({8, 4});
    const Tensor ones = Tensor::full({4}, 1);
    Tensor mean = Tensor::full({4}, NAN);
    fast().batch_norm_inference(x, ones, ones, nullptr, mean, ones, 1e-3, NormEpilogue::relu, y);
    for (const float v : y.values<float>()) ASSERT_TRUE(std::isnan(v));
}

TEST(EmulatedBias, SumsLongColumns) {
    for (const Shape& shape : {Shape{5000, 16}, Shape{3001, 10}, Shape{70, 300}, Shape{0, 8}}) {
        const Tensor dy = integers(shape, 1);
        Tensor db = poisoned({shape[1]}), db2 = poisoned({shape[1]});
        fast().bias_backward(dy, db);
        slow().bias_backward(dy, db2);
        expect_same(db, db2, cat(shape));
    }
}

TEST(EmulatedReduction, EqualsReferenceOverAllAxes) {
    for (const Shape& shape : {Shape{3, 20, 5, 33}, Shape{1, 700, 3}, Shape{4000}, Shape{2, 1, 66, 40}}) {
        const Tensor x = integers(shape, 2);
        for (std::uint32_t axes = 1; axes < 1u << shape.rank(); ++axes) {
            Shape out = shape;
            for (int axis = 0; axis < shape.rank(); ++axis)
                if (axes >> axis & 1) out.set(axis, 1);
            const std::string what = cat(shape, " axes ", axes);
            Tensor y = poisoned(out), y2 = poisoned(out), at = poisoned(out, DType::i32), at2 = poisoned(out, DType::i32);
            fast().reduce_sum(axes, 0.25, x, y);
            slow().reduce_sum(axes, 0.25, x, y2);
            expect_same(y, y2, what + " sum");
            fast().reduce_max(axes, x, y, &at);
            slow().reduce_max(axes, x, y2, &at2);
            expect_same(y, y2, what + " maximum");
            expect_same(at, at2, what + " argmax");
            Tensor dx = poisoned(shape), dx2 = poisoned(shape);
            fast().reduce_max_backward(axes, y, at, dx);
            slow().reduce_max_backward(axes, y2, at2, dx2);
            expect_same(dx, dx2, what + " maximum backward");
            if (HasFatalFailure()) return;
        }
    }
}

TEST(EmulatedReduction, TreatsNotANumberAsTheReference) {
    Tensor x = integers({6, 50}, 3);
    float* p = x.write<float>();
    p[0] = NAN;             // first: it stays
    p[50 + 20] = NAN;       // later: never greater
    p[2 * 50 + 49] = NAN;   // last
    for (int i = 0; i < 50; ++i) p[3 * 50 + i] = -INFINITY;
    for (int i = 0; i < 50; ++i) p[4 * 50 + i] = NAN;
    Tensor y = poisoned({6}), y2 = poisoned({6}), at = poisoned({6}, DType::i32), at2 = poisoned({6}, DType::i32);
    fast().reduce_max(2, x, y, &at);
    slow().reduce_max(2, x, y2, &at2);
    expect_same(y, y2, "maximum");
    expect_same(at, at2, "argmax");
}

TEST(EmulatedShaping, CopiesAsTheReference) {
    for (const DType dtype : {DType::u8, DType::bf16, DType::f32, DType::f64}) {
        const Shape shape{3, 10, 6, 16};
        const Tensor x = integers(shape, 1).to(dtype == DType::u8 ? DType::f32 : dtype);
        const Tensor bytes = dtype == DType::u8 ? Tensor::full(shape, 7, DType::u8) : x;
        const Tensor& source = dtype == DType::u8 ? bytes : x;
        std::array<int, 4> order{0, 1, 2, 3};
        do {
            Shape out;
            for (const int axis : order) out.append(shape[axis]);
            const Strides own = row_major_strides(shape);
            Strides strides{};
            for (std::size_t i = 0; i < 4; ++i) strides[i] = own[static_cast<std::size_t>(order[i])];
            const StridedCopy copy = make_strided_copy("test", out, strides, row_major_strides(out));
            Tensor y = poisoned(out, dtype), y2 = poisoned(out, dtype);
            fast().strided_copy(copy, source, y);
            slow().strided_copy(copy, source, y2);
            expect_same(y, y2, cat("permuted to ", out));
        } while (std::next_permutation(order.begin(), order.end()));
        // Padding and slicing: offsets that allow packs of some widths and not of others.
        for (const std::int64_t offset : {0, 1, 2, 4, 8}) {
            StridedCopy copy = make_strided_copy("test", {3, 10, 6, 8}, row_major_strides(shape), row_major_strides(Shape{3, 10, 6, 8}));
            copy.source_offset = offset;
            Tensor y = poisoned({3, 10, 6, 8}, dtype), y2 = poisoned({3, 10, 6, 8}, dtype);
            fast().strided_copy(copy, source, y);
            slow().strided_copy(copy, source, y2);
            expect_same(y, y2, cat("slice from ", offset));
        }
    }
}

TEST(EmulatedPointwise, PassesNotANumberOn) {
    const Tensor x = Tensor::full({37}, NAN);
    Tensor y = poisoned({37});
    for (int op = 0; op < static_cast<int>(UnaryOp::count); ++op) {
        fast().unary_forward(static_cast<UnaryOp>(op), 0.1, 0.5, x, y);
        for (const float v : y.values<float>()) ASSERT_TRUE(std::isnan(v)) << unary_names[static_cast<std::size_t>(op)];
    }
}

TEST(EmulatedLoss, ALabelOutsideTheClassesMakesTheLossNaN) {
    const Tensor logits = reals({3, 5}, 1);
    const Tensor labels = Tensor::from<std::int32_t>({3}, std::vector<std::int32_t>{0, 5, -1});
    Tensor losses = poisoned({3});
    fast().cross_entropy_forward(logits, labels, losses, nullptr);
    const auto values = losses.values<float>();
    EXPECT_TRUE(std::isfinite(values[0]));
    EXPECT_TRUE(std::isnan(values[1]));
    EXPECT_TRUE(std::isnan(values[2]));
}

TEST(FastDivisor, EqualsDivision) {
    Rng rng(5, "divisors");
    for (int i = 0; i < 20000; ++i) {
        const int divisor = i < 3000 ? i + 1 : static_cast<int>(1 + rng.below(0x7fffffff));
        const FastDivisor fast_divisor(divisor);
        for (const int n : {0, 1, divisor - 1, divisor, static_cast<int>(rng.below(0x80000000u)), 0x7fffffff})
            ASSERT_EQ(fast_divisor.quotient(n), n / divisor) << n << " / " << divisor;
    }
}

}  // namespace bitloom::cuda::test
