// Dropout by the counter-based stream of the CPU, and scaling of rows.

#include <cmath>

#include "cuda/ops/elements.cuh"
#include "cuda/ops/kernels.h"
#include "cuda/ops/philox.cuh"

namespace bitloom::cuda {

namespace {

constexpr int words_per_block = 4;

/// One Philox block a thread: four elements. A uniform u = k 2^-24 is at least the rate where k is at least `threshold`.
template <bool vectorised, class T>
__global__ void dropout_kernel(std::int64_t n, std::uint32_t threshold, float keep, PhiloxStream stream, const T* x, T* y) {
    const std::int64_t blocks = (n + words_per_block - 1) / words_per_block;
    for (std::int64_t b = first_element(); b < blocks; b += element_stride()) {
        const PhiloxBlock drawn = draw(stream, static_cast<std::uint64_t>(b));
        const std::int64_t first = b * words_per_block;
        if (vectorised && first + words_per_block <= n) {
            float values[words_per_block];
            load_wide(x + first, values);
#pragma unroll
            for (int k = 0; k < words_per_block; ++k)
                values[k] = drawn.word[k] >> 8 >= threshold ? values[k] / keep : 0.0f;
            store_narrow(y + first, values);
        } else {
#pragma unroll
            for (int k = 0; k < words_per_block; ++k)
                if (first + k < n)
                    y[first + k] = narrow<T>(drawn.word[k] >> 8 >= threshold ? widen(x[first + k]) / keep : 0.0f);
        }
    }
}

template <class T>
__global__ void row_scale_kernel(std::int64_t n, std::int64_t width, const float* factors, const T* x, T* y) {
    for (std::int64_t i = first_element(); i < n; i += element_stride())
        y[i] = narrow<T>(widen(x[i]) * factors[i / width]);
}

}  // namespace

void dropout(double rate, PhiloxStream stream, const Tensor& x, Tensor& y) {
    dispatch_activation(x.dtype(), "dropout", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t n = x.numel();
        const T* in = x.read<T>();
        T* out = y.write<T>();
        const auto threshold = static_cast<std::uint32_t>(std::ceil(rate * 0x1.0p24));
        const bool vectorised = aligned_to(words_per_block * sizeof(T), in, out);
        launch(x.device(), vectorised ? dropout_kernel<true, T> : dropout_kernel<false, T>,
               blocks_for(x.device(), n, words_per_block * threads_per_block), threads_per_block, 0, n, threshold,
               static_cast<float>(1 - rate), stream, in, out);
    });
}

void row_scale(const Tensor& factors, const Tensor& x, Tensor& y) {
    dispatch_activation(x.dtype(), "row_scale", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t n = x.numel();
        launch(x.device(), row_scale_kernel<T>, blocks_for(x.device(), n, threads_per_block), threads_per_block, 0, n,
               x.shape().product(1, x.rank()), factors.read<float>(), x.read<T>(), y.write<T>());
    });
}

}  // namespace bitloom::cuda
