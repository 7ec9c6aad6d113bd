// The cpu kernels against the reference kernels where op_table_test does not go: shapes large enough for threads and
// for every width of vector, moments that cancel. (Convolutions: cpu_convolution_test.cpp.)

#include <algorithm>

#include "ops/pooling.h"
#include "ops/strided.h"
#include "tests/ops/cpu_compare.h"

namespace bitloom::ops::test {
namespace {

TEST(CpuDense, EqualsReference) {
    for (const auto& [b, in, out] :
         {std::array<std::int64_t, 3>{128, 96, 42}, {1, 7, 5}, {3, 1, 1}, {130, 33, 17}, {2, 0, 3}}) {
        const Tensor x = integers({b, in}, 1), w = integers({out, in}, 2), bias = integers({out}, 3),
                     dy = integers({b, out}, 4);
        const std::string what = cat(b, " x ", in, " x ", out);
        Tensor y = poisoned({b, out}), y2 = poisoned({b, out}), dx = poisoned({b, in}), dx2 = poisoned({b, in});
        Tensor dw = poisoned({out, in}), dw2 = poisoned({out, in}), db = poisoned({out}), db2 = poisoned({out});
        for (const Tensor* with : {&bias, static_cast<const Tensor*>(nullptr)}) {
            fast().dense_forward(x, w, with, y);
            slow().dense_forward(x, w, with, y2);
            expect_same(y, y2, what + " forward");
            for (const NormEpilogue epilogue : {NormEpilogue::none, NormEpilogue::relu}) {
                fast().dense_inference(x, w, with, epilogue, y);
                slow().dense_inference(x, w, with, epilogue, y2);
                expect_same(y, y2, what + " inference");
            }
        }
        fast().dense_backward_data(dy, w, dx);
        slow().dense_backward_data(dy, w, dx2);
        expect_same(dx, dx2, what + " backward data");
        fast().dense_backward_weights(x, dy, dw, &db);
        slow().dense_backward_weights(x, dy, dw2, &db2);
        expect_same(dw, dw2, what + " backward weights");
        expect_same(db, db2, what + " bias gradient");
    }
}

/// Every case of rows and channels: odd counts, one register, several, more rows than one block, with threads.
struct NormShape {
    std::int64_t rows, channels;
};
const std::vector<NormShape> norm_shapes = {{1, 5},     {7, 3},     {128, 42},  {513, 16},
                                            {2049, 24}, {1000, 64}, {9000, 32}, {333, 100}};

Tensor as_double(const Tensor& t) { return t.to(DType::f64); }

TEST(CpuBatchNorm, IsCloseToTheDoubleReference) {
    const Threads two(2);
    for (const auto& [rows, channels] : norm_shapes) {
        for (const bool residual : {false, true}) {
            for (const auto epilogue : {NormEpilogue::none, NormEpilogue::relu}) {
                const Shape shape{rows, channels}, c{channels};
                const std::string what = cat(shape, " residual ", residual, " relu ", epilogue == NormEpilogue::relu);
                const Tensor x = reals(shape, 1, -1, 3), r = reals(shape, 2), gamma = reals(c, 3, 0.5, 2),
                             beta = reals(c, 4);
                const Tensor dy = reals(shape, 5);
                Tensor y = poisoned(shape), mean = poisoned(c), variance = poisoned(c);
                fast().batch_norm_forward(x, gamma, beta, residual ? &r : nullptr, 1e-3, epilogue, y, mean, variance);
                const Tensor x64 = as_double(x), r64 = as_double(r), gamma64 = as_double(gamma), dy64 = as_double(dy);
                Tensor y2 = Tensor::empty(shape, DType::f64), mean2 = Tensor::empty(c, DType::f64),
                       variance2 = Tensor::empty(c, DType::f64);
                slow().batch_norm_forward(x64, gamma64, as_double(beta), residual ? &r64 : nullptr, 1e-3, epilogue, y2,
                                          mean2, variance2);
                expect_near(mean, mean2, 1e-6, 1e-7, what + " mean");
                expect_near(variance, variance2, 2e-6, 1e-7, what + " variance");
                expect_near(y, y2, 1e-5, 2e-6, what + " y");

                Tensor dx = poisoned(shape), dr = poisoned(shape), dgamma = poisoned(c), dbeta = poisoned(c);
                Tensor dx2 = Tensor::empty(shape, DType::f64), dr2 = dx2.clone(),
                       dgamma2 = Tensor::empty(c, DType::f64), dbeta2 = dgamma2.clone();
                const Tensor mask64 = as_double(y);  // the same mask for both, whatever rounding does near 0
                fast().batch_norm_backward(dy, x, &y, gamma, mean, variance, 1e-3, epilogue, &dx,
                                           residual ? &dr : nullptr, dgamma, dbeta);
                slow().batch_norm_backward(dy64, x64, &mask64, gamma64, as_double(mean), as_double(variance), 1e-3,
                                           epilogue, &dx2, residual ? &dr2 : nullptr, dgamma2, dbeta2);
                const double sums = 1e-6 * static_cast<double>(rows);
                expect_near(dgamma, dgamma2, 1e-5, 1e-6 + sums, what + " dgamma");
                expect_near(dbeta, dbeta2, 1e-5, 1e-6 + sums, what + " dbeta");
                expect_near(dx, dx2, 1e-4, 1e-5, what + " dx");
                if (residual) expect_near(dr, dr2, 0, 0, what + " dresidual");
            }
        }
    }
}

TEST(CpuBatchNorm, InferenceIsCloseToTheDoubleReference) {
    const Shape shape{700, 20}, c{20};
    const Tensor x = reals(shape, 1), gamma = reals(c, 2), beta = reals(c, 3), mean = reals(c, 4),
                 variance = reals(c, 5, 0.1, 2);
    const Tensor dy = reals(shape, 6);
    Tensor y = poisoned(shape), y2 = Tensor::empty(shape, DType::f64);
    fast().batch_norm_inference(x, gamma, beta, nullptr, mean, variance, 1e-5, NormEpilogue::relu, y);
    slow().batch_norm_inference(as_double(x), as_double(gamma), as_double(beta), nullptr, as_double(mean),
                                as_double(variance), 1e-5, NormEpilogue::relu, y2);
    expect_near(y, y2, 1e-5, 1e-6, "y");
    Tensor dx = poisoned(shape), dr = poisoned(shape), dgamma = poisoned(c), dbeta = poisoned(c);
    Tensor dx2 = Tensor::empty(shape, DType::f64), dr2 = dx2.clone(), dgamma2 = Tensor::empty(c, DType::f64),
           dbeta2 = dgamma2.clone();
    const Tensor mask = as_double(y);
    fast().batch_norm_inference_backward(dy, x, &y, gamma, mean, variance, 1e-5, NormEpilogue::relu, &dx, &dr, dgamma,
                                         dbeta);
    slow().batch_norm_inference_backward(as_double(dy), as_double(x), &mask, as_double(gamma), as_double(mean),
                                         as_double(variance), 1e-5, NormEpilogue::relu, &dx2, &dr2, dgamma2, dbeta2);
    expect_near(dx, dx2, 1e-5, 1e-6, "dx");
    expect_near(dr, dr2, 0, 0, "dresidual");
    expect_near(dgamma, dgamma2, 1e-5, 1e-4, "dgamma");
    expect_near(dbeta, dbeta2, 1e-5, 1e-4, "dbeta");
}

TEST(CpuBatchNorm, VarianceSurvivesALargeMean) {
    // Far from 0 with a small spread, and with a first row that lies far from all others.
    for (const double outlier : {0.0, 50.0}) {
        const Shape shape{20000, 16};
        Tensor x = reals(shape, 1, 1000, 1001);
        float* p = x.write<float>();
        for (int c = 0; c < 16; ++c) p[c] += static_cast<float>(outlier);
        Tensor y = Tensor::empty(shape), mean = Tensor::empty({16}), variance = Tensor::empty({16});
        const Tensor gamma = Tensor::full({16}, 1), beta = Tensor::zeros({16});
        fast().batch_norm_forward(x, gamma, beta, nullptr, 1e-5, NormEpilogue::none, y, mean, variance);
        const auto v = x.values<double>();
        for (std::size_t c = 0; c < 16; ++c) {
            double m = 0, s = 0;
            for (std::size_t r = 0; r < 20000; ++r) m += v[r * 16 + c] / 20000;
            for (std::size_t r = 0; r < 20000; ++r) s += (v[r * 16 + c] - m) * (v[r * 16 + c] - m) / 20000;
            EXPECT_NEAR(mean.values<double>()[c] / m, 1, 1e-7);
            EXPECT_NEAR(variance.values<double>()[c] / s, 1, 2e-6) << "outlier " << outlier;
        }
    }
}

TEST(CpuPooling, EqualsReference) {
    const Threads two(2);
    const std::vector<Pool2dOptions> all = {
        {},
        {.window_h = 3, .window_w = 3, .stride_h = 3, .stride_w = 3},
        {.window_h = 3, .window_w = 3, .stride_h = 2, .stride_w = 2, .padding = Padding::symmetric(1)},
        {.window_h = 2, .window_w = 3, .stride_h = 1, .stride_w = 2, .padding = {0, 1, 1, 2}},
        {.window_h = 2, .window_w = 2, .stride_h = 3, .stride_w = 3},
        {.window_h = 2, .window_w = 2, .stride_h = 2, .stride_w = 2, .padding = {0, 1, 0, 1}},
        {.window_h = 13, .window_w = 11, .stride_h = 1, .stride_w = 1},
    };
    for (const std::int64_t channels : {1, 3, 16, 24, 42, 64}) {
        for (std::size_t i = 0; i < all.size(); ++i) {
            const Shape x_shape{5, 13, 11, channels};
            const Pool2dGeometry g = pool2d_geometry(x_shape, all[i]);
            const Shape y_shape{g.batch, g.out_h, g.out_w, g.channels};
            const std::string what = cat("options ", i, ", ", channels, " channels");
            const Tensor x = integers(x_shape, 1), dy = integers(y_shape, 2, -9, 9);  // many ties
            Tensor y = poisoned(y_shape), y2 = poisoned(y_shape), at = poisoned(y_shape, DType::u8),
                   at2 = poisoned(y_shape, DType::u8);
            Tensor dx = poisoned(x_shape), dx2 = poisoned(x_shape);
            fast().max_pool2d_forward(g, x, y, &at);
            slow().max_pool2d_forward(g, x, y2, &at2);
            expect_same(y, y2, what + " max");
            expect_same(at, at2, what + " argmax");
            y.fill(77);
            fast().max_pool2d_forward(g, x, y, nullptr);
            expect_same(y, y2, what + " max, inference");
            fast().max_pool2d_backward(g, dy, at, dx);
            slow().max_pool2d_backward(g, dy, at, dx2);
            expect_same(dx, dx2, what + " max backward");
            for (const bool include_pad : {false, true}) {
                fast().avg_pool2d_forward(g, include_pad, x, y);
                slow().avg_pool2d_forward(g, include_pad, x, y2);
                expect_same(y, y2, what + " average");
                fast().avg_pool2d_backward(g, include_pad, dy, dx);
                slow().avg_pool2d_backward(g, include_pad, dy, dx2);
                expect_same(dx, dx2, what + " average backward");
            }
        }
    }
}

TEST(CpuBinary, BroadcastsAsTheReference) {
    const Threads two(2);
    Rng rng(9, "shapes");
    for (int i = 0; i < 80; ++i) {
        // The last cases are large enough for threads.
        const std::int64_t scale = i < 70 ? 1 : 16;
        const int rank = 1 + static_cast<int>(rng.below(4));
        Shape a, b, y;
        for (int axis = 0; axis < rank; ++axis) {
            const std::int64_t extent = 1 + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(9 * scale)));
            const auto kind = rng.below(4);
            a.append(kind == 0 ? 1 : extent);
            b.append(kind == 1 ? 1 : extent);
            y.append(extent);
        }
        const Tensor left = integers(a, 1, 1, 9), right = integers(b, 2, 1, 9);
        for (int op = 0; op < static_cast<int>(BinaryOp::count); ++op) {
            Tensor out = poisoned(y), expected = poisoned(y);
            fast().binary_forward(static_cast<BinaryOp>(op), left, right, out);
            slow().binary_forward(static_cast<BinaryOp>(op), left, right, expected);
            expect_same(out, expected, cat(binary_names[static_cast<std::size_t>(op)], " ", a, " ", b));
            if (HasFatalFailure()) return;
        }
    }
}

TEST(CpuReduction, EqualsReference) {
    const Threads two(2);
    for (const Shape& shape :
         {Shape{5}, Shape{3, 7}, Shape{4, 5, 6}, Shape{2, 3, 4, 5}, Shape{1, 9, 1, 17}, Shape{70, 33, 40}}) {
        const Tensor x = integers(shape, 3, -5, 5);
        for (std::uint32_t axes = 1; axes < 1u << shape.rank(); ++axes) {
            Shape out = shape;
            for (int axis = 0; axis < shape.rank(); ++axis)
                if (axes >> axis & 1) out.set(axis, 1);
            const std::string what = cat(shape, " axes ", axes);
            Tensor y = poisoned(out), y2 = poisoned(out), at = poisoned(out, DType::i32),
                   at2 = poisoned(out, DType::i32);
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

TEST(CpuShaping, CopiesAsTheReference) {
    const Threads two(2);
    const Shape shape{6, 20, 30, 16};
    const Tensor x = integers(shape, 1, -1000, 1000);
    std::array<int, 4> order{0, 1, 2, 3};
    do {
        Shape out;
        for (const int axis : order) out.append(shape[axis]);
        const Strides own = row_major_strides(shape);
        Strides source{};
        for (std::size_t i = 0; i < 4; ++i) source[i] = own[static_cast<std::size_t>(order[i])];
        const StridedCopy copy = make_strided_copy("test", out, source, row_major_strides(out));
        Tensor y = poisoned(out), y2 = poisoned(out);
        fast().strided_copy(copy, x, y);
        slow().strided_copy(copy, x, y2);
        expect_same(y, y2, cat("permuted to ", out));
    } while (std::next_permutation(order.begin(), order.end()));
}

TEST(CpuDropout, DrawsTheStreamOfTheReference) {
    const Threads two(2);
    for (const std::int64_t n : {1, 3, 31, 32, 33, 1000, 70001}) {
        const Tensor x = reals({n}, 1);
        for (const double rate : {0.0, 0.3, 0.5, 0.999}) {
            Tensor y = poisoned({n}), y2 = poisoned({n});
            const PhiloxStream s = stream(7, "dropout", 0x123456789abcull);
            fast().dropout(rate, s, x, y);
            slow().dropout(rate, s, x, y2);
            expect_same(y, y2, cat(n, " elements, rate ", rate));
        }
    }
}

TEST(CpuPointwise, PassesNotANumberOn) {
    const Tensor x = Tensor::full({37}, NAN);
    Tensor y = poisoned({37});
    for (int op = 0; op < static_cast<int>(UnaryOp::count); ++op) {
        fast().unary_forward(static_cast<UnaryOp>(op), 0.1, 0.5, x, y);
        for (const float v : y.values<float>()) ASSERT_TRUE(std::isnan(v)) << unary_names[static_cast<std::size_t>(op)];
    }
}

TEST(CpuPointwise, EqualsReferenceOnLongVectors) {
    const Threads two(2);
    const Shape shape{40003};
    const Tensor x = reals(shape, 1, -3, 3), positive = reals(shape, 2, 0.1, 8), dy = reals(shape, 3);
    for (int i = 0; i < static_cast<int>(UnaryOp::count); ++i) {
        const auto op = static_cast<UnaryOp>(i);
        const Tensor& in = op == UnaryOp::log || op == UnaryOp::sqrt ? positive : x;
        const std::string what(unary_names[static_cast<std::size_t>(i)]);
        Tensor y = poisoned(shape), y2 = poisoned(shape), dx = poisoned(shape), dx2 = poisoned(shape);
        fast().unary_forward(op, 0.1, 0.5, in, y);
        slow().unary_forward(op, 0.1, 0.5, in, y2);
        expect_near(y, y2, 2e-7, 1e-7, what);
        fast().unary_backward(op, 0.1, 0.5, in, y2, dy, dx);
        slow().unary_backward(op, 0.1, 0.5, in, y2, dy, dx2);
        expect_near(dx, dx2, 5e-7, 2e-7, what + " backward");
    }
}

}  // namespace
}  // namespace bitloom::ops::test
