#include "ops/cpu/columns.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/onednn.h"
#include "ops/cpu/slices.h"

namespace bitloom::ops::cpu {

namespace {

template <class T>
void sum_columns(const T* x, std::int64_t rows, std::int64_t channels, float* sums) {
    Tensor totals = Tensor::empty({channels}, DType::f64);
    double* t = totals.write<double>();
    column_sums<1>(rows, channels, ColumnTerm<T>{x}, t);
    for (std::int64_t c = 0; c < channels; ++c) sums[c] = static_cast<float>(t[c]);
}

/// With few images a product costs less than moving weights and gradients, which the optimizer reads and writes in
/// every step, between the caches of the threads.
bool is_small(std::int64_t batch, std::int64_t weights) {
    constexpr std::int64_t few_images = 64;
    return batch < few_images || 2 * batch * weights < product_threshold;
}

/// c = relu?(a op(weight) + bias). An empty sum where k is 0, which oneDNN does not take.
void product(std::string_view who, onednn::MatrixProduct p, const Tensor& a, const Tensor& weight, const Tensor* bias,
             Tensor& c) {
    const InputRows pa(a, who);
    const float* pb = optional_input(bias, who);
    input(weight, who);
    require_storage(c, a.dtype(), who);
    p.activations = p.result = a.dtype();
    if (c.numel() == 0) return;
    if (p.k == 0) {
        c.fill(0);
        if (bias) bias_forward(c.clone(), *bias, c);
        if (p.relu) unary_forward(UnaryOp::relu, 0, 0, c.clone(), c);
        return;
    }
    const OutputRows pc(c, who);
    const ThreadScope small = one_thread_if(is_small(p.m, p.n * p.k));
    if (!deterministic()) return onednn::weight_product(p, pa.from(0), weight, pb, pc.from(0));
    for_each_slice(p.m, [&](std::int64_t first, std::int64_t count, int) {
        onednn::MatrixProduct rows = p;
        rows.m = count;
        onednn::weight_product(rows, pa.from(first), weight, pb, pc.from(first));
    });
}

/// dweight [out, in] = the sum over the batch of dy x.
void sum_products(std::string_view who, const Tensor& dy, const Tensor& x, Tensor& dweight) {
    const std::int64_t batch = x.dim(0);
    const InputRows pdy(dy, who), px(x, who);
    require_storage(x, dy.dtype(), who);
    float* pdw = output(dweight, who);
    const onednn::MatrixProduct p{
        .m = dweight.dim(0), .n = dweight.dim(1), .k = batch, .transpose_a = true, .activations = dy.dtype()};
    if (dweight.numel() == 0 || batch == 0) return dweight.fill(0);
    const ThreadScope small = one_thread_if(is_small(batch, dweight.numel()));
    if (!deterministic()) return onednn::matrix_product(p, pdy.from(0), px.from(0), pdw);
    Tensor partial = Tensor::empty({slice_count(batch), dweight.numel()});
    float* pp = partial.write<float>();
    for_each_slice(batch, [&](std::int64_t first, std::int64_t count, int s) {
        onednn::MatrixProduct part = p;
        part.k = count;
        onednn::matrix_product(part, pdy.from(first), px.from(first), pp + s * dweight.numel());
    });
    sum_slices(partial, dweight);
}

}  // namespace

void dense_forward(const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    dense_inference(x, weight, bias, NormEpilogue::none, y);
}

void dense_inference(const Tensor& x, const Tensor& weight, const Tensor* bias, NormEpilogue epilogue, Tensor& y) {
    const bool relu = epilogue == NormEpilogue::relu;
    product("dense_forward", {.m = x.dim(0), .n = weight.dim(0), .k = x.dim(1), .transpose_b = true, .relu = relu}, x,
            weight, bias, y);
}

void dense_backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) {
    product("dense_backward_data", {.m = dx.dim(0), .n = dx.dim(1), .k = weight.dim(0)}, dy, weight, nullptr, dx);
}

void dense_backward_weights(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor* dbias) {
    sum_products("dense_backward_weights", dy, x, dweight);
    if (dbias) bias_backward(dy, *dbias);
}

void bias_forward(const Tensor& x, const Tensor& bias, Tensor& y) {
    constexpr std::string_view who = "bias_forward";
    const float* pb = input(bias, who);
    const std::int64_t channels = bias.numel();
    if (channels == 0) return;
    PeriodicConstants constants(channels, 256, 1);
    constants.set(0, [&](std::int64_t c) { return pb[c]; });
    const float* b = constants[0];
    dispatch_storage(x, [&](auto zero) {
        using T = decltype(zero);
        const T* px = input<T>(x, who);
        T* py = output<T>(y, who);
        constants.for_each_run(x.numel() / channels, [=](std::int64_t first, std::int64_t count) {
#pragma omp simd
            for (std::int64_t i = 0; i < count; ++i)
                py[first + i] = static_cast<T>(static_cast<float>(px[first + i]) + b[i]);
        });
    });
}

void bias_backward(const Tensor& dy, Tensor& dbias) {
    constexpr std::string_view who = "bias_backward";
    float* pdb = output(dbias, who);
    const std::int64_t channels = dbias.numel();
    if (channels == 0) return;
    dispatch_storage(
        dy, [&](auto zero) { sum_columns(input<decltype(zero)>(dy, who), dy.numel() / channels, channels, pdb); });
}

}  // namespace bitloom::ops::cpu
