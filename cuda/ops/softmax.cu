// Softmax and cross-entropy over the last axis: one warp a row.

#include "cuda/ops/elements.cuh"
#include "cuda/ops/kernels.h"
#include "cuda/ops/warp.cuh"

namespace bitloom::cuda {

namespace {

constexpr int rows_per_block = threads_per_block / warp_size;

/// The rows that a warp takes, and its lane.
struct Rows {
    std::int64_t first, stride;
    int lane;
};
__device__ __forceinline__ Rows rows_of_warp() {
    return {static_cast<std::int64_t>(blockIdx.x) * rows_per_block + threadIdx.x / warp_size,
            static_cast<std::int64_t>(gridDim.x) * rows_per_block, static_cast<int>(threadIdx.x % warp_size)};
}

struct LogSumExp {
    float maximum;  ///< subtracted before exp, so that no term overflows and the largest is 1
    float sum;      ///< of exp(z - maximum)
};
template <class T>
__device__ LogSumExp log_sum_exp(const T* z, std::int64_t n, int lane) {
    float maximum = -INFINITY, sum = 0;
    for (std::int64_t i = lane; i < n; i += warp_size) maximum = fmaxf(maximum, widen(z[i]));
    maximum = warp_max(maximum);
    for (std::int64_t i = lane; i < n; i += warp_size) sum += expf(widen(z[i]) - maximum);
    return {maximum, warp_sum(sum)};
}

template <class T>
__global__ void softmax_kernel(bool log, std::int64_t rows, std::int64_t n, const T* x, T* y) {
    const Rows mine = rows_of_warp();
    for (std::int64_t r = mine.first; r < rows; r += mine.stride) {
        const T* z = x + r * n;
        T* out = y + r * n;
        const LogSumExp norm = log_sum_exp(z, n, mine.lane);
        const float log_sum = logf(norm.sum);
        for (std::int64_t i = mine.lane; i < n; i += warp_size) {
            const float centred = widen(z[i]) - norm.maximum;
            out[i] = narrow<T>(log ? centred - log_sum : expf(centred) / norm.sum);
        }
    }
}

template <class T>
__global__ void softmax_backward_kernel(bool log, std::int64_t rows, std::int64_t n, const T* y, const T* dy, T* dx) {
    const Rows mine = rows_of_warp();
    for (std::int64_t r = mine.first; r < rows; r += mine.stride) {
        const T *value = y + r * n, *gradient = dy + r * n;
        float sum = 0;
        for (std::int64_t i = mine.lane; i < n; i += warp_size)
            sum += log ? widen(gradient[i]) : widen(gradient[i]) * widen(value[i]);
        sum = warp_sum(sum);
        for (std::int64_t i = mine.lane; i < n; i += warp_size) {
            const float v = widen(value[i]), g = widen(gradient[i]);
            dx[r * n + i] = narrow<T>(log ? g - expf(v) * sum : v * (g - sum));
        }
    }
}

/// A label outside the classes, which the host cannot check without waiting, makes the sample's loss NaN.
__global__ void cross_entropy_kernel(std::int64_t batch, std::int64_t classes, const float* logits,
                                     const std::int32_t* labels, float* losses, float* probabilities) {
    const Rows mine = rows_of_warp();
    for (std::int64_t b = mine.first; b < batch; b += mine.stride) {
        const float* z = logits + b * classes;
        const LogSumExp norm = log_sum_exp(z, classes, mine.lane);
        if (mine.lane == 0) {
            const std::int32_t label = labels[b];
            losses[b] = label >= 0 && label < classes ? norm.maximum - z[label] + logf(norm.sum) : NAN;
        }
        if (!probabilities) continue;
        for (std::int64_t i = mine.lane; i < classes; i += warp_size)
            probabilities[b * classes + i] = expf(z[i] - norm.maximum) / norm.sum;
    }
}

__global__ void cross_entropy_backward_kernel(std::int64_t n, std::int64_t classes, const float* probabilities,
                                              const std::int32_t* labels, float scale, const float* dloss,
                                              float* dlogits) {
    const float factor = scale * dloss[0];
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        const std::int64_t row = i / classes, column = i - row * classes;
        dlogits[i] = (probabilities[i] - (column == labels[row] ? 1.0f : 0.0f)) * factor;
    }
}

unsigned blocks_for_rows(const Tensor& x, std::int64_t rows) { return blocks_for(x.device(), rows, rows_per_block); }

}  // namespace

void softmax_forward(bool log, const Tensor& x, Tensor& y) {
    dispatch_activation(x.dtype(), "softmax", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t n = x.dim(-1), rows = n ? x.numel() / n : 0;
        launch(x.device(), softmax_kernel<T>, blocks_for_rows(x, rows), threads_per_block, 0, log, rows, n, x.read<T>(),
               y.write<T>());
    });
}

void softmax_backward(bool log, const Tensor& y, const Tensor& dy, Tensor& dx) {
    dispatch_activation(y.dtype(), "softmax", [&](auto zero) {
        using T = decltype(zero);
        const std::int64_t n = y.dim(-1), rows = n ? y.numel() / n : 0;
        launch(y.device(), softmax_backward_kernel<T>, blocks_for_rows(y, rows), threads_per_block, 0, log, rows, n,
               y.read<T>(), dy.read<T>(), dx.write<T>());
    });
}

void cross_entropy_forward(const Tensor& logits, const Tensor& labels, Tensor& losses, Tensor* probabilities) {
    const std::int64_t batch = logits.dim(0), classes = logits.dim(1);
    launch(logits.device(), cross_entropy_kernel, blocks_for_rows(logits, batch), threads_per_block, 0, batch, classes,
           logits.read<float>(), labels.read<std::int32_t>(), losses.write<float>(), write_if<float>(probabilities));
}

void cross_entropy_backward(const Tensor& probabilities, const Tensor& labels, double scale, const Tensor& dloss,
                            Tensor& dlogits) {
    const std::int64_t n = probabilities.numel();
    launch(probabilities.device(), cross_entropy_backward_kernel,
           blocks_for(probabilities.device(), n, threads_per_block), threads_per_block, 0, n, probabilities.dim(1),
           probabilities.read<float>(), labels.read<std::int32_t>(), static_cast<float>(scale), dloss.read<float>(),
           dlogits.write<float>());
}

}  // namespace bitloom::cuda
