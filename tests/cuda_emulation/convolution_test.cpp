// The convolution kernels beyond the rows of tests/ops: shapes of the networks at small batches, random geometries, every
// algorithm that the emulation has, every precision.

#include <gtest/gtest.h>

#include <cmath>

#include "cuda/ops/im2col.h"
#include "cuda/ops/implicit_gemm.h"
#include "cuda/tables.h"
#include "emulation.h"
#include "engine/random.h"
#include "ops/convolution.h"
#include "ops/precision.h"

namespace bitloom::cuda::test {
namespace {

using ops::Conv2dGeometry;
using ops::NormEpilogue;

/// Small integers: every sum is exact in f32, every factor in bf16 and TF32.
Tensor integers(const Shape& shape, std::uint64_t seed, DType dtype = DType::f32) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "cuda emulation");
    for (float& v : std::span(t.write<float>(), static_cast<std::size_t>(t.numel())))
        v = static_cast<float>(static_cast<int>(rng.below(7)) - 3);
    return t.to(dtype);
}
Tensor reals(const Shape& shape, std::uint64_t seed) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "cuda emulation");
    fill_uniform(t, -1, 1, rng);
    return t;
}
Tensor poisoned(const Shape& shape, DType dtype = DType::f32) { return Tensor::full(shape, NAN, dtype); }

void expect_same(const Tensor& actual, const Tensor& expected, const std::string& what) {
    const auto a = actual.values<float>(), e = expected.values<float>();
    ASSERT_EQ(a.size(), e.size());
    for (std::size_t i = 0; i < a.size(); ++i) ASSERT_EQ(a[i], e[i]) << what << ", element " << i;
}
double relative_l2(const Tensor& actual, const Tensor& expected) {
    const auto a = actual.values<double>(), e = expected.values<double>();
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        error += (a[i] - e[i]) * (a[i] - e[i]);
        norm += e[i] * e[i];
    }
    return std::sqrt(error / norm);
}

struct Shapes {
    Shape x, y, weight;
};
Shapes shapes_of(const Conv2dGeometry& g) {
    return {{g.batch, g.in_h, g.in_w, g.in_c},
            {g.batch, g.out_h, g.out_w, g.out_c},
            {g.out_c, g.kernel_h, g.kernel_w, g.in_c / g.groups}};
}

struct Algorithm {
    const char* name;
    decltype(&implicit_gemm::forward) forward;
    decltype(&implicit_gemm::backward_data) backward_data;
    decltype(&implicit_gemm::backward_weights) backward_weights;
};
constexpr Algorithm algorithms[] = {
    {"implicit GEMM", implicit_gemm::forward, implicit_gemm::backward_data, implicit_gemm::backward_weights},
    {"im2col", im2col::forward, im2col::backward_data, im2col::backward_weights}};

/// All passes on integers, bit for bit, activations in `dtype`.
void expect_exact(const Conv2dGeometry& g, DType dtype, const std::string& name) {
    const Shapes s = shapes_of(g);
    const Tensor x = integers(s.x, 1, dtype), w = integers(s.weight, 2), bias = integers({g.out_c}, 3),
                 residual = integers(s.y, 4, dtype), dy = integers(s.y, 5, dtype);
    const ops::OpKernels& slow = ops::reference_op_kernels();
    Tensor y2 = poisoned(s.y, dtype), plain2 = poisoned(s.y, dtype), dx2 = poisoned(s.x, dtype), dw2 = poisoned(s.weight);
    slow.conv2d_inference(g, x, w, &bias, &residual, NormEpilogue::relu, y2);
    slow.conv2d_forward(g, x, w, nullptr, plain2);
    slow.conv2d_backward_data(g, dy, w, dx2);
    slow.conv2d_backward_weights(g, x, dy, dw2, nullptr);
    for (const Algorithm& algorithm : algorithms) {
        const std::string what = cat(name, " ", name_of(dtype), " by ", algorithm.name);
        Tensor y = poisoned(s.y, dtype), plain = poisoned(s.y, dtype), dx = poisoned(s.x, dtype), dw = poisoned(s.weight);
        algorithm.forward(g, x, w, &bias, &residual, NormEpilogue::relu, y);
        expect_same(y, y2, what + " forward with epilogue");
        Tensor in_place = residual.clone();
        algorithm.forward(g, x, w, &bias, &in_place, NormEpilogue::relu, in_place);
        expect_same(in_place, y2, what + " forward onto the residual");
        algorithm.forward(g, x, w, nullptr, nullptr, NormEpilogue::none, plain);
        expect_same(plain, plain2, what + " forward");
        algorithm.backward_data(g, dy, w, dx);
        expect_same(dx, dx2, what + " data gradient");
        algorithm.backward_weights(g, x, dy, dw);
        expect_same(dw, dw2, what + " weight gradient");
    }
}

/// A precision of this process for the rest of a scope.
class Precision {
   public:
    explicit Precision(std::string_view name) { ops::use_precision(name, {DeviceKind::cuda, 0}); }
    ~Precision() { ops::use_precision("fp32", {DeviceKind::cuda, 0}); }
};

Conv2dGeometry geometry(std::int64_t batch, std::int64_t size, std::int64_t in, std::int64_t out, std::int64_t kernel,
                        std::int64_t stride, std::int64_t pad) {
    return ops::conv2d_geometry({batch, size, size, in}, {out, kernel, kernel, in},
                                {.stride_h = stride, .stride_w = stride, .padding = ops::Padding::symmetric(pad)});
}

struct Named {
    const char* name;
    Conv2dGeometry g;
};
/// ResNet-20 and the SVHN network, on smaller maps.
const std::vector<Named>& network_shapes() {
    static const std::vector<Named> shapes = {{"ResNet first", geometry(2, 12, 3, 16, 3, 1, 1)},
                                              {"ResNet stage 1", geometry(2, 12, 16, 16, 3, 1, 1)},
                                              {"ResNet down to 32", geometry(2, 12, 16, 32, 3, 2, 1)},
                                              {"ResNet shortcut", geometry(2, 12, 16, 32, 1, 2, 0)},
                                              {"ResNet stage 2", geometry(2, 8, 32, 32, 3, 1, 1)},
                                              {"ResNet down to 64", geometry(1, 8, 32, 64, 3, 2, 1)},
                                              {"ResNet stage 3", geometry(3, 6, 64, 64, 3, 1, 1)},
                                              {"SVHN first", geometry(2, 14, 3, 16, 3, 1, 0)},
                                              {"SVHN third", geometry(3, 6, 16, 24, 3, 1, 0)},
                                              {"more channels than a tile", geometry(1, 4, 68, 132, 3, 1, 1)},
                                              {"more pixels than a part", geometry(5, 16, 4, 8, 3, 1, 1)}};
    return shapes;
}

}  // namespace

TEST(EmulatedConvolution, EqualsReferenceOnNetworkShapes) {
    for (const Named& shape : network_shapes()) {
        expect_exact(shape.g, DType::f32, shape.name);
        expect_exact(shape.g, DType::bf16, shape.name);
        if (HasFatalFailure()) return;
    }
}

TEST(EmulatedConvolution, EqualsReferenceInTf32) {
    const Precision tf32("tf32");
    for (const Named& shape : network_shapes()) {
        expect_exact(shape.g, DType::f32, cat(shape.name, " TF32"));
        if (HasFatalFailure()) return;
    }
}

/// The last thread first: a missing barrier would show.
TEST(EmulatedConvolution, DoesNotDependOnTheOrderOfThreads) {
    emulation::set_order(emulation::Order::backward);
    for (const Named& shape : network_shapes()) {
        expect_exact(shape.g, DType::f32, shape.name);
        expect_exact(shape.g, DType::bf16, shape.name);
    }
    emulation::set_order(emulation::Order::forward);
}

TEST(EmulatedConvolution, EqualsReferenceOnRandomGeometries) {
    Rng rng(11, "geometries");
    const auto pick = [&](std::uint64_t low, std::uint64_t high) { return static_cast<std::int64_t>(low + rng.below(high - low + 1)); };
    int made = 0;
    while (made < 60) {
        const std::int64_t groups = rng.coin(0.3) ? pick(2, 4) : 1;
        const std::int64_t multiple = rng.coin(0.5) ? 4 : 1;
        const std::int64_t in = groups * multiple * pick(1, 5), out = groups * multiple * pick(1, 6);
        const Shape x{pick(1, 3), pick(1, 9), pick(1, 9), in}, w{out, pick(1, 4), pick(1, 4), in / groups};
        const ops::Conv2dOptions options{.stride_h = pick(1, 3),
                                         .stride_w = pick(1, 3),
                                         .padding = {pick(0, 3), pick(0, 3), pick(0, 3), pick(0, 3)},
                                         .dilation_h = pick(1, 2),
                                         .dilation_w = pick(1, 3),
                                         .groups = groups};
        Conv2dGeometry g;
        try {
            g = ops::conv2d_geometry(x, w, options);
        } catch (const Error&) {
            continue;  // the kernel exceeds the map
        }
        ++made;
        const std::string what = cat("geometry ", made, ": input ", x, ", weight ", w);
        expect_exact(g, DType::f32, what);
        expect_exact(g, DType::bf16, what);
        if (HasFatalFailure()) return;
    }
}

/// Rounding, not logic: real numbers within what the precision allows, in all passes.
TEST(EmulatedConvolution, RoundsAsThePrecisionDoes) {
    const Conv2dGeometry g = geometry(2, 8, 16, 32, 3, 1, 1);
    const Shapes s = shapes_of(g);
    const Tensor x = reals(s.x, 1), w = reals(s.weight, 2), dy = reals(s.y, 3);
    const auto wide = [](const Tensor& t) { return t.to(DType::f64); };
    Tensor y2 = poisoned(s.y, DType::f64), dx2 = poisoned(s.x, DType::f64), dw2 = poisoned(s.weight, DType::f64);
    ops::reference_op_kernels().conv2d_forward(g, wide(x), wide(w), nullptr, y2);
    ops::reference_op_kernels().conv2d_backward_data(g, wide(dy), wide(w), dx2);
    ops::reference_op_kernels().conv2d_backward_weights(g, wide(x), wide(dy), dw2, nullptr);
    const auto run = [&](double least, double most) {
        Tensor y = poisoned(s.y), dx = poisoned(s.x), dw = poisoned(s.weight);
        implicit_gemm::forward(g, x, w, nullptr, nullptr, NormEpilogue::none, y);
        implicit_gemm::backward_data(g, dy, w, dx);
        implicit_gemm::backward_weights(g, x, dy, dw);
        for (const double error : {relative_l2(y, y2), relative_l2(dx, dx2), relative_l2(dw, dw2)}) {
            EXPECT_LE(error, most);
            EXPECT_GE(error, least) << "more digits than the precision has: it was not used";
        }
    };
    run(1e-9, 1e-6);
    const Precision tf32("tf32");
    run(1e-5, 1e-3);
}

}  // namespace bitloom::cuda::test
