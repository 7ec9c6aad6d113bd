#include "ops/cpu/direct3x3.h"
#include "ops/cpu/few_channels.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/onednn.h"
#include "ops/cpu/slices.h"

namespace bitloom::ops::cpu {

namespace {

Conv2dGeometry with_batch(Conv2dGeometry g, std::int64_t batch) {
    g.batch = batch;
    return g;
}

std::int64_t operations(const Conv2dGeometry& g) {
    return 2 * g.batch * g.out_h * g.out_w * g.out_c * g.kernel_h * g.kernel_w * (g.in_c / g.groups);
}

/// The gradients from slices of the batch.
void sliced_backward_weights(const Conv2dGeometry& g, const float* x, const float* dy, Tensor& dweight, Tensor* dbias) {
    const int slices = slice_count(g.batch);
    Tensor weights = Tensor::empty({slices, dweight.numel()}), biases = Tensor::empty({slices, g.out_c});
    float *pw = weights.write<float>(), *pb = biases.write<float>();
    for_each_slice(g.batch, [&](std::int64_t first, std::int64_t count, int s) {
        onednn::convolution_backward_weights(with_batch(g, count), x + first * g.in_h * g.in_w * g.in_c,
                                             dy + first * g.out_h * g.out_w * g.out_c, pw + s * dweight.numel(),
                                             dbias ? pb + s * g.out_c : nullptr);
    });
    sum_slices(weights, dweight);
    if (dbias) sum_slices(biases, *dbias);
}

}  // namespace

void conv2d_forward(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    constexpr std::string_view who = "conv2d_forward";
    const float* px = input(x, who);
    const float* pb = optional_input(bias, who);
    const float* pw = input(weight, who);
    float* py = output(y, who);
    if (y.numel() == 0) return;
    // Each value of y is one sum in a fixed order, whatever the threads.
    if (takes_direct3x3_forward(g)) return direct3x3_forward(g, px, pw, pb, py);
    const OneThreadIf small(operations(g) < product_threshold);
    if (!deterministic()) return onednn::convolution_forward(g, px, weight, pb, py);
    for_each_slice(g.batch, [&](std::int64_t first, std::int64_t count, int) {
        onednn::convolution_forward(with_batch(g, count), px + first * g.in_h * g.in_w * g.in_c, weight, pb,
                                    py + first * g.out_h * g.out_w * g.out_c);
    });
}

void conv2d_inference(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias,
                      const Tensor* residual, NormEpilogue epilogue, Tensor& y) {
    constexpr std::string_view who = "conv2d_inference";
    const float* px = input(x, who);
    const float *pb = optional_input(bias, who), *pr = optional_input(residual, who);
    input(weight, who);
    float* py = output(y, who);
    if (y.numel() == 0) return;
    if (pr && pr != py) std::copy_n(pr, y.numel(), py);
    const bool sum = pr != nullptr, relu = epilogue == NormEpilogue::relu;
    const OneThreadIf small(operations(g) < product_threshold);
    if (!deterministic()) return onednn::convolution_inference(g, px, weight, pb, sum, relu, py);
    for_each_slice(g.batch, [&](std::int64_t first, std::int64_t count, int) {
        onednn::convolution_inference(with_batch(g, count), px + first * g.in_h * g.in_w * g.in_c, weight, pb, sum,
                                      relu, py + first * g.out_h * g.out_w * g.out_c);
    });
}

void conv2d_backward_data(const Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx) {
    constexpr std::string_view who = "conv2d_backward_data";
    const float* pdy = input(dy, who);
    const float* pw = input(weight, who);
    float* pdx = output(dx, who);
    if (dx.numel() == 0) return;
    // Each value of dx is one sum in a fixed order, whatever the threads.
    if (few_channels(g)) return few_channels_backward_data(g, pdy, pw, pdx);
    if (takes_direct3x3_backward_data(g)) return direct3x3_backward_data(g, pdy, pw, pdx);
    const OneThreadIf small(operations(g) < product_threshold);
    if (!deterministic()) return onednn::convolution_backward_data(g, pdy, weight, pdx);
    for_each_slice(g.batch, [&](std::int64_t first, std::int64_t count, int) {
        onednn::convolution_backward_data(with_batch(g, count), pdy + first * g.out_h * g.out_w * g.out_c, weight,
                                          pdx + first * g.in_h * g.in_w * g.in_c);
    });
}

void conv2d_backward_weights(const Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight,
                             Tensor* dbias) {
    constexpr std::string_view who = "conv2d_backward_weights";
    const float *px = input(x, who), *pdy = input(dy, who);
    float *pdw = output(dweight, who), *pdb = optional_output(dbias, who);
    if (dy.numel() == 0) {
        dweight.fill(0);
        if (dbias) dbias->fill(0);
        return;
    }
    const OneThreadIf small(operations(g) < filter_gradient_threshold);
    if (deterministic()) {
        sliced_backward_weights(g, px, pdy, dweight, dbias);
    } else {
        onednn::convolution_backward_weights(g, px, pdy, pdw, pdb);
    }
}

}  // namespace bitloom::ops::cpu
