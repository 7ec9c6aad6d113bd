#include "ops/cpu/columns.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/onednn.h"
#include "ops/cpu/slices.h"

namespace bitloom::ops::cpu {

namespace {

void sum_columns(const float* x, std::int64_t rows, std::int64_t channels, float* sums) {
    Tensor totals = Tensor::empty({channels}, DType::f64);
    double* t = totals.write<double>();
    column_sums<1>(rows, channels, ColumnTerm{x}, t);
    for (std::int64_t c = 0; c < channels; ++c) sums[c] = static_cast<float>(t[c]);
}

/// With few images a product costs less than moving weights and gradients, which the optimizer reads and writes in
/// every step, between the caches of the threads.
bool is_small(std::int64_t batch, std::int64_t weights) {
    constexpr std::int64_t few_images = 64;
    return batch < few_images || 2 * batch * weights < product_threshold;
}

/// c = relu?(a op(b) + bias). An empty sum where k is 0, which oneDNN does not take.
void product(const onednn::MatrixProduct& p, const float* a, const float* b, const float* bias, Tensor& c, float* pc) {
    if (c.numel() == 0) return;
    if (p.k == 0) {
        for (std::int64_t i = 0; i < c.numel(); ++i) {
            const float sum = bias ? bias[i % p.n] : 0.0f;
            pc[i] = p.relu ? std::max(sum, 0.0f) : sum;
        }
        return;
    }
    const OneThreadIf small(is_small(p.m, p.n * p.k));
    if (deterministic()) {
        for_each_slice(p.m, [&](std::int64_t first, std::int64_t count, int) {
            onednn::MatrixProduct rows = p;
            rows.m = count;
            onednn::matrix_product(rows, a + first * p.k, b, bias, pc + first * p.n);
        });
    } else {
        onednn::matrix_product(p, a, b, bias, pc);
    }
}

/// dweight [out, in] = the sum over the batch of dy x.
void sum_products(std::int64_t batch, std::int64_t out, std::int64_t in, const float* dy, const float* x,
                  Tensor& dweight, float* pdw) {
    const onednn::MatrixProduct p{.m = out, .n = in, .k = batch, .transpose_a = true};
    if (dweight.numel() == 0 || batch == 0) return dweight.fill(0);
    const OneThreadIf small(is_small(batch, dweight.numel()));
    if (!deterministic()) return onednn::matrix_product(p, dy, x, nullptr, pdw);
    Tensor partial = Tensor::empty({slice_count(batch), dweight.numel()});
    float* pp = partial.write<float>();
    for_each_slice(batch, [&](std::int64_t first, std::int64_t count, int s) {
        onednn::MatrixProduct part = p;
        part.k = count;
        onednn::matrix_product(part, dy + first * out, x + first * in, nullptr, pp + s * dweight.numel());
    });
    sum_slices(partial, dweight);
}

}  // namespace

void dense_forward(const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    constexpr std::string_view who = "dense_forward";
    const float *px = input(x, who), *pw = input(weight, who), *pb = optional_input(bias, who);
    product({.m = x.dim(0), .n = weight.dim(0), .k = x.dim(1), .transpose_b = true}, px, pw, pb, y, output(y, who));
}

void dense_inference(const Tensor& x, const Tensor& weight, const Tensor* bias, NormEpilogue epilogue, Tensor& y) {
    constexpr std::string_view who = "dense_inference";
    const float *px = input(x, who), *pw = input(weight, who), *pb = optional_input(bias, who);
    product(
        {.m = x.dim(0), .n = weight.dim(0), .k = x.dim(1), .transpose_b = true, .relu = epilogue == NormEpilogue::relu},
        px, pw, pb, y, output(y, who));
}

void dense_backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) {
    constexpr std::string_view who = "dense_backward_data";
    const float *pdy = input(dy, who), *pw = input(weight, who);
    product({.m = dx.dim(0), .n = dx.dim(1), .k = weight.dim(0)}, pdy, pw, nullptr, dx, output(dx, who));
}

void dense_backward_weights(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor* dbias) {
    constexpr std::string_view who = "dense_backward_weights";
    const float *px = input(x, who), *pdy = input(dy, who);
    sum_products(x.dim(0), dweight.dim(0), dweight.dim(1), pdy, px, dweight, output(dweight, who));
    if (dbias) sum_columns(pdy, dy.dim(0), dy.dim(1), output(*dbias, who));
}

void bias_forward(const Tensor& x, const Tensor& bias, Tensor& y) {
    constexpr std::string_view who = "bias_forward";
    const float *px = input(x, who), *pb = input(bias, who);
    float* py = output(y, who);
    const std::int64_t channels = bias.numel();
    if (channels == 0) return;
    PeriodicConstants constants(channels, 256, 1);
    constants.set(0, [&](std::int64_t c) { return pb[c]; });
    const float* b = constants[0];
    constants.for_each_run(x.numel() / channels, [=](std::int64_t first, std::int64_t count) {
#pragma omp simd
        for (std::int64_t i = 0; i < count; ++i) py[first + i] = px[first + i] + b[i];
    });
}

void bias_backward(const Tensor& dy, Tensor& dbias) {
    constexpr std::string_view who = "bias_backward";
    const float* pdy = input(dy, who);
    float* pdb = output(dbias, who);
    const std::int64_t channels = dbias.numel();
    if (channels != 0) sum_columns(pdy, dy.numel() / channels, channels, pdb);
}

}  // namespace bitloom::ops::cpu
