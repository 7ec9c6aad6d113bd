#pragma once
// What the passes of batch normalisation share: the affine map of a channel, the gradient of the input, and the
// reductions behind them. Quantized normalisation (cuda/quant/batch_norm.cu) is made of the same parts, so that it gives
// the bits of the plain one with a quantizer behind it.

#include "cuda/ops/columns.cuh"

namespace bitloom::cuda {

/// (x - mean) slope + offset of a thread's channels; slope = gamma / sqrt(variance + epsilon), offset = beta.
template <int width>
struct ChannelMap {
    float mean[width], slope[width], offset[width];

    /// One rounding behind the product, in whatever file it is compiled.
    __device__ __forceinline__ float operator()(int k, float x) const { return fmaf(x - mean[k], slope[k], offset[k]); }
};
template <int width>
__device__ __forceinline__ ChannelMap<width> channel_map(const float* gamma, const float* beta, const float* mean,
                                                         const float* variance, float epsilon, int channel) {
    ChannelMap<width> map;
#pragma unroll
    for (int k = 0; k < width; ++k) {
        map.mean[k] = mean[channel + k];
        map.slope[k] = gamma[channel + k] / sqrtf(variance[channel + k] + epsilon);
        map.offset[k] = beta[channel + k];
    }
    return map;
}

/// What the gradient of the input is made of. With m rows: dx = gamma / sigma (dy - (dbeta + x_hat dgamma) / m), or
/// gamma / sigma dy where the moments are constants.
struct NormGradient {
    const float *gamma, *mean, *variance;
    float epsilon;
    const float *dgamma, *dbeta;
};
template <int width, bool training>
struct InputGradient {
    float mean[width], inverse[width], scale[width], mean_gradient[width], slope[width];

    __device__ __forceinline__ InputGradient(const NormGradient& from, std::int64_t rows, int channel) {
        const float count = static_cast<float>(rows);
#pragma unroll
        for (int k = 0; k < width; ++k) {
            mean[k] = from.mean[channel + k];
            inverse[k] = 1 / sqrtf(from.variance[channel + k] + from.epsilon);
            scale[k] = from.gamma[channel + k] * inverse[k];
            mean_gradient[k] = training ? from.dbeta[channel + k] / count : 0.0f;
            slope[k] = training ? from.dgamma[channel + k] / count : 0.0f;
        }
    }
    __device__ __forceinline__ float operator()(int k, float gradient, float x) const {
        if constexpr (training) gradient -= mean_gradient[k] + (x - mean[k]) * inverse[k] * slope[k];
        return gradient * scale[k];
    }
};

inline std::int64_t rows_of(const Tensor& x, std::int64_t channels) { return channels ? x.numel() / channels : 0; }

/// Blocks of an elementwise pass: enough to fill the GPU.
inline std::int64_t pass_blocks(Device device) { return 16 * static_cast<std::int64_t>(properties(device).multiprocessors); }

/// Mean and biased variance of the columns of x, [rows, channels] in f32 or bf16.
void batch_moments(const Tensor& x, Tensor& mean, Tensor& variance);
/// dbeta = first sums, dgamma = second sums / sqrt(variance + epsilon), of what column_sums_kernel left in
/// partial[block][2][channel].
void finish_norm_gradients(Device device, std::int64_t channels, int blocks, const float* partial, const float* variance,
                           float epsilon, float* dgamma, float* dbeta);

}  // namespace bitloom::cuda
