#include "cuda/ops/conv_passes.cuh"
#include "cuda/ops/engines.cuh"
#include "cuda/ops/implicit_gemm.h"

namespace bitloom::cuda::implicit_gemm {

namespace {

/// Blocks in all that the pixels are cut for, whatever the GPU: the order of the sums depends on the shape alone.
constexpr std::int64_t wanted_blocks = 512;
/// Pixels below which a part is not worth its place in memory.
constexpr std::int64_t least_run = 128;

/// dweight[group][channel][cell] = sum of partial[part][group][cell][channel] over the parts, in order.
__global__ void join_parts_kernel(int parts, int groups, int cells, int channels, const float* partial, float* dweight) {
    const std::int64_t n = static_cast<std::int64_t>(groups) * cells * channels;
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        float sum = 0;
        for (int p = 0; p < parts; ++p) sum += partial[p * n + i];
        const std::int64_t row = i / channels, group = row / cells;
        dweight[(group * channels + i % channels) * cells + row % cells] = sum;
    }
}

}  // namespace

void backward_weights(const ops::Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight) {
    dispatch_activation(x.dtype(), "conv2d_backward_weights", [&](auto zero) {
        using T = decltype(zero);
        const ConvShape shape(g);
        const T *in = x.read<T>(), *gradient = dy.read<T>();
        float* out = dweight.write<float>();
        const std::int64_t cells = static_cast<std::int64_t>(shape.taps()) * shape.in_group, channels = shape.out_group;
        const std::int64_t pixels = g.batch * g.out_h * g.out_w;
        require(g.groups <= 65535, "conv2d_backward_weights: ", g.groups, " groups are more than one CUDA launch takes");
        const auto run = [&]<bool vectorised>(std::bool_constant<vectorised>) {
            dispatch_engine<T, false, !vectorised>(channels, [&]<class Engine>(Engine) {
                const std::int64_t tiles = g.groups * ((cells + Engine::rows - 1) / Engine::rows) *
                                           ((channels + Engine::columns - 1) / Engine::columns);
                const std::int64_t most = std::clamp<std::int64_t>(wanted_blocks / tiles, 1, 65535 / g.groups);
                const std::int64_t wanted = std::clamp<std::int64_t>(pixels / least_run, 1, most);
                // Whole tiles of depth.
                const std::int64_t length = std::max<std::int64_t>(
                    1, ((pixels + wanted - 1) / wanted + Engine::depth - 1) / Engine::depth * Engine::depth);
                const std::int64_t parts = std::max<std::int64_t>(1, (pixels + length - 1) / length);
                Tensor memory = Tensor::empty({parts, dweight.numel()}, DType::f32, x.device());
                float* partial = memory.write<float>();
                const WeightPass<T, vectorised> pass{shape, in, gradient, partial, static_cast<int>(length)};
                launch_product<Engine>(x.device(), cells, channels, parts * g.groups, pass);
                launch(x.device(), join_parts_kernel, blocks_for(x.device(), dweight.numel(), threads_per_block),
                       threads_per_block, 0, static_cast<int>(parts), static_cast<int>(g.groups), static_cast<int>(cells),
                       static_cast<int>(channels), static_cast<const float*>(partial), out);
            });
        };
        if (shape.in_group % 4 == 0 && shape.out_group % 4 == 0 && aligned_to(16, in, gradient))
            run(std::true_type{});
        else
            run(std::false_type{});
    });
}

}  // namespace bitloom::cuda::implicit_gemm
