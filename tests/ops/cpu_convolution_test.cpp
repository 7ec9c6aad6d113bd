// The cpu convolutions against the reference, oneDNN's implementations and caches, and trainings side by side.

#include <gmock/gmock.h>
#include <omp.h>

#include <thread>

#include "engine/allocator.h"
#include "engine/threads.h"
#include "ops/convolution.h"
#include "ops/cpu/direct3x3.h"
#include "ops/cpu/few_channels.h"
#include "ops/cpu/onednn.h"
#include "ops/cpu/pair_gradient.h"
#include "ops/cpu/simd.h"
#include "ops/cpu/winograd.h"
#include "tests/ops/cpu_compare.h"

namespace bitloom::ops::test {
namespace {

namespace onednn = cpu::onednn;
using onednn::ConvolutionPass;

struct ConvCase {
    Shape x, weight;
    Conv2dOptions options;
    Conv2dGeometry geometry() const { return conv2d_geometry(x, weight, options); }
};

Conv2dOptions conv_options(std::int64_t stride, std::int64_t pad) {
    return {.stride_h = stride, .stride_w = stride, .padding = Padding::symmetric(pad)};
}

/// Activations are stored as `storage`; the operands are small integers, so every sum is exact and rounded once.
void expect_convolution_equals_reference(const ConvCase& c, const std::string& what, DType storage = DType::f32) {
    const Conv2dGeometry g = c.geometry();
    const Shape y_shape{g.batch, g.out_h, g.out_w, g.out_c};
    const Tensor x = integers(c.x, 1), w = integers(c.weight, 2), b = integers({g.out_c}, 3), dy = integers(y_shape, 4);
    const Tensor stored_x = x.to(storage), stored_dy = dy.to(storage);
    for (const Tensor* bias : {static_cast<const Tensor*>(nullptr), &b}) {
        Tensor y = poisoned(y_shape, storage), expected = poisoned(y_shape);
        fast().conv2d_forward(g, stored_x, w, bias, y);
        slow().conv2d_forward(g, x, w, bias, expected);
        expect_same(y, expected.to(storage), what + " forward");
    }
    const Tensor r = integers(y_shape, 5, -9, 9), stored_r = r.to(storage);
    for (const NormEpilogue epilogue : {NormEpilogue::none, NormEpilogue::relu}) {
        for (const Tensor* bias : {static_cast<const Tensor*>(nullptr), &b}) {
            for (const bool residual : {false, true}) {
                const std::string which = cat(what, " inference", epilogue == NormEpilogue::relu ? " relu" : "",
                                              bias ? " bias" : "", residual ? " residual" : "");
                Tensor y = poisoned(y_shape, storage), expected = poisoned(y_shape);
                fast().conv2d_inference(g, stored_x, w, bias, residual ? &stored_r : nullptr, epilogue, y);
                slow().conv2d_inference(g, x, w, bias, residual ? &r : nullptr, epilogue, expected);
                expect_same(y, expected.to(storage), which);
                if (!residual) continue;
                Tensor sum = stored_r.clone();
                fast().conv2d_inference(g, stored_x, w, bias, &sum, epilogue, sum);
                expect_same(sum, expected.to(storage), which + " in place");
            }
        }
    }
    Tensor dx = poisoned(c.x, storage), expected_dx = poisoned(c.x);
    fast().conv2d_backward_data(g, stored_dy, w, dx);
    slow().conv2d_backward_data(g, dy, w, expected_dx);
    expect_same(dx, expected_dx.to(storage), what + " backward data");
    Tensor dw = poisoned(c.weight), expected_dw = poisoned(c.weight), db = poisoned({g.out_c}),
           expected_db = poisoned({g.out_c});
    fast().conv2d_backward_weights(g, stored_x, stored_dy, dw, &db);
    slow().conv2d_backward_weights(g, x, dy, expected_dw, &expected_db);
    expect_same(dw, expected_dw, what + " backward weights");
    expect_same(db, expected_db, what + " bias gradient");
    fast().conv2d_backward_weights(g, stored_x, stored_dy, dw, nullptr);
    expect_same(dw, expected_dw, what + " backward weights without bias");
}

TEST(CpuConvolution, EqualsReferenceOnRandomGeometry) {
    Rng rng(5, "geometry");
    const auto draw = [&](std::int64_t low, std::int64_t high) {
        return low + static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(high - low + 1)));
    };
    for (int i = 0; i < 60; ++i) {
        ConvCase c;
        Conv2dOptions& o = c.options;
        const std::int64_t in = draw(1, 20), out = draw(1, 20), multiplier = draw(1, 2), groups = draw(2, 4);
        std::int64_t in_c = in, out_c = out;
        if (i % 4 == 1) o.groups = in_c = in, out_c = in * multiplier;  // depthwise
        if (i % 4 == 2) o.groups = groups, in_c = groups * draw(1, 9), out_c = groups * draw(1, 9);
        const std::int64_t kh = draw(1, 5), kw = draw(1, 5);
        o.stride_h = draw(1, 3), o.stride_w = draw(1, 3), o.dilation_h = draw(1, 2), o.dilation_w = draw(1, 2);
        o.padding = {draw(0, 3), draw(0, 3), draw(0, 3), draw(0, 3)};
        c.x = {draw(1, 3), (kh - 1) * o.dilation_h + draw(1, 9), (kw - 1) * o.dilation_w + draw(1, 9), in_c};
        c.weight = {out_c, kh, kw, in_c / o.groups};
        expect_convolution_equals_reference(c,
                                            cat("case ", i, ": x ", c.x, " weight ", c.weight, " groups ", o.groups));
        if (HasFatalFailure()) return;
    }
}

TEST(CpuConvolution, DataGradientOfFewChannelsEqualsReference) {
    // What few_channels takes, with rows of output columns above and below a group of registers, filter rows that miss
    // dx, and cells that no window reaches; several threads write neighbouring rows.
    const int threads = omp_get_max_threads();
    int taken = 0;
    for (const int count : {1, 3}) {
        omp_set_num_threads(count);
        for (const std::int64_t channels : {1, 2, 3, 4}) {
            for (const std::int64_t kernel : {1, 3, 4, 5}) {
                for (const std::int64_t width : {5, 14, 33}) {
                    ConvCase c{{7, 9, width, channels}, {5, kernel, kernel, channels}, conv_options(1, 0)};
                    c.options.padding = {kernel % 3, 1, 2, kernel % 2};
                    taken += cpu::few_channels(c.geometry());
                    expect_convolution_equals_reference(c,
                                                        cat(channels, " channels, kernel ", kernel, ", width ", width));
                }
            }
        }
        const ConvCase large{{8, 32, 32, 3}, {16, 3, 3, 3}, conv_options(1, 0)};
        expect_convolution_equals_reference(large, "the SVHN network's first convolution");
        const ConvCase far{{2, 3, 3, 3}, {4, 2, 2, 3}, conv_options(1, 4)};
        expect_convolution_equals_reference(far, "more padding than filter");
    }
    omp_set_num_threads(threads);
    EXPECT_EQ(taken, 2 * 3 * (4 + 4 + 4 + 3)) << "a row of 5 x 4 values does not fit";
}

TEST(CpuConvolution, SixteenChannelsEqualReference) {
    // Maps that tiles of 2 x 8 fit and do not fit, more and fewer channels on the other side.
    const int threads = omp_get_max_threads();
    for (const int count : {1, 3}) {
        omp_set_num_threads(count);
        for (const std::int64_t other : {8, 16, 21}) {
            for (const auto& [height, width] :
                 {std::pair<std::int64_t, std::int64_t>{2, 9}, {5, 16}, {4, 19}, {32, 32}}) {
                const ConvCase forward{{16, height, width, other}, {16, 3, 3, other}, conv_options(1, 1)};
                EXPECT_TRUE(cpu::takes_direct3x3_forward(forward.geometry()) || cpu::simd_lanes < 16);
                expect_convolution_equals_reference(forward, cat(height, " x ", width, ", ", other, "-16"));
                const ConvCase backward{{16, height, width, 16}, {other, 3, 3, 16}, conv_options(1, 1)};
                EXPECT_TRUE(cpu::takes_direct3x3_backward_data(backward.geometry()) || cpu::simd_lanes < 16);
                expect_convolution_equals_reference(backward, cat(height, " x ", width, ", 16-", other));
            }
        }
    }
    omp_set_num_threads(threads);
    for (const ConvCase& c : {ConvCase{{15, 16, 16, 16}, {16, 3, 3, 16}, conv_options(1, 1)},   // few images
                              ConvCase{{16, 16, 8, 16}, {16, 3, 3, 16}, conv_options(1, 1)},    // narrow
                              ConvCase{{16, 16, 16, 16}, {16, 3, 3, 16}, conv_options(1, 0)},   // no padding
                              ConvCase{{16, 16, 16, 16}, {16, 3, 3, 16}, conv_options(2, 1)}})  // strided
        EXPECT_FALSE(cpu::takes_direct3x3_forward(c.geometry()) || cpu::takes_direct3x3_backward_data(c.geometry()));
}

class Winograd : public ::testing::TestWithParam<DType> {
   protected:
    void SetUp() override {
        const ConvCase usual{{64, 8, 8, 32}, {32, 3, 3, 32}, conv_options(1, 1)};
        if (!cpu::takes_winograd(usual.geometry(), GetParam()))
            GTEST_SKIP() << "short registers, or AMX, which multiplies bf16 faster";
    }
    static void expect_taken_and_equal(const ConvCase& c, const std::string& what) {
        EXPECT_TRUE(cpu::takes_winograd(c.geometry(), GetParam())) << what;
        expect_convolution_equals_reference(c, what, GetParam());
    }

   private:
    Threads one_{1};
};
INSTANTIATE_TEST_SUITE_P(Storage, Winograd, ::testing::Values(DType::f32, DType::bf16),
                         [](const auto& info) { return std::string(name_of(info.param)); });

TEST_P(Winograd, EqualsReferenceOnIntegers) {
    // Odd and even maps (tiles that reach beyond the map), every padding, blocks that end within a row of tiles, every
    // number of registers that a row of filters fills.
    for (const std::int64_t in : {16, 32, 48}) {
        for (const std::int64_t out : {16, 32, 48, 64, 112}) {
            for (const std::int64_t pad : {0, 1, 2}) {
                const std::int64_t width = 6 + pad + (in + out) / 16 % 4;
                expect_taken_and_equal({{9, 7, width, in}, {out, 3, 3, in}, conv_options(1, pad)},
                                       cat(in, " to ", out, " channels, padding ", pad));
            }
        }
    }
    ConvCase uneven{{9, 5, 11, 16}, {32, 3, 3, 16}, conv_options(1, 0)};
    uneven.options.padding = {0, 2, 1, 0};
    expect_taken_and_equal(uneven, "uneven padding");
    for (const int count : {1, 3}) {
        const Threads threads(count);
        expect_taken_and_equal({{40, 9, 9, 32}, {32, 3, 3, 32}, conv_options(1, 1)}, "several parts of the batch");
        expect_taken_and_equal({{5, 32, 32, 16}, {16, 3, 3, 16}, conv_options(1, 1)}, "the first stage of a ResNet");
    }
}

TEST_P(Winograd, EqualsReferenceOnSmallMaps) {
    // Every column of such a map is at a border; a group of tiles is wider than the row.
    for (const std::int64_t channels : {16, 32}) {
        for (const std::int64_t height : {1, 2}) {
            for (const std::int64_t width : {1, 2, 3, 5}) {
                for (const std::int64_t pad : {1, 2}) {
                    expect_taken_and_equal({{64, height, width, channels}, {16, 3, 3, channels}, conv_options(1, pad)},
                                           cat(height, " x ", width, " x ", channels, ", padding ", pad));
                }
            }
        }
        expect_taken_and_equal({{64, 3, 3, channels}, {16, 3, 3, channels}, conv_options(1, 0)}, "one window a map");
    }
}

TEST_P(Winograd, RefusesOtherGeometries) {
    for (const ConvCase& c : {ConvCase{{64, 8, 8, 32}, {32, 3, 3, 32}, conv_options(2, 1)},
                              ConvCase{{64, 8, 8, 32}, {32, 3, 3, 32}, conv_options(1, 3)},
                              ConvCase{{64, 8, 8, 24}, {32, 3, 3, 24}, conv_options(1, 1)},
                              ConvCase{{64, 8, 8, 32}, {32, 5, 5, 32}, conv_options(1, 1)},
                              ConvCase{{1, 4, 4, 32}, {32, 3, 3, 32}, conv_options(1, 1)}})
        EXPECT_FALSE(cpu::takes_winograd(c.geometry(), GetParam())) << c.x << ' ' << c.weight;
}

TEST_P(Winograd, GivesTheSameBitsOnEveryNumberOfThreadsWhereRunsMustNotDiffer) {
    const ConvCase c{{40, 16, 16, 16}, {32, 3, 3, 16}, conv_options(1, 1)};
    const Conv2dGeometry g = c.geometry();
    const Tensor x = reals(c.x, 1).to(GetParam()), w = reals(c.weight, 2),
                 dy = reals({40, 16, 16, 32}, 3).to(GetParam());
    Tensor y[2], dx[2], dw[2];
    set_deterministic(true);
    for (const int k : {0, 1}) {
        const Threads threads(1 + k);
        y[k] = poisoned(dy.shape(), GetParam()), dx[k] = poisoned(c.x, GetParam()), dw[k] = poisoned(c.weight);
        fast().conv2d_forward(g, x, w, nullptr, y[k]);
        fast().conv2d_backward_data(g, dy, w, dx[k]);
        fast().conv2d_backward_weights(g, x, dy, dw[k], nullptr);
    }
    set_deterministic(false);
    expect_same(y[1], y[0], "forward");
    expect_same(dx[1], dx[0], "backward data");
    expect_same(dw[1], dw[0], "backward weights");
}

TEST_P(Winograd, RoundsLittleMoreThanPlainSums) {
    // Against the double reference: relative L2 errors of all three passes on long sums. In bf16, whose unit roundoff
    // is 2^-9, the transforms' values, the filters and the results are rounded.
    const bool single = GetParam() == DType::f32;
    for (const std::int64_t channels : {16, 32}) {
        const ConvCase c{{64, 16, 16, channels}, {channels, 3, 3, channels}, conv_options(1, 1)};
        const Conv2dGeometry g = c.geometry();
        const Tensor x = reals(c.x, 1).to(GetParam()), w = reals(c.weight, 2), dy = reals(c.x, 3).to(GetParam());
        const auto relative_error = [](const Tensor& got, const Tensor& want) {
            const auto a = got.values<double>(), b = want.values<double>();
            double error = 0, norm = 0;
            for (std::size_t i = 0; i < a.size(); ++i) error += (a[i] - b[i]) * (a[i] - b[i]), norm += b[i] * b[i];
            return std::sqrt(error / norm);
        };
        const auto wide = [](const Tensor& t) { return t.to(DType::f64); };
        Tensor y = poisoned(c.x, GetParam()), dx = poisoned(c.x, GetParam()), dw = poisoned(c.weight);
        Tensor y64 = Tensor::empty(c.x, DType::f64), dx64 = Tensor::empty(c.x, DType::f64),
               dw64 = Tensor::empty(c.weight, DType::f64);
        const auto run = [&](auto zero) {
            using T = decltype(zero);
            cpu::winograd_forward<T>(g, x.read<T>(), w, nullptr, nullptr, NormEpilogue::none, y.write<T>());
            cpu::winograd_backward_data<T>(g, dy.read<T>(), w, dx.write<T>());
            cpu::winograd_backward_weights<T>(g, x.read<T>(), dy.read<T>(), dw.write<float>());
        };
        single ? run(float{}) : run(bf16{});
        slow().conv2d_forward(g, wide(x), wide(w), nullptr, y64);
        slow().conv2d_backward_data(g, wide(dy), wide(w), dx64);
        slow().conv2d_backward_weights(g, wide(x), wide(dy), dw64, nullptr);
        EXPECT_LT(relative_error(y, y64), single ? 6e-7 : 6e-3);
        EXPECT_LT(relative_error(dx, dx64), single ? 6e-7 : 6e-3);
        EXPECT_LT(relative_error(dw, dw64), single ? 2e-6 : 6e-3);
    }
}

TEST(CpuConvolution, FilterGradientsInPairsEqualReference) {
    // Odd rows, whose last output has no neighbour, windows beyond every border, cells of the kernel that meet nothing
    // but padding, blocks that end within an image, rows longer than a block.
    std::vector<ConvCase> cases{{{5, 33, 150, 16}, {16, 3, 3, 16}, conv_options(1, 1)},
                                {{1024, 1, 1, 16}, {32, 3, 3, 16}, conv_options(2, 1)},
                                {{1024, 1, 1, 32}, {16, 1, 1, 32}, conv_options(1, 0)},
                                {{40, 13, 12, 48}, {16, 2, 3, 48}, conv_options(2, 1)}};
    for (const std::int64_t stride : {1, 2, 3})
        for (const std::int64_t kernel : {1, 3})
            for (const std::int64_t width : {15, 16, 19}) {
                cases.push_back({{60, 14, width, 16}, {48, kernel, kernel, 16}, conv_options(stride, kernel / 2)});
                cases.back().options.padding = {kernel / 2, 2, kernel - 1, 1};
            }
    if (!cpu::takes_pair_gradient(cases[0].geometry(), DType::bf16))
        GTEST_SKIP() << "short registers, or AMX, which multiplies bf16 faster";
    for (const int count : {1, 3}) {
        const Threads threads(count);
        for (const ConvCase& c : cases) {
            const Conv2dGeometry g = c.geometry();
            const std::string what = cat(c.x, " * ", c.weight, ", stride ", g.stride_w, ", ", count, " threads");
            EXPECT_TRUE(cpu::takes_pair_gradient(g, DType::bf16)) << what;
            const Tensor x = integers(c.x, 1).to(DType::bf16),
                         dy = integers({g.batch, g.out_h, g.out_w, g.out_c}, 2).to(DType::bf16);
            Tensor dw = poisoned(c.weight), expected = poisoned(c.weight), db = poisoned({g.out_c}),
                   expected_db = poisoned({g.out_c});
            cpu::pair_backward_weights(g, x.read<bf16>(), dy.read<bf16>(), dw.write<float>());
            slow().conv2d_backward_weights(g, x.to(DType::f32), dy.to(DType::f32), expected, &expected_db);
            expect_same(dw, expected, what);
            fast().conv2d_backward_weights(g, x, dy, dw, &db);
            expect_same(dw, expected, what + ", by the table");
            expect_same(db, expected_db, what + ", bias");
        }
    }
    const std::vector<ConvCase> others{{{60, 16, 16, 16}, {16, 5, 5, 16}, conv_options(2, 1)},
                                       {{60, 16, 16, 24}, {16, 3, 3, 24}, conv_options(2, 1)},
                                       {{60, 16, 16, 16}, {256, 3, 3, 16}, conv_options(2, 1)},
                                       {{60, 16, 16, 256}, {256, 3, 3, 256}, conv_options(2, 1)},
                                       {{4, 16, 16, 16}, {16, 3, 3, 16}, conv_options(2, 1)}};
    for (std::size_t i = 0; i < others.size(); ++i)
        EXPECT_EQ(cpu::takes_pair_gradient(others[i].geometry(), DType::bf16), i == 2) << others[i].weight;
    EXPECT_FALSE(cpu::takes_pair_gradient(cases[0].geometry(), DType::f32));
}

TEST(CpuConvolution, RunsOnFastImplementations) {
    const std::vector<ConvCase> cases = {
        // ResNet-20
        {{128, 32, 32, 3}, {16, 3, 3, 3}, conv_options(1, 1)},
        {{128, 32, 32, 16}, {16, 3, 3, 16}, conv_options(1, 1)},
        {{128, 32, 32, 16}, {32, 3, 3, 16}, conv_options(2, 1)},
        {{128, 32, 32, 16}, {32, 1, 1, 16}, conv_options(2, 0)},
        {{128, 16, 16, 32}, {32, 3, 3, 32}, conv_options(1, 1)},
        {{128, 16, 16, 32}, {64, 3, 3, 32}, conv_options(2, 1)},
        {{128, 16, 16, 32}, {64, 1, 1, 32}, conv_options(2, 0)},
        {{128, 8, 8, 64}, {64, 3, 3, 64}, conv_options(1, 1)},
        // SVHN network
        {{128, 32, 32, 3}, {16, 3, 3, 3}, conv_options(1, 0)},
        {{128, 15, 15, 16}, {16, 3, 3, 16}, conv_options(1, 0)},
        {{128, 6, 6, 16}, {24, 3, 3, 16}, conv_options(1, 0)},
    };
    for (const ConvCase& c : cases) {
        for (const auto pass :
             {ConvolutionPass::forward, ConvolutionPass::backward_data, ConvolutionPass::backward_weights}) {
            const std::string name = onednn::convolution_implementation(pass, c.geometry(), false);
            EXPECT_THAT(name, ::testing::Not(::testing::HasSubstr("ref"))) << c.x << " " << c.weight;
            EXPECT_THAT(name, ::testing::Not(::testing::HasSubstr("gemm:"))) << c.x << " " << c.weight;
        }
    }
}

TEST(CpuConvolution, ReordersAWeightOnceAVersion) {
    const ConvCase c{{2, 8, 8, 16}, {16, 3, 3, 16}, conv_options(1, 1)};
    const Conv2dGeometry g = c.geometry();
    const Tensor x = integers(c.x, 1);
    Tensor w = integers(c.weight, 2), y = Tensor::empty({2, 8, 8, 16}), expected = Tensor::empty(y.shape());
    fast().conv2d_forward(g, x, w, nullptr, y);
    const auto first = onednn::cache_stats();
    fast().conv2d_forward(g, x, w, nullptr, y);
    EXPECT_EQ(onednn::cache_stats().weight_reorders, first.weight_reorders);
    w.copy_from(integers(c.weight, 3));
    fast().conv2d_forward(g, x, w, nullptr, y);
    EXPECT_EQ(onednn::cache_stats().weight_reorders, first.weight_reorders + 1) << "this layout is never oneDNN's own";
    slow().conv2d_forward(g, x, w, nullptr, expected);
    expect_same(y, expected, "after the weight changed");
    EXPECT_EQ(onednn::cache_stats().primitives, first.primitives);
    EXPECT_EQ(onednn::cache_stats().weight_bytes, first.weight_bytes) << "the copy of the old version is overwritten";
}

TEST(CpuConvolution, HoldsFewCopiesOfWeightsThatDie) {
    const ConvCase c{{1, 4, 4, 16}, {16, 3, 3, 16}, conv_options(1, 1)};
    const Tensor x = integers(c.x, 1);
    Tensor y = Tensor::empty({1, 4, 4, 16}), expected = Tensor::empty(y.shape());
    const std::size_t before = onednn::cache_stats().weight_bytes;
    for (std::uint64_t i = 0; i < 100; ++i) {
        const Tensor w = integers(c.weight, i);
        fast().conv2d_forward(c.geometry(), x, w, nullptr, y);
        slow().conv2d_forward(c.geometry(), x, w, nullptr, expected);
        expect_same(y, expected, cat("weight ", i));
    }
    EXPECT_LE(onednn::cache_stats().weight_bytes - before, 32 * 16 * 16 * 9 * sizeof(float));
}

TEST(CpuConvolution, TellsRowsOfOneWeightApart) {
    const ConvCase c{{1, 5, 5, 16}, {16, 3, 3, 16}, conv_options(1, 1)};
    const Tensor x = integers(c.x, 1), all = integers({32, 3, 3, 16}, 2);
    for (const std::int64_t first : {0, 16}) {
        const Tensor w = all.rows(first, 16);
        Tensor y = Tensor::empty({1, 5, 5, 16}), expected = Tensor::empty(y.shape());
        fast().conv2d_forward(c.geometry(), x, w, nullptr, y);
        slow().conv2d_forward(c.geometry(), x, w, nullptr, expected);
        expect_same(y, expected, cat("rows from ", first));
    }
}

/// One step of a small network's kernels; returns the last weight gradient.
Tensor small_step(const Tensor& x, const Tensor& w) {
    const Conv2dGeometry g = conv2d_geometry(x.shape(), w.shape(), conv_options(1, 1));
    const Shape shape{g.batch, g.out_h, g.out_w, g.out_c}, channels{g.out_c};
    Tensor y = Tensor::empty(shape), z = Tensor::empty(shape), mean = Tensor::empty(channels),
           variance = Tensor::empty(channels);
    const Tensor gamma = Tensor::full(channels, 1), beta = Tensor::full(channels, 0.1);
    fast().conv2d_forward(g, x, w, nullptr, y);
    fast().batch_norm_forward(y, gamma, beta, nullptr, 1e-5, NormEpilogue::relu, z, mean, variance);
    Tensor dy = Tensor::empty(shape), dw = Tensor::empty(w.shape()), dgamma = Tensor::empty(channels),
           dbeta = Tensor::empty(channels);
    fast().batch_norm_backward(z, y, &z, gamma, mean, variance, 1e-5, NormEpilogue::relu, &dy, nullptr, dgamma, dbeta);
    fast().conv2d_backward_weights(g, x, dy, dw, nullptr);
    return dw;
}

TEST(CpuKernels, SteadyStateAsksTheSystemForNothing) {
    const Tensor x = reals({16, 16, 16, 8}, 1), w = reals({24, 3, 3, 8}, 2);
    small_step(x, w);
    const auto memory = allocator_of(cpu_device).stats();
    const auto cache = onednn::cache_stats();
    for (int i = 0; i < 3; ++i) small_step(x, w);
    EXPECT_EQ(allocator_of(cpu_device).stats().system_allocations, memory.system_allocations);
    EXPECT_EQ(onednn::cache_stats().primitives, cache.primitives);
    EXPECT_EQ(onednn::cache_stats().weight_reorders, cache.weight_reorders);
}

TEST(CpuKernels, RepeatBitForBitOnTwoThreads) {
    const Threads two(2);
    const Tensor x = reals({32, 16, 16, 8}, 1), w = reals({24, 3, 3, 8}, 2);
    const Tensor first = small_step(x, w);
    for (int i = 0; i < 3; ++i) expect_same(small_step(x, w), first, cat("repetition ", i));
}

TEST(CpuKernels, TrainingsSideBySideDoNotDisturbEachOther) {
    const Threads one(1);
    constexpr int runs = 4;
    std::vector<Tensor> alone, together(runs);
    const auto step = [](int run) {
        const auto seed = static_cast<std::uint64_t>(run);
        return small_step(reals({8, 12, 12, 8}, seed), reals({16, 3, 3, 8}, seed + 50));
    };
    for (int run = 0; run < runs; ++run) alone.push_back(step(run));
    std::vector<std::thread> threads;
    for (int run = 0; run < runs; ++run) {
        threads.emplace_back([&, run] {
            omp_set_num_threads(1);
            for (int i = 0; i < 5; ++i) together[static_cast<std::size_t>(run)] = step(run);
        });
    }
    for (auto& t : threads) t.join();
    for (std::size_t run = 0; run < runs; ++run) expect_same(together[run], alone[run], cat("run ", run));
}

TEST(CpuKernels, SayThatDoublesBelongOnTheReference) {
    const Tensor x = Tensor::zeros({4}, DType::f64);
    Tensor y = Tensor::zeros({4}, DType::f64);
    try {
        fast().unary_forward(UnaryOp::relu, 0, 0, x, y);
        FAIL() << "no error";
    } catch (const Error& e) {
        EXPECT_STREQ(e.what(), "unary_forward: the cpu device needs f32, got f64; use --device reference for f64");
    }
}

}  // namespace
}  // namespace bitloom::ops::test
