#include "ops/cpu/columns.h"
#include "ops/cpu/kernels.h"
#include "ops/cpu/onednn.h"

namespace bitloom::ops::cpu {

namespace {

void sum_columns(const float* x, std::int64_t rows, std::int64_t channels, float* sums) {
    Tensor totals = Tensor::empty({channels}, DType::f64);
    double* t = totals.write<double>();
    column_sums<1>(rows, channels, ColumnTerm{x}, t);
    for (std::int64_t c = 0; c < channels; ++c) sums[c] = static_cast<float>(t[c]);
}

/// An empty sum where an extent is 0, which oneDNN does not take.
void product(const onednn::MatrixProduct& p, const float* a, const float* b, const float* bias, Tensor& c, float* pc) {
    if (c.numel() == 0) return;
    if (p.k != 0) return onednn::matrix_product(p, a, b, bias, pc);
    for (std::int64_t i = 0; i < c.numel(); ++i) {
        const float sum = bias ? bias[i % p.n] : 0.0f;
        pc[i] = p.relu ? std::max(sum, 0.0f) : sum;
    }
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
    product({.m = x.dim(0),
             .n = weight.dim(0),
             .k = x.dim(1),
             .transpose_b = true,
             .relu = epilogue == NormEpilogue::relu},
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
    product({.m = dweight.dim(0), .n = dweight.dim(1), .k = x.dim(0), .transpose_a = true}, pdy, px, nullptr, dweight,
            output(dweight, who));
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
