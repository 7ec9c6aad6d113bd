// Bias along the last axis and its gradient.

#include "cuda/ops/columns.cuh"
#include "cuda/ops/kernels.h"

namespace bitloom::cuda {

namespace {

template <int width, class T>
__global__ void bias_kernel(Columns c, const T* x, const float* bias, T* y) {
    const ColumnWork work = column_work<width>(c);
    if (!work.inside) return;
    float added[width], value[width];
#pragma unroll
    for (int k = 0; k < width; ++k) added[k] = bias[work.channel + k];
    for (std::int64_t row = work.first; row < work.last; row += work.slices) {
        const std::int64_t at = row * c.channels + work.channel;
        load_wide(x + at, value);
#pragma unroll
        for (int k = 0; k < width; ++k) value[k] += added[k];
        store_narrow(y + at, value);
    }
}

template <class T>
struct BiasTerms {
    static constexpr int count = 1;
    const T* dy;
    struct Nothing {};
    template <int width>
    __device__ Nothing parameters(int) const {
        return {};
    }
    template <int width>
    __device__ void add(Nothing, std::int64_t at, float (&sums)[width]) const {
        float gradient[width];
        load_wide(dy + at, gradient);
#pragma unroll
        for (int k = 0; k < width; ++k) sums[k] += gradient[k];
    }
};

/// dbias of the blocks' sums, one warp a channel.
__global__ void finish_bias_kernel(int channels, int blocks, const float* partial, float* dbias) {
    const int channel = static_cast<int>(first_element() / warp_size), lane = static_cast<int>(threadIdx.x % warp_size);
    if (channel >= channels) return;
    const float sum = sum_of_blocks(partial + channel, blocks, channels, lane);
    if (lane == 0) dbias[channel] = sum;
}

}  // namespace

void bias_forward(const Tensor& x, const Tensor& bias, Tensor& y) {
    if (x.numel() == 0) return;
    const std::int64_t channels = bias.numel(), rows = x.numel() / channels;
    dispatch_activation(x.dtype(), "bias_forward", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        T* out = y.write<T>();
        dispatch_columns<T>(
            channels,
            [&](auto wide) {
                const Columns c = columns_of(rows, channels, wide.value,
                                             16 * static_cast<std::int64_t>(properties(x.device()).multiprocessors));
                launch(x.device(), bias_kernel<wide.value, T>, grid_of(c), threads_per_block, 0, c, in, bias.read<float>(),
                       out);
            },
            in, out);
    });
}

void bias_backward(const Tensor& dy, Tensor& dbias) {
    const std::int64_t channels = dbias.numel(), rows = channels ? dy.numel() / channels : 0;
    if (channels == 0) return;
    const Device device = dy.device();
    dispatch_activation(dy.dtype(), "bias_backward", [&](auto zero) {
        using T = decltype(zero);
        const T* gradient = dy.read<T>();
        dispatch_columns<T>(
            channels,
            [&](auto wide) {
                const Columns c = columns_of(rows, channels, wide.value, column_blocks);
                const int blocks = static_cast<int>(grid_of(c).x);
                Tensor memory = Tensor::empty({std::max(blocks, 1), channels}, DType::f32, device);
                float* partial = memory.write<float>();
                launch(device, column_sums_kernel<wide.value, BiasTerms<T>>, grid_of(c), threads_per_block, 0, c,
                       BiasTerms<T>{gradient}, partial);
                launch(device, finish_bias_kernel, blocks_of_warps(channels), threads_per_block, 0,
                       static_cast<int>(channels), blocks, static_cast<const float*>(partial), dbias.write<float>());
            },
            gradient);
    });
}

}  // namespace bitloom::cuda
