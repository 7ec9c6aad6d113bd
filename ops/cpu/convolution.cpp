#include "ops/cpu/direct3x3.h"
#include "ops/cpu/few_channels.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/onednn.h"
#include "ops/cpu/pair_gradient.h"
#include "ops/cpu/slices.h"
#include "ops/cpu/winograd.h"

namespace bitloom::ops::cpu {

namespace {

Conv2dGeometry with_batch(Conv2dGeometry g, std::int64_t batch) {
    g.batch = batch;
    return g;
}

std::int64_t operations(const Conv2dGeometry& g) {
    return 2 * g.batch * g.out_h * g.out_w * g.out_c * g.kernel_h * g.kernel_w * (g.in_c / g.groups);
}

/// Calls f(geometry, first image) for the whole batch, or for slices of it in deterministic runs.
template <class F>
void for_each_part(const Conv2dGeometry& g, F&& f) {
    const ThreadScope small = one_thread_if(operations(g) < product_threshold);
    if (!deterministic()) return f(g, 0);
    for_each_slice(g.batch, [&](std::int64_t first, std::int64_t count, int) { f(with_batch(g, count), first); });
}

/// The gradients from slices of the batch.
void sliced_backward_weights(const Conv2dGeometry& g, DType type, const InputRows& x, const InputRows& dy,
                             Tensor& dweight, Tensor* dbias) {
    const int slices = slice_count(g.batch);
    Tensor weights = Tensor::empty({slices, dweight.numel()}), biases = Tensor::empty({slices, g.out_c});
    float *pw = weights.write<float>(), *pb = biases.write<float>();
    for_each_slice(g.batch, [&](std::int64_t first, std::int64_t count, int s) {
        onednn::convolution_backward_weights(with_batch(g, count), type, x.from(first), dy.from(first),
                                             pw + s * dweight.numel(), dbias ? pb + s * g.out_c : nullptr);
    });
    sum_slices(weights, dweight);
    if (dbias) sum_slices(biases, *dbias);
}

}  // namespace

void conv2d_forward(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    constexpr std::string_view who = "conv2d_forward";
    const bool is_f32 = x.dtype() == DType::f32 && y.dtype() == DType::f32;
    // Each value of y is one sum in a fixed order, whatever the threads.
    if (is_f32 && y.numel() != 0 && takes_direct3x3_forward(g) && !takes_winograd(g, DType::f32))
        return direct3x3_forward(g, input(x, who), input(weight, who), optional_input(bias, who), output(y, who));
    conv2d_inference(g, x, weight, bias, nullptr, NormEpilogue::none, y);
}

void conv2d_inference(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias,
                      const Tensor* residual, NormEpilogue epilogue, Tensor& y) {
    constexpr std::string_view who = "conv2d_forward";
    const InputRows px(x, who);
    const float* pb = optional_input(bias, who);
    input(weight, who);
    require_storage(y, x.dtype(), who);
    if (y.numel() == 0) return;
    if (takes_winograd(g, x.dtype())) {
        return dispatch_storage(x, [&](auto storage) {
            using T = decltype(storage);
            winograd_forward(g, input<T>(x, who), weight, pb, optional_input<T>(residual, who), epilogue,
                             output<T>(y, who));
        });
    }
    if (residual && residual->raw() != y.raw()) y.copy_from(*residual);
    const OutputRows py(y, who);
    for_each_part(g, [&](const Conv2dGeometry& part, std::int64_t first) {
        onednn::convolution_inference(part, x.dtype(), px.from(first), weight, pb, residual != nullptr,
                                      epilogue == NormEpilogue::relu, py.from(first));
    });
}

void conv2d_backward_data(const Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx) {
    constexpr std::string_view who = "conv2d_backward_data";
    const InputRows pdy(dy, who);
    const float* pw = input(weight, who);
    require_storage(dx, dy.dtype(), who);
    const OutputRows pdx(dx, who);
    if (dx.numel() == 0) return;
    if (dy.dtype() == DType::f32) {
        // Each value of dx is one sum in a fixed order, whatever the threads.
        if (few_channels(g)) return few_channels_backward_data(g, input(dy, who), pw, output(dx, who));
        if (takes_direct3x3_backward_data(g) && !takes_winograd(g, DType::f32))
            return direct3x3_backward_data(g, input(dy, who), pw, output(dx, who));
    }
    if (takes_winograd(g, dy.dtype())) {
        return dispatch_storage(dy, [&](auto storage) {
            using T = decltype(storage);
            winograd_backward_data(g, input<T>(dy, who), weight, output<T>(dx, who));
        });
    }
    for_each_part(g, [&](const Conv2dGeometry& part, std::int64_t first) {
        onednn::convolution_backward_data(part, dy.dtype(), pdy.from(first), weight, pdx.from(first));
    });
}

void conv2d_backward_weights(const Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight,
                             Tensor* dbias) {
    constexpr std::string_view who = "conv2d_backward_weights";
    const InputRows px(x, who), pdy(dy, who);
    require_storage(dy, x.dtype(), who);
    float *pdw = output(dweight, who), *pdb = optional_output(dbias, who);
    if (dy.numel() == 0) {
        dweight.fill(0);
        if (dbias) dbias->fill(0);
        return;
    }
    if (takes_winograd(g, x.dtype())) {
        if (dbias) bias_backward(dy, *dbias);
        return dispatch_storage(x, [&](auto storage) {
            using T = decltype(storage);
            winograd_backward_weights(g, input<T>(x, who), input<T>(dy, who), pdw);
        });
    }
    if (takes_pair_gradient(g, x.dtype())) {
        if (dbias) bias_backward(dy, *dbias);
        return pair_backward_weights(g, input<bf16>(x, who), input<bf16>(dy, who), pdw);
    }
    const ThreadScope small = one_thread_if(operations(g) < filter_gradient_threshold);
    if (deterministic()) {
        sliced_backward_weights(g, x.dtype(), px, pdy, dweight, dbias);
    } else {
        onednn::convolution_backward_weights(g, x.dtype(), px.from(0), pdy.from(0), pdw, pdb);
    }
}

}  // namespace bitloom::ops::cpu
