// The kernels of bit planes: every pass reads each plane once, four weights a thread, and makes the sums that the pass asks
// for on its way. Sums end in double; their order depends on the shape alone.

#include <array>

#include "cuda/ops/elements.cuh"
#include "cuda/quant/block.cuh"
#include "cuda/quant/operands.h"
#include "cuda/quant/tables.h"

namespace bitloom::cuda {

namespace {

using namespace bsq;

/// Blocks of a pass that sums, whatever the GPU.
constexpr std::int64_t sum_blocks = 512;
unsigned blocks_of_sums(std::int64_t packs) {
    return static_cast<unsigned>(std::min((packs + threads_per_block - 1) / threads_per_block, sum_blocks));
}

struct PlaneFactors {
    float at[max_bits];
};
PlaneFactors plane_factors(int bits) {
    PlaneFactors factors{};
    for (int b = 0; b < bits; ++b) factors.at[b] = plane_factor(b, bits);
    return factors;
}

/// Calls f(width as a constant): packs of 16 bytes where every plane starts on one, else 1.
template <class F, class... Pointers>
void dispatch_planes(std::int64_t count, F&& f, const Pointers*... pointers) {
    if (count % pack_width<float> == 0 && aligned_to(16, pointers...))
        f(std::integral_constant<int, pack_width<float>>{});
    else
        f(std::integral_constant<int, 1>{});
}

/// out[column] = sum over the blocks of partial[block][column], one warp a column.
template <class Out>
__global__ void finish_sums_kernel(int blocks, int columns, const double* partial, Out* out) {
    const int column = static_cast<int>(first_element() / warp_size), lane = static_cast<int>(threadIdx.x % warp_size);
    if (column >= columns) return;
    double sum = 0;
    for (int b = lane; b < blocks; b += warp_size) sum += partial[static_cast<std::int64_t>(b) * columns + column];
    sum = warp_sum(sum);
    if (lane == 0) out[column] = static_cast<Out>(sum);
}
template <class Out>
void finish_sums(Device device, unsigned blocks, int columns, const double* partial, Out* out) {
    const auto warps = static_cast<unsigned>((columns * warp_size + threads_per_block - 1) / threads_per_block);
    launch(device, finish_sums_kernel<Out>, warps, threads_per_block, 0, static_cast<int>(blocks), columns, partial, out);
}

Tensor partial_sums(Device device, unsigned blocks, int columns) {
    return Tensor::empty({std::max<std::int64_t>(blocks, 1), columns}, DType::f64, device);
}

/// t = sum_b factor_b (p_b - n_b) of a pack of weights; adds p_b^2 + n_b^2 to squares[b] where asked.
template <int width, bool measured>
__device__ __forceinline__ void sum_planes(int bits, const PlaneFactors& factors, const float* planes, std::int64_t count,
                                           std::int64_t at, float (&t)[width], float (&squares)[max_bits]) {
#pragma unroll
    for (int k = 0; k < width; ++k) t[k] = 0;
#pragma unroll
    for (int b = 0; b < max_bits; ++b) {
        if (b >= bits) break;
        const float* p = planes + 2 * b * count + at;
        float positive[width], negative[width];
        load_wide(p, positive);
        load_wide(p + count, negative);
#pragma unroll
        for (int k = 0; k < width; ++k) {
            t[k] += factors.at[b] * (positive[k] - negative[k]);
            if (measured) squares[b] += positive[k] * positive[k] + negative[k] * negative[k];
        }
    }
}

template <int width, bool measured>
__global__ void planes_to_weights_kernel(QuantizationRule rule, PlaneFactors factors, std::int64_t count, const float* planes,
                                         const float* scale, float* weights, double* partial) {
    const float s = *scale;
    float squares[max_bits] = {};
    for (std::int64_t i = first_element(); i < count / width; i += element_stride()) {
        float t[width];
        sum_planes<width, measured>(rule.bits, factors, planes, count, i * width, t, squares);
#pragma unroll
        for (int k = 0; k < width; ++k) t[k] = s * quantized(rule, t[k]);
        store_narrow(weights + i * width, t);
    }
    if constexpr (measured) {
        double sums[max_bits];
#pragma unroll
        for (int b = 0; b < max_bits; ++b) sums[b] = static_cast<double>(squares[b]);
        block_sum<threads_per_block>(sums, rule.bits);
#pragma unroll
        for (int b = 0; b < max_bits; ++b)
            if (b < rule.bits && threadIdx.x == 0) partial[static_cast<std::int64_t>(blockIdx.x) * rule.bits + b] = sums[b];
    }
}

void planes_to_weights(const QuantizationRule& rule, const Tensor& planes, const Tensor& scale, Tensor& weights,
                       Tensor* sums) {
    constexpr std::string_view who = "planes_to_weights";
    const Device device = planes.device();
    const std::int64_t count = weights.numel();
    const float *in = f32_input(planes, who), *s = f32_input(scale, who);
    float* out = f32_output(weights, who);
    dispatch_planes(
        count,
        [&](auto wide) {
            constexpr int width = wide.value;
            const std::int64_t packs = count / width;
            if (!sums) {
                launch(device, planes_to_weights_kernel<width, false>, blocks_for(device, packs, threads_per_block),
                       threads_per_block, 0, rule, plane_factors(rule.bits), count, in, s, out, nullptr);
                return;
            }
            const unsigned blocks = blocks_of_sums(packs);
            Tensor memory = partial_sums(device, blocks, rule.bits);
            double* partial = memory.write<double>();
            launch(device, planes_to_weights_kernel<width, true>, blocks, threads_per_block, 0, rule,
                   plane_factors(rule.bits), count, in, s, out, partial);
            finish_sums(device, blocks, rule.bits, partial, sums->write<double>());
        },
        in, out);
}

/// The regulariser's part of a backward pass: c_b p_b with c_b = dnorm coefficient / sqrt(1e-8 + S_b).
struct NormPart {
    const double* sums = nullptr;  ///< null: none
    const float* dnorm = nullptr;
    double coefficient = 0;
};

template <int width, bool normed>
__global__ void planes_backward_kernel(QuantizationRule rule, PlaneFactors factors, NormPart norm, std::int64_t count,
                                       const float* planes, const float* scale, const float* dweights, float* dplanes,
                                       double* partial) {
    __shared__ float norms[max_bits];
    if constexpr (normed) {
        const int b = static_cast<int>(threadIdx.x);
        if (b < rule.bits)
            norms[b] = static_cast<float>(static_cast<double>(*norm.dnorm) * norm.coefficient / sqrt(1e-8 + norm.sums[b]));
        __syncthreads();
    }
    const float s = *scale;
    double products[1] = {};
    for (std::int64_t i = first_element(); i < count / width; i += element_stride()) {
        const std::int64_t at = i * width;
        float t[width], g[width], unused[max_bits], sum = 0;
        sum_planes<width, false>(rule.bits, factors, planes, count, at, t, unused);
        load_wide(dweights + at, g);
#pragma unroll
        for (int k = 0; k < width; ++k) {
            sum += g[k] * quantized(rule, t[k]);
            g[k] = s * g[k];
        }
        products[0] += static_cast<double>(sum);
#pragma unroll
        for (int b = 0; b < max_bits; ++b) {
            if (b >= rule.bits) break;
            const std::int64_t plane = 2 * b * count + at;
            float positive[width] = {}, negative[width] = {};
            if constexpr (normed) {  // read a moment ago: they lie in the first-level cache
                load_wide(planes + plane, positive);
                load_wide(planes + plane + count, negative);
            }
#pragma unroll
            for (int k = 0; k < width; ++k) {
                const float d = factors.at[b] * g[k];
                positive[k] = normed ? d + norms[b] * positive[k] : d;
                negative[k] = normed ? norms[b] * negative[k] - d : -d;
            }
            store_narrow(dplanes + plane, positive);
            store_narrow(dplanes + plane + count, negative);
        }
    }
    block_sum<threads_per_block>(products);
    if (threadIdx.x == 0) partial[blockIdx.x] = products[0];
}

void planes_backward(const QuantizationRule& rule, const Tensor& planes, const Tensor& scale, const Tensor& dweights,
                     const GroupNorms* norms, const Tensor* dnorm, Tensor& dplanes, Tensor& dscale) {
    constexpr std::string_view who = "planes_backward";
    const Device device = planes.device();
    const std::int64_t count = dweights.numel();
    const float *in = f32_input(planes, who), *s = f32_input(scale, who), *dw = f32_input(dweights, who);
    float* out = f32_output(dplanes, who);
    NormPart norm;
    if (norms) norm = {norms->sums->read<double>(), f32_input(*dnorm, who), norms->coefficient};
    dispatch_planes(
        count,
        [&](auto wide) {
            constexpr int width = wide.value;
            const unsigned blocks = blocks_of_sums(count / width);
            Tensor memory = partial_sums(device, blocks, 1);
            double* partial = memory.write<double>();
            launch(device, norms ? planes_backward_kernel<width, true> : planes_backward_kernel<width, false>, blocks,
                   threads_per_block, 0, rule, plane_factors(rule.bits), norm, count, in, s, dw, out, partial);
            finish_sums(device, blocks, 1, partial, f32_output(dscale, who));
        },
        in, dw, out);
}

/// Grid: blocks x planes' pairs. partial[block][bit]
template <int width>
__global__ void plane_norms_kernel(int bits, std::int64_t group, const float* planes, double* partial) {
    const int bit = static_cast<int>(blockIdx.y);
    float sum = 0;
    for (std::int64_t i = first_element(); i < group / width; i += element_stride()) {
        float values[width];
        load_wide(planes + bit * group + i * width, values);
#pragma unroll
        for (int k = 0; k < width; ++k) sum += values[k] * values[k];
    }
    double sums[1] = {static_cast<double>(sum)};
    block_sum<threads_per_block>(sums);
    if (threadIdx.x == 0) partial[static_cast<std::int64_t>(blockIdx.x) * bits + bit] = sums[0];
}

void plane_norms(const Tensor& planes, Tensor& sums) {
    const Device device = planes.device();
    const int bits = static_cast<int>(planes.dim(0));
    const std::int64_t group = planes.numel() / std::max(bits, 1);
    const float* in = f32_input(planes, "plane_norms");
    dispatch_planes(
        group,
        [&](auto wide) {
            constexpr int width = wide.value;
            const unsigned blocks = blocks_of_sums(group / width);
            Tensor memory = partial_sums(device, blocks, bits);
            double* partial = memory.write<double>();
            launch(device, plane_norms_kernel<width>, dim3(blocks, static_cast<unsigned>(bits)), threads_per_block, 0, bits,
                   group, in, partial);
            finish_sums(device, blocks, bits, partial, sums.write<double>());
        },
        in);
}

/// The tensors of one launch; more take several launches, which add to one double.
struct LassoRows {
    static constexpr int most = 64;
    const double* sums[most];
    double coefficient[most];
    int bits[most];
    int count;
};
__global__ void group_lasso_kernel(LassoRows rows, bool first, bool last, double factor, double* total, float* value) {
    __shared__ double terms[LassoRows::most];
    const int row = static_cast<int>(threadIdx.x);
    if (row < rows.count) {
        double norms = 0;
        for (int b = 0; b < rows.bits[row]; ++b) norms += sqrt(1e-8 + rows.sums[row][b]);
        terms[row] = rows.coefficient[row] * norms;
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    double sum = first ? 0 : *total;
    for (int r = 0; r < rows.count; ++r) sum += terms[r];
    *total = sum;
    if (last) *value = static_cast<float>(factor * sum);
}

void group_lasso(std::span<const GroupNorms> rows, double factor, Tensor& value) {
    const Device device = value.device();
    float* out = f32_output(value, "group_lasso");
    Tensor memory = Tensor::empty({1}, DType::f64, device);
    double* total = memory.write<double>();
    std::size_t done = 0;
    do {
        LassoRows some{};
        while (done < rows.size() && some.count < LassoRows::most) {
            const GroupNorms& row = rows[done];
            some.sums[some.count] = row.sums->read<double>();
            some.coefficient[some.count] = row.coefficient;
            some.bits[some.count++] = static_cast<int>(row.sums->numel());
            ++done;
        }
        const bool first = done <= static_cast<std::size_t>(some.count);
        launch(device, group_lasso_kernel, 1, LassoRows::most, 0, some, first, done == rows.size(), factor, total, out);
    } while (done < rows.size());
}

struct FixedWeight {
    QuantizationRule rule;
    const float* scale;
    __device__ float operator()(float x) const { return *scale * quantized(rule, x); }
};
void fixed_to_weights(const QuantizationRule& rule, const Tensor& x, const Tensor& scale, Tensor& weights) {
    constexpr std::string_view who = "fixed_to_weights";
    const float* in = f32_input(x, who);
    map(x.device(), x.numel(), FixedWeight{rule, f32_input(scale, who)}, f32_output(weights, who), in);
}

/// out[i] = f.value(x[i], dy[i]); partial[block] = sum of f.term(x[i], dy[i]).
template <class F>
__global__ void map_and_sum_kernel(std::int64_t n, F f, const float* x, const float* dy, float* out, double* partial) {
    double sum[1] = {};
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        sum[0] += static_cast<double>(f.term(x[i], dy[i]));
        out[i] = f.value(x[i], dy[i]);
    }
    block_sum<threads_per_block>(sum);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum[0];
}
template <class F>
void map_and_sum(Device device, std::int64_t n, const F& f, const float* x, const float* dy, float* out, float* total) {
    const unsigned blocks = blocks_of_sums(n);
    Tensor memory = partial_sums(device, blocks, 1);
    double* partial = memory.write<double>();
    launch(device, map_and_sum_kernel<F>, blocks, threads_per_block, 0, n, f, x, dy, out, partial);
    finish_sums(device, blocks, 1, partial, total);
}

struct FixedGradient {
    QuantizationRule rule;
    const float* scale;
    __device__ float term(float x, float dweight) const { return dweight * quantized(rule, x); }
    __device__ float value(float, float dweight) const { return *scale * dweight; }
};
void fixed_backward(const QuantizationRule& rule, const Tensor& x, const Tensor& scale, const Tensor& dweights, Tensor& dx,
                    Tensor& dscale) {
    constexpr std::string_view who = "fixed_backward";
    const float *in = f32_input(x, who), *gradient = f32_input(dweights, who);
    map_and_sum(x.device(), x.numel(), FixedGradient{rule, f32_input(scale, who)}, in, gradient, f32_output(dx, who),
                f32_output(dscale, who));
}

/// The activation with its bound, which for pact is a number in device memory.
struct Activation {
    ActivationKind kind;
    const float* alpha;
    __device__ __forceinline__ float bound() const { return alpha ? *alpha : 0.0f; }
    __device__ float operator()(float x) const { return activated(kind, x, bound()); }
};

/// The largest magnitudes of the activation of the blocks' elements.
template <int width>
__global__ void largest_kernel(std::int64_t n, Activation f, const float* x, float* partial) {
    float largest[1] = {};
    for (std::int64_t i = first_element(); i < n / width; i += element_stride()) {
        float values[width];
        load_wide(x + i * width, values);
#pragma unroll
        for (int k = 0; k < width; ++k) largest[0] = fmaxf(largest[0], fabsf(f(values[k])));
    }
    const std::int64_t rest = n / width * width + first_element();
    if (rest < n) largest[0] = fmaxf(largest[0], fabsf(f(x[rest])));
    block_max<threads_per_block>(largest);
    if (threadIdx.x == 0) partial[blockIdx.x] = largest[0];
}
/// Every block finds the largest of all anew: a few numbers that lie in the second-level cache.
template <int width>
__global__ void quantized_activation_kernel(std::int64_t n, Activation f, float top, int blocks, const float* partial,
                                            const float* x, float* y) {
    float largest[1] = {};
    for (int b = static_cast<int>(threadIdx.x); b < blocks; b += threads_per_block) largest[0] = fmaxf(largest[0], partial[b]);
    block_max<threads_per_block>(largest);
    const auto quantize = [&](float v) { return dynamically_quantized(f(v), top, largest[0]); };
    for (std::int64_t i = first_element(); i < n / width; i += element_stride()) {
        float values[width];
        load_wide(x + i * width, values);
#pragma unroll
        for (int k = 0; k < width; ++k) values[k] = quantize(values[k]);
        store_narrow(y + i * width, values);
    }
    const std::int64_t rest = n / width * width + first_element();
    if (rest < n) y[rest] = quantize(x[rest]);
}

void activation_forward(const ActivationRule& rule, const Tensor& x, const Tensor* alpha, Tensor& y) {
    constexpr std::string_view who = "activation_forward";
    const Device device = x.device();
    const std::int64_t n = x.numel();
    const float* in = f32_input(x, who);
    float* out = f32_output(y, who);
    const Activation f{rule.kind, rule.kind == ActivationKind::pact ? f32_input(*alpha, who) : nullptr};
    if (rule.bits == 0) return map(device, n, f, out, in);
    const auto run = [&](auto wide) {
        constexpr int width = wide.value;
        const unsigned blocks = blocks_of_sums((n + width - 1) / width);
        Tensor memory = Tensor::empty({std::max<std::int64_t>(blocks, 1)}, DType::f32, device);
        float* partial = memory.write<float>();
        launch(device, largest_kernel<width>, blocks, threads_per_block, 0, n, f, in, partial);
        launch(device, quantized_activation_kernel<width>, blocks_for(device, (n + width - 1) / width, threads_per_block),
               threads_per_block, 0, n, f, top_code(rule.bits), static_cast<int>(blocks), static_cast<const float*>(partial),
               in, out);
    };
    if (aligned_to(16, in, out))
        run(std::integral_constant<int, pack_width<float>>{});
    else
        run(std::integral_constant<int, 1>{});
}

struct ActivationGradient {
    Activation f;
    __device__ float operator()(float x, float dy) const { return activation_factor(f.kind, x, f.bound()) * dy; }
    __device__ float value(float x, float dy) const { return (*this)(x, dy); }
    __device__ float term(float x, float dy) const { return x >= f.bound() ? dy : 0.0f; }
};
void activation_backward(const ActivationRule& rule, const Tensor& x, const Tensor* alpha, const Tensor& dy, Tensor& dx,
                         Tensor* dalpha) {
    constexpr std::string_view who = "activation_backward";
    const bool pact = rule.kind == ActivationKind::pact;
    const float *in = f32_input(x, who), *gradient = f32_input(dy, who);
    float* out = f32_output(dx, who);
    const ActivationGradient f{{rule.kind, pact ? f32_input(*alpha, who) : nullptr}};
    if (pact && dalpha) return map_and_sum(x.device(), x.numel(), f, in, gradient, out, f32_output(*dalpha, who));
    map(x.device(), x.numel(), f, out, in, gradient);
}

}  // namespace

const BsqKernels& bsq_kernel_table() {
    static constexpr BsqKernels table{.planes_to_weights = planes_to_weights,
                                      .planes_backward = planes_backward,
                                      .plane_norms = plane_norms,
                                      .group_lasso = group_lasso,
                                      .fixed_to_weights = fixed_to_weights,
                                      .fixed_backward = fixed_backward,
                                      .activation_forward = activation_forward,
                                      .activation_backward = activation_backward};
    return table;
}

}  // namespace bitloom::cuda
