// Kernels on the GPU where the rows of tests/ops do not go: the convolutions of ResNet-20 and of the SVHN network, the
// optimizers beside the CPU's, the numbers of Philox.

#include <cmath>

#include "engine/kernels.h"
#include "engine/optim/optimizer.h"
#include "engine/random.h"
#include "ops/convolution.h"
#include "ops/convolution_algorithm.h"
#include "ops/kernels.h"
#include "ops/precision.h"
#include "tests/gpu/gpu.h"

namespace bitloom::test {
namespace {

using ops::Conv2dGeometry;

class GpuKernels : public OnGpu {
   protected:
    void TearDown() override {
        ops::use_convolution_algorithm("auto");
        ops::use_precision("fp32", cpu_device);
    }
};

Tensor reals(const Shape& shape, std::uint64_t seed) {
    Tensor t = Tensor::empty(shape);
    Rng rng(seed, "gpu test");
    fill_uniform(t, -1, 1, rng);
    return t;
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

Conv2dGeometry geometry(std::int64_t size, std::int64_t in, std::int64_t out, std::int64_t kernel, std::int64_t stride,
                        std::int64_t pad) {
    return ops::conv2d_geometry({16, size, size, in}, {out, kernel, kernel, in},
                                {.stride_h = stride, .stride_w = stride, .padding = ops::Padding::symmetric(pad)});
}

/// The three passes of one convolution, within l2_bound(n) of the reference in double; n is the length of the sums.
template <class Bound>
void expect_close_passes(const Conv2dGeometry& g, DType dtype, Bound&& l2_bound) {
    const Shape xs{g.batch, g.in_h, g.in_w, g.in_c}, ys{g.batch, g.out_h, g.out_w, g.out_c},
        ws{g.out_c, g.kernel_h, g.kernel_w, g.in_c / g.groups};
    const Tensor x = reals(xs, 1).to(dtype), w = reals(ws, 2), dy = reals(ys, 3).to(dtype);
    const auto wide = [](const Tensor& t) { return t.to(DType::f64); };
    Tensor y2 = Tensor::empty(ys, DType::f64), dx2 = Tensor::empty(xs, DType::f64), dw2 = Tensor::empty(ws, DType::f64);
    const ops::OpKernels &slow = ops::reference_op_kernels(), &fast = ops::op_kernels(gpu);
    slow.conv2d_forward(g, wide(x), wide(w), nullptr, y2);
    slow.conv2d_backward_data(g, wide(dy), wide(w), dx2);
    slow.conv2d_backward_weights(g, wide(x), wide(dy), dw2, nullptr);
    const Tensor on_x = x.to(gpu), on_w = w.to(gpu), on_dy = dy.to(gpu);
    for (const std::string& name : ops::convolution_algorithm_names()) {
        SCOPED_TRACE(cat(name, " ", name_of(dtype), " ", xs, " by ", ws));
        ops::use_convolution_algorithm(name);
        Tensor y = Tensor::empty(ys, dtype, gpu), dx = Tensor::empty(xs, dtype, gpu), dw = Tensor::empty(ws, DType::f32, gpu);
        fast.conv2d_forward(g, on_x, on_w, nullptr, y);
        fast.conv2d_backward_data(g, on_dy, on_w, dx);
        fast.conv2d_backward_weights(g, on_x, on_dy, dw, nullptr);
        EXPECT_LE(relative_l2(y, y2), l2_bound(ws.product(1, 4)));
        EXPECT_LE(relative_l2(dx, dx2), l2_bound(ws.product(0, 3)));
        EXPECT_LE(relative_l2(dw, dw2), l2_bound(g.batch * g.out_h * g.out_w));
    }
}

}  // namespace

TEST_F(GpuKernels, ConvolutionsOfTheNetworks) {
    const Conv2dGeometry shapes[] = {geometry(32, 3, 16, 3, 1, 1),  geometry(32, 16, 16, 3, 1, 1), geometry(32, 16, 32, 3, 2, 1),
                                     geometry(32, 16, 32, 1, 2, 0), geometry(16, 32, 32, 3, 1, 1), geometry(16, 32, 64, 3, 2, 1),
                                     geometry(8, 64, 64, 3, 1, 1),  geometry(32, 3, 16, 3, 1, 0),  geometry(15, 16, 16, 3, 1, 0),
                                     geometry(6, 16, 24, 3, 1, 0)};
    for (const Conv2dGeometry& g : shapes) {
        expect_close_passes(g, DType::f32, [](std::int64_t n) { return 1e-6 * std::sqrt(std::max(1.0, static_cast<double>(n) / 1000)); });
        expect_close_passes(g, DType::bf16, [](std::int64_t) { return 5e-3; });
        ops::use_precision("tf32", gpu);
        expect_close_passes(g, DType::f32, [](std::int64_t) { return 1e-3; });
        ops::use_precision("fp32", gpu);
    }
}

TEST_F(GpuKernels, OptimizersStepAsOnTheCpu) {
    const auto make = [](int kind, NamedParameters named) -> std::unique_ptr<Optimizer> {
        const Convention convention = kind % 2 ? Convention::keras : Convention::pytorch;
        if (kind < 2) return make_sgd(named, {.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 1e-3, .convention = convention});
        if (kind < 4) return make_adam(named, {.learning_rate = 0.01, .convention = convention});
        return make_rmsprop(named, {.learning_rate = 0.01, .momentum = 0.5, .convention = convention});
    };
    for (int kind = 0; kind < 6; ++kind) {
        SCOPED_TRACE(kind);
        std::vector<std::vector<double>> results;
        for (const Device device : {cpu_device, gpu}) {
            std::vector<std::unique_ptr<Parameter>> parameters;
            NamedParameters named;
            for (const std::int64_t n : {1, 7, 1000, 40001}) {
                parameters.push_back(std::make_unique<Parameter>(reals({n}, static_cast<std::uint64_t>(n)).to(device)));
                named.emplace_back(cat("p", n), parameters.back().get());
            }
            const auto optimizer = make(kind, named);
            for (int step = 0; step < 5; ++step) {
                for (auto& p : parameters) p->grad = reals(p->value.shape(), static_cast<std::uint64_t>(step + 1)).to(device);
                optimizer->step();
            }
            std::vector<double> all;
            for (auto& p : parameters)
                for (const double v : p->value.values<double>()) all.push_back(v);
            results.push_back(std::move(all));
        }
        // Adam's powers are taken in double by two libraries: their last bit may move a result by one rounding.
        const double tolerance = kind == 2 || kind == 3 ? 1e-7 : 0;
        for (std::size_t i = 0; i < results[0].size(); ++i) ASSERT_NEAR(results[0][i], results[1][i], tolerance) << i;
    }
}

TEST_F(GpuKernels, DropoutDrawsTheNumbersOfTheCpu) {
    for (const std::int64_t n : {1, 33, 70001}) {
        const Tensor x = reals({n}, 1), on_gpu = x.to(gpu);
        for (const double rate : {0.0, 0.3, 0.999}) {
            Tensor y = Tensor::empty({n}, DType::f32, gpu), y2 = Tensor::empty({n});
            const PhiloxStream s = stream(7, "dropout", 0x123456789abcull);
            ops::op_kernels(gpu).dropout(rate, s, on_gpu, y);
            ops::op_kernels(cpu_device).dropout(rate, s, x, y2);
            EXPECT_EQ(y.values<float>(), y2.values<float>());
        }
    }
}

TEST_F(GpuKernels, NoKernelIsMissing) {
    ops::for_each_kernel([](std::string_view name, auto member) { EXPECT_NE(ops::op_kernels(gpu).*member, nullptr) << name; });
}

}  // namespace bitloom::test
