#include <algorithm>

#include "ops/reference/kernels.h"

namespace bitloom::ops::reference {

void dense_forward(const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    dispatch_float(x.dtype(), "dense_forward", [&](auto type) {
        using T = decltype(type);
        const T *px = x.read<T>(), *pw = weight.read<T>(), *pb = bias ? bias->read<T>() : nullptr;
        T* py = y.write<T>();
        const std::int64_t batch = x.dim(0), in = x.dim(1), out = weight.dim(0);
#pragma omp parallel for schedule(static) if (worth_threads(batch * in * out))
        for (std::int64_t b = 0; b < batch; ++b) {
            for (std::int64_t o = 0; o < out; ++o) {
                T sum = 0;
                for (std::int64_t i = 0; i < in; ++i) sum += px[b * in + i] * pw[o * in + i];
                py[b * out + o] = pb ? sum + pb[o] : sum;
            }
        }
    });
}

void dense_inference(const Tensor& x, const Tensor& weight, const Tensor* bias, NormEpilogue epilogue, Tensor& y) {
    dense_forward(x, weight, bias, y);
    if (epilogue != NormEpilogue::relu) return;
    dispatch_float(x.dtype(), "dense_inference", [&](auto type) {
        using T = decltype(type);
        T* py = y.write<T>();
        for (std::int64_t i = 0; i < y.numel(); ++i) py[i] = py[i] < 0 ? T(0) : py[i];
    });
}

void dense_backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) {
    dispatch_float(dy.dtype(), "dense_backward_data", [&](auto type) {
        using T = decltype(type);
        const T *pdy = dy.read<T>(), *pw = weight.read<T>();
        T* pdx = dx.write<T>();
        const std::int64_t batch = dx.dim(0), in = dx.dim(1), out = weight.dim(0);
#pragma omp parallel for schedule(static) if (worth_threads(batch * in * out))
        for (std::int64_t b = 0; b < batch; ++b) {
            std::fill_n(pdx + b * in, in, T(0));
            for (std::int64_t o = 0; o < out; ++o)
                for (std::int64_t i = 0; i < in; ++i) pdx[b * in + i] += pdy[b * out + o] * pw[o * in + i];
        }
    });
}

void dense_backward_weights(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor* dbias) {
    dispatch_float(x.dtype(), "dense_backward_weights", [&](auto type) {
        using T = decltype(type);
        const T *px = x.read<T>(), *pdy = dy.read<T>();
        T *pdw = dweight.write<T>(), *pdb = dbias ? dbias->write<T>() : nullptr;
        const std::int64_t batch = x.dim(0), in = x.dim(1), out = dweight.dim(0);
#pragma omp parallel for schedule(static) if (worth_threads(batch * in * out))
        for (std::int64_t o = 0; o < out; ++o) {
            std::fill_n(pdw + o * in, in, T(0));
            T bias_sum = 0;
            for (std::int64_t b = 0; b < batch; ++b) {
                const T gradient = pdy[b * out + o];
                bias_sum += gradient;
                for (std::int64_t i = 0; i < in; ++i) pdw[o * in + i] += gradient * px[b * in + i];
            }
            if (pdb) pdb[o] = bias_sum;
        }
    });
}

void bias_forward(const Tensor& x, const Tensor& bias, Tensor& y) {
    dispatch_float(x.dtype(), "bias_forward", [&](auto type) {
        using T = decltype(type);
        const T *px = x.read<T>(), *pb = bias.read<T>();
        T* py = y.write<T>();
        const std::int64_t channels = bias.numel(), rows = channels ? x.numel() / channels : 0;
        for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t c = 0; c < channels; ++c) py[r * channels + c] = px[r * channels + c] + pb[c];
    });
}

void bias_backward(const Tensor& dy, Tensor& dbias) {
    dispatch_float(dy.dtype(), "bias_backward", [&](auto type) {
        using T = decltype(type);
        const T* pdy = dy.read<T>();
        T* pdb = dbias.write<T>();
        const std::int64_t channels = dbias.numel(), rows = channels ? dy.numel() / channels : 0;
        std::fill_n(pdb, channels, T(0));
        for (std::int64_t r = 0; r < rows; ++r)
            for (std::int64_t c = 0; c < channels; ++c) pdb[c] += pdy[r * channels + c];
    });
}

}  // namespace bitloom::ops::reference
