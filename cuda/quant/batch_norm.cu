// Batch normalisation with a step-wise ReLU in the same passes, made of the parts of the plain one: forward reads x twice
// (once for the moments) and writes y; backward computes anew what the quantizer saw, so each of its two passes reads dy
// and x, and neither y nor a mask. With a residual the first reads it and writes its gradient, which the second reads in
// place of dy.

#include "cuda/ops/norm_passes.cuh"
#include "cuda/quant/kernels.h"
#include "cuda/quant/operands.h"

namespace bitloom::cuda {

namespace {

/// The rule as the kernels know it when they are compiled: a step-wise ReLU without slope, cap, chance or noise.
__device__ __forceinline__ ElementRule plain_relu(ElementRule rule) {
    rule.kind = ElementKind::relu;
    rule.gradient = ElementGradient::relu;
    rule.rounding = ElementRounding::nearest;
    rule.slope = 0;
    rule.cap_output = false;
    rule.noise = 1;
    rule.through = true;
    return rule;
}
void check_rule(const ElementRule& rule, std::string_view who) {
    require(rule.kind == ElementKind::relu && rule.gradient == ElementGradient::relu &&
                rule.rounding == ElementRounding::nearest && rule.slope == 0 && !rule.cap_output && rule.noise == 1 &&
                rule.through,
            who, ": needs a step-wise ReLU without slope, cap or noise");
}

template <int width>
__device__ __forceinline__ ChannelMap<width> stored_map(const float* map, int channels, int channel) {
    ChannelMap<width> m;
#pragma unroll
    for (int k = 0; k < width; ++k) {
        m.mean[k] = map[channel + k];
        m.slope[k] = map[channels + channel + k];
        m.offset[k] = map[2 * channels + channel + k];
    }
    return m;
}

/// What reached the quantizer.
template <int width, class T>
__device__ __forceinline__ void seen(const ChannelMap<width>& map, const T* residual, std::int64_t at,
                                     const float (&x)[width], float (&v)[width]) {
    float added[width];
    if (residual) load_wide(residual + at, added);
#pragma unroll
    for (int k = 0; k < width; ++k) v[k] = residual ? map(k, x[k]) + added[k] : map(k, x[k]);
}

template <int width, class T>
__global__ void normalize_quantize_kernel(Columns c, ElementRule rule, const T* x, const float* gamma, const float* beta,
                                          const T* residual, const float* mean, const float* variance, float epsilon, T* y,
                                          float* map) {
    const ColumnWork work = column_work<width>(c);
    if (!work.inside) return;
    const ElementRule relu = plain_relu(rule);
    const ChannelMap<width> m = channel_map<width>(gamma, beta, mean, variance, epsilon, work.channel);
    if (blockIdx.x == 0 && work.slice == 0) {
#pragma unroll
        for (int k = 0; k < width; ++k) {
            map[work.channel + k] = m.mean[k];
            map[c.channels + work.channel + k] = m.slope[k];
            map[2 * c.channels + work.channel + k] = m.offset[k];
        }
    }
    for (std::int64_t row = work.first; row < work.last; row += work.slices) {
        const std::int64_t at = row * c.channels + work.channel;
        float value[width], v[width];
        load_wide(x + at, value);
        seen(m, residual, at, value, v);
#pragma unroll
        for (int k = 0; k < width; ++k) value[k] = quantize_element<float>(relu, v[k]);
        store_narrow(y + at, value);
    }
}

/// The terms of dbeta and dgamma (before the division by the deviation); writes the gradient behind the quantizer where it
/// is asked for.
template <class T>
struct QuantizedTerms {
    static constexpr int count = 2;
    ElementRule rule;
    int channels;
    const T *dy, *x, *residual;
    const float* map;
    T* kept;

    template <int width>
    __device__ ChannelMap<width> parameters(int channel) const {
        return stored_map<width>(map, channels, channel);
    }
    template <int width>
    __device__ void add(const ChannelMap<width>& m, std::int64_t at, float (&sums)[count * width]) const {
        const ElementRule relu = plain_relu(rule);
        float gradient[width], value[width], v[width];
        load_wide(dy + at, gradient);
        load_wide(x + at, value);
        seen(m, residual, at, value, v);
#pragma unroll
        for (int k = 0; k < width; ++k) {
            gradient[k] *= quantize_element_gradient<float>(relu, v[k]);
            sums[k] += gradient[k];
            sums[width + k] += gradient[k] * (value[k] - m.mean[k]);
        }
        if (kept) store_narrow(kept + at, gradient);
    }
};

/// `masked`: dy has passed the quantizer already.
template <int width, bool masked, bool training, class T>
__global__ void quantized_input_gradient_kernel(Columns c, ElementRule rule, const T* dy, const T* x, const T* residual,
                                                const float* map, NormGradient from, T* dx) {
    const ColumnWork work = column_work<width>(c);
    if (!work.inside) return;
    const ElementRule relu = plain_relu(rule);
    const InputGradient<width, training> to_input(from, c.rows, work.channel);
    const ChannelMap<width> m = stored_map<width>(map, c.channels, work.channel);
    for (std::int64_t row = work.first; row < work.last; row += work.slices) {
        const std::int64_t at = row * c.channels + work.channel;
        float gradient[width], value[width] = {}, v[width];
        load_wide(dy + at, gradient);
        if constexpr (training || !masked) load_wide(x + at, value);
        if constexpr (!masked) {
            seen(m, residual, at, value, v);
#pragma unroll
            for (int k = 0; k < width; ++k) gradient[k] *= quantize_element_gradient<float>(relu, v[k]);
        }
#pragma unroll
        for (int k = 0; k < width; ++k) gradient[k] = to_input(k, gradient[k], value[k]);
        store_narrow(dx + at, gradient);
    }
}

}  // namespace

void batch_norm_quantize(const ElementRule& rule, bool training, const Tensor& x, const Tensor& gamma, const Tensor& beta,
                         const Tensor* residual, double epsilon, Tensor& mean, Tensor& variance, Tensor& y, Tensor& map) {
    constexpr std::string_view who = "batch_norm_quantize";
    check_rule(rule, who);
    const Device device = x.device();
    const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
    float* to_map = f32_output(map, who);
    if (training) batch_moments(x, mean, variance);
    dispatch_activation(x.dtype(), who, [&](auto zero) {
        using T = decltype(zero);
        const T *in = x.read<T>(), *added = read_if<T>(residual);
        T* out = y.write<T>();
        dispatch_columns<T>(
            channels,
            [&](auto wide) {
                constexpr int width = wide.value;
                const Columns c = columns_of(rows, channels, width, pass_blocks(device));
                launch(device, normalize_quantize_kernel<width, T>, grid_of(c), threads_per_block, 0, c, rule, in,
                       f32_input(gamma, who), f32_input(beta, who), added, f32_input(mean, who), f32_input(variance, who),
                       static_cast<float>(epsilon), out, to_map);
            },
            in, added, out);
    });
}

void batch_norm_quantize_backward(const ElementRule& rule, bool training, const Tensor& dy, const Tensor& x,
                                  const Tensor* residual, const Tensor& gamma, const Tensor& mean, const Tensor& variance,
                                  const Tensor& map, double epsilon, Tensor* dx, Tensor* dresidual, Tensor& dgamma,
                                  Tensor& dbeta) {
    constexpr std::string_view who = "batch_norm_quantize_backward";
    check_rule(rule, who);
    const Device device = x.device();
    const std::int64_t channels = gamma.numel(), rows = rows_of(x, channels);
    const float *affine = f32_input(map, who), *variances = f32_input(variance, who);
    const NormGradient from{f32_input(gamma, who), f32_input(mean, who), variances, static_cast<float>(epsilon),
                            f32_output(dgamma, who), f32_output(dbeta, who)};
    dispatch_activation(x.dtype(), who, [&](auto zero) {
        using T = decltype(zero);
        const T *gradient = dy.read<T>(), *in = x.read<T>(), *added = read_if<T>(residual);
        T *out = write_if<T>(dx), *kept = write_if<T>(dresidual);
        dispatch_columns<T>(
            channels,
            [&](auto wide) {
                constexpr int width = wide.value;
                const Columns sums = columns_of(rows, channels, width, column_blocks);
                const int blocks = static_cast<int>(grid_of(sums).x);
                Tensor memory = Tensor::empty({std::max(blocks, 1), 2, channels}, DType::f32, device);
                float* partial = memory.write<float>();
                launch(device, column_sums_kernel<width, QuantizedTerms<T>>, grid_of(sums), threads_per_block, 0, sums,
                       QuantizedTerms<T>{rule, static_cast<int>(channels), gradient, in, added, affine, kept}, partial);
                finish_norm_gradients(device, channels, blocks, partial, variances, from.epsilon, dgamma.write<float>(),
                                      dbeta.write<float>());
                if (!out) return;
                const Columns c = columns_of(rows, channels, width, pass_blocks(device));
                const auto run = [&](auto kernel) {
                    launch(device, kernel, grid_of(c), threads_per_block, 0, c, rule, kept ? kept : gradient, in, added,
                           affine, from, out);
                };
                if (kept)
                    training ? run(quantized_input_gradient_kernel<width, true, true, T>)
                             : run(quantized_input_gradient_kernel<width, true, false, T>);
                else
                    training ? run(quantized_input_gradient_kernel<width, false, true, T>)
                             : run(quantized_input_gradient_kernel<width, false, false, T>);
            },
            gradient, in, added, out, kept);
    });
}

}  // namespace bitloom::cuda
