// Batch normalisation with what follows it (residual, ReLU) in the same pass. Moments: each thread sums its rows about the
// first of them, and the parts are joined by the formula of Chan, Golub and LeVeque (1979). All count from the first row of
// the tensor: a large mean costs no digits.

#include "cuda/ops/kernels.h"
#include "cuda/ops/norm_passes.cuh"

namespace bitloom::cuda {

namespace {

struct Moments {
    float count, mean, m2;  ///< m2: sum of squared distances from the mean
};
__device__ __forceinline__ Moments join(Moments a, Moments b) {
    const float count = a.count + b.count;
    if (count == 0) return a;
    const float delta = b.mean - a.mean, share = b.count / count;
    return {count, a.mean + delta * share, a.m2 + b.m2 + delta * delta * a.count * share};
}

/// Moments of the block's rows, less the first row of x: partial[block][mean, m2][channel].
template <int width, class T>
__global__ void moments_kernel(Columns c, const T* x, float* partial) {
    __shared__ float means[threads_per_block][width], m2s[threads_per_block][width], counts[threads_per_block];
    const ColumnWork work = column_work<width>(c);
    float zero[width], origin[width] = {}, sum[width] = {}, squares[width] = {}, value[width], count = 0;
    if (work.inside) {
        load_wide(x + work.channel, zero);
        for (std::int64_t row = work.first; row < work.last; row += work.slices) {
            load_wide(x + row * c.channels + work.channel, value);
#pragma unroll
            for (int k = 0; k < width; ++k) {
                value[k] -= zero[k];
                if (count == 0) origin[k] = value[k];
                const float centred = value[k] - origin[k];
                sum[k] += centred;
                squares[k] += centred * centred;
            }
            count += 1;
        }
    }
    counts[threadIdx.x] = count;
#pragma unroll
    for (int k = 0; k < width; ++k) {
        const float mean = count > 0 ? sum[k] / count : 0.0f;
        means[threadIdx.x][k] = origin[k] + mean;
        m2s[threadIdx.x][k] = squares[k] - sum[k] * mean;
    }
    __syncthreads();
    for (int half = work.slices / 2; half > 0; half /= 2) {
        const unsigned other = threadIdx.x + static_cast<unsigned>(half * c.tile);
        if (work.slice < half) {
#pragma unroll
            for (int k = 0; k < width; ++k) {
                const Moments joined = join({counts[threadIdx.x], means[threadIdx.x][k], m2s[threadIdx.x][k]},
                                            {counts[other], means[other][k], m2s[other][k]});
                means[threadIdx.x][k] = joined.mean;
                m2s[threadIdx.x][k] = joined.m2;
            }
            counts[threadIdx.x] += counts[other];
        }
        __syncthreads();
    }
    if (work.slice != 0 || !work.inside) return;
#pragma unroll
    for (int k = 0; k < width; ++k) {
        float* target = partial + static_cast<std::int64_t>(blockIdx.x) * 2 * c.channels + work.channel + k;
        target[0] = means[threadIdx.x][k];
        target[c.channels] = m2s[threadIdx.x][k];
    }
}

/// Joins the blocks' moments, one warp a channel.
template <class T>
__global__ void finish_moments_kernel(Columns c, int blocks, const T* x, const float* partial, float* mean, float* variance) {
    const int channel = static_cast<int>(first_element() / warp_size), lane = static_cast<int>(threadIdx.x % warp_size);
    if (channel >= c.channels) return;
    Moments moments{0, 0, 0};
    for (int b = lane; b < blocks; b += warp_size) {
        const float* from = partial + static_cast<std::int64_t>(b) * 2 * c.channels + channel;
        const std::int64_t rows = min(c.rows_per_block, c.rows - b * c.rows_per_block);
        moments = join(moments, {static_cast<float>(rows), from[0], from[c.channels]});
    }
#pragma unroll
    for (unsigned distance = 1; distance < warp_size; distance *= 2) {
        const Moments other{__shfl_down_sync(full_warp, moments.count, distance),
                            __shfl_down_sync(full_warp, moments.mean, distance),
                            __shfl_down_sync(full_warp, moments.m2, distance)};
        if (lane + distance < warp_size) moments = join(moments, other);
    }
    if (lane != 0) return;
    mean[channel] = widen(x[channel]) + moments.mean;
    variance[channel] = moments.m2 / static_cast<float>(c.rows);
}

template <int width, bool relu, class T>
__global__ void normalize_kernel(Columns c, const T* x, const float* gamma, const float* beta, const T* residual,
                                 const float* mean, const float* variance, float epsilon, T* y) {
    const ColumnWork work = column_work<width>(c);
    if (!work.inside) return;
    const ChannelMap<width> map = channel_map<width>(gamma, beta, mean, variance, epsilon, work.channel);
    for (std::int64_t row = work.first; row < work.last; row += work.slices) {
        const std::int64_t at = row * c.channels + work.channel;
        float value[width], added[width];
        load_wide(x + at, value);
        if (residual) load_wide(residual + at, added);
#pragma unroll
        for (int k = 0; k < width; ++k) {
            value[k] = map(k, value[k]);
            if (residual) value[k] += added[k];
            if (relu) value[k] = value[k] < 0 ? 0.0f : value[k];
        }
        store_narrow(y + at, value);
    }
}

/// The terms of dbeta and dgamma (before the division by the deviation): dy behind the epilogue's mask, which passes where
/// y is positive, and dy (x - mean).
template <bool relu, class T>
struct GradientTerms {
    static constexpr int count = 2;
    const T *dy, *x, *y;
    const float* mean;

    template <int width>
    struct Means {
        float at[width];
    };
    template <int width>
    __device__ Means<width> parameters(int channel) const {
        Means<width> means;
#pragma unroll
        for (int k = 0; k < width; ++k) means.at[k] = mean[channel + k];
        return means;
    }
    template <int width>
    __device__ void add(const Means<width>& means, std::int64_t at, float (&sums)[count * width]) const {
        float gradient[width], value[width], output[width];
        load_wide(dy + at, gradient);
        load_wide(x + at, value);
        if constexpr (relu) load_wide(y + at, output);
#pragma unroll
        for (int k = 0; k < width; ++k) {
            if constexpr (relu)
                if (!(output[k] > 0)) gradient[k] = 0;
            sums[k] += gradient[k];
            sums[width + k] += gradient[k] * (value[k] - means.at[k]);
        }
    }
};

/// dbeta and dgamma of the blocks' sums, one warp a channel.
__global__ void finish_gradients_kernel(int channels, int blocks, const float* partial, const float* variance, float epsilon,
                                        float* dgamma, float* dbeta) {
    const int channel = static_cast<int>(first_element() / warp_size), lane = static_cast<int>(threadIdx.x % warp_size);
    if (channel >= channels) return;
    const std::int64_t stride = 2 * static_cast<std::int64_t>(channels);
    const float first = sum_of_blocks(partial + channel, blocks, stride, lane);
    const float second = sum_of_blocks(partial + channels + channel, blocks, stride, lane);
    if (lane != 0) return;
    dbeta[channel] = first;
    dgamma[channel] = second / sqrtf(variance[channel] + epsilon);
}

template <int width, bool relu, bool training, class T>
__global__ void input_gradient_kernel(Columns c, const T* dy, const T* x, const T* y, NormGradient from, T* dx,
                                      T* dresidual) {
    const ColumnWork work = column_work<width>(c);
    if (!work.inside) return;
    const InputGradient<width, training> to_input(from, c.rows, work.channel);
    for (std::int64_t row = work.first; row < work.last; row += work.slices) {
        const std::int64_t at = row * c.channels + work.channel;
        float gradient[width], value[width], output[width];
        load_wide(dy + at, gradient);
        if constexpr (training) load_wide(x + at, value);
        if constexpr (relu) {
            load_wide(y + at, output);
#pragma unroll
            for (int k = 0; k < width; ++k)
                if (!(output[k] > 0)) gradient[k] = 0;
        }
        if (dresidual) store_narrow(dresidual + at, gradient);
        if (!dx) continue;
#pragma unroll
        for (int k = 0; k < width; ++k) gradient[k] = to_input(k, gradient[k], training ? value[k] : 0.0f);
        store_narrow(dx + at, gradient);
    }
}

void normalize(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual, const Tensor& mean,
               const Tensor& variance, double epsilon, NormEpilogue epilogue, Tensor& y) {
    dispatch_activation(x.dtype(), "batch_norm", [&](auto zero) {
        using T = decltype(zero);
        const T *in = x.read<T>(), *added = read_if<T>(residual);
        T* out = y.write<T>();
        const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
        if (rows == 0) return;
        dispatch_columns<T>(
            channels,
            [&](auto wide) {
                constexpr int width = wide.value;
                const Columns c = columns_of(rows, channels, width, pass_blocks(x.device()));
                launch(x.device(),
                       epilogue == NormEpilogue::relu ? normalize_kernel<width, true, T> : normalize_kernel<width, false, T>,
                       grid_of(c), threads_per_block, 0, c, in, gamma.read<float>(), beta.read<float>(), added,
                       mean.read<float>(), variance.read<float>(), static_cast<float>(epsilon), out);
            },
            in, added, out);
    });
}

template <bool training>
void backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma, const Tensor& mean,
              const Tensor& variance, double epsilon, NormEpilogue epilogue, Tensor* dx, Tensor* dresidual, Tensor& dgamma,
              Tensor& dbeta) {
    const Device device = x.device();
    const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
    if (channels == 0) return;
    dispatch_activation(x.dtype(), "batch_norm_backward", [&](auto zero) {
        using T = decltype(zero);
        const T *gradient = dy.read<T>(), *in = x.read<T>();
        T *out = write_if<T>(dx), *to_residual = write_if<T>(dresidual);
        const bool relu = epilogue == NormEpilogue::relu;
        const T* output = relu ? y->read<T>() : nullptr;
        const float* means = mean.read<float>();
        const float* variances = variance.read<float>();
        float *to_gamma = dgamma.write<float>(), *to_beta = dbeta.write<float>();
        dispatch_columns<T>(
            channels,
            [&](auto wide) {
                constexpr int width = wide.value;
                const Columns sums = columns_of(rows, channels, width, column_blocks);
                const int blocks = static_cast<int>(grid_of(sums).x);
                Tensor memory = Tensor::empty({std::max(blocks, 1), 2, channels}, DType::f32, device);
                float* partial = memory.write<float>();
                if (relu)
                    launch(device, column_sums_kernel<width, GradientTerms<true, T>>, grid_of(sums), threads_per_block, 0,
                           sums, GradientTerms<true, T>{gradient, in, output, means}, partial);
                else
                    launch(device, column_sums_kernel<width, GradientTerms<false, T>>, grid_of(sums), threads_per_block, 0,
                           sums, GradientTerms<false, T>{gradient, in, output, means}, partial);
                finish_norm_gradients(device, channels, blocks, partial, variances, static_cast<float>(epsilon), to_gamma,
                                      to_beta);
                if (!out && !to_residual) return;
                const Columns c = columns_of(rows, channels, width, pass_blocks(device));
                launch(device,
                       relu ? input_gradient_kernel<width, true, training, T>
                            : input_gradient_kernel<width, false, training, T>,
                       grid_of(c), threads_per_block, 0, c, gradient, in, output,
                       NormGradient{gamma.read<float>(), means, variances, static_cast<float>(epsilon), to_gamma, to_beta},
                       out, to_residual);
            },
            gradient, in, output, out, to_residual);
    });
}

}  // namespace

void batch_moments(const Tensor& x, Tensor& mean, Tensor& variance) {
    const Device device = x.device();
    const std::int64_t channels = mean.numel(), rows = rows_of(x, channels);
    dispatch_activation(x.dtype(), "batch_norm_forward", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        dispatch_columns<T>(
            channels,
            [&](auto wide) {
                constexpr int width = wide.value;
                const Columns c = columns_of(rows, channels, width, column_blocks);
                const int blocks = static_cast<int>(grid_of(c).x);
                Tensor memory = Tensor::empty({std::max(blocks, 1), 2, channels}, DType::f32, device);
                float* partial = memory.write<float>();
                launch(device, moments_kernel<width, T>, grid_of(c), threads_per_block, 0, c, in, partial);
                launch(device, finish_moments_kernel<T>, blocks_of_warps(channels), threads_per_block, 0, c, blocks, in,
                       static_cast<const float*>(partial), mean.write<float>(), variance.write<float>());
            },
            in);
    });
}

void finish_norm_gradients(Device device, std::int64_t channels, int blocks, const float* partial, const float* variance,
                           float epsilon, float* dgamma, float* dbeta) {
    launch(device, finish_gradients_kernel, blocks_of_warps(channels), threads_per_block, 0, static_cast<int>(channels),
           blocks, partial, variance, epsilon, dgamma, dbeta);
}

void batch_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual, double epsilon,
                        NormEpilogue epilogue, Tensor& y, Tensor& mean, Tensor& variance) {
    if (x.numel() == 0) return;
    batch_moments(x, mean, variance);
    normalize(x, gamma, beta, residual, mean, variance, epsilon, epilogue, y);
}

void batch_norm_backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma, const Tensor& mean,
                         const Tensor& variance, double epsilon, NormEpilogue epilogue, Tensor* dx, Tensor* dresidual,
                         Tensor& dgamma, Tensor& dbeta) {
    backward<true>(dy, x, y, gamma, mean, variance, epsilon, epilogue, dx, dresidual, dgamma, dbeta);
}

void batch_norm_inference(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                          const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue epilogue, Tensor& y) {
    normalize(x, gamma, beta, residual, mean, variance, epsilon, epilogue, y);
}

void batch_norm_inference_backward(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma,
                                   const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue epilogue,
                                   Tensor* dx, Tensor* dresidual, Tensor& dgamma, Tensor& dbeta) {
    backward<false>(dy, x, y, gamma, mean, variance, epsilon, epilogue, dx, dresidual, dgamma, dbeta);
}

}  // namespace bitloom::cuda
