#include "cuda/ops/conv_passes.cuh"
#include "cuda/ops/engines.cuh"
#include "cuda/ops/implicit_gemm.h"

namespace bitloom::cuda::implicit_gemm {

void backward_data(const ops::Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx) {
    dispatch_activation(dy.dtype(), "conv2d_backward_data", [&](auto zero) {
        using T = decltype(zero);
        const ConvShape shape(g);
        const T* gradient = dy.read<T>();
        const float* filters = weight.read<float>();
        T* out = dx.write<T>();
        // The phase of the first pixel has the most rows.
        const std::int64_t rows = g.batch * ((g.in_h + g.stride_h - 1) / g.stride_h) * ((g.in_w + g.stride_w - 1) / g.stride_w);
        const std::int64_t products = g.groups * g.stride_h * g.stride_w;
        require(products <= 65535, "conv2d_backward_data: ", g.groups, " groups with stride ", g.stride_h, " x ", g.stride_w,
                " are more products than one CUDA launch takes");
        const auto run = [&]<bool vectorised>(std::bool_constant<vectorised>) {
            const DataPass<T, vectorised> pass{shape, gradient, filters, out};
            dispatch_engine<T, true, !vectorised>(shape.in_group, [&]<class Engine>(Engine) {
                launch_product<Engine>(dy.device(), rows, shape.in_group, products, pass);
            });
        };
        if (shape.in_group % 4 == 0 && shape.out_group % 4 == 0 && aligned_to(16, gradient, filters, out))
            run(std::true_type{});
        else
            run(std::false_type{});
    });
}

}  // namespace bitloom::cuda::implicit_gemm
