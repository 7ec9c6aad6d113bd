#include "cuda/ops/conv_passes.cuh"
#include "cuda/ops/engines.cuh"
#include "cuda/ops/implicit_gemm.h"

namespace bitloom::cuda::implicit_gemm {

void forward(const ops::Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, const Tensor* residual,
             ops::NormEpilogue epilogue, Tensor& y) {
    dispatch_activation(x.dtype(), "conv2d_forward", [&](auto zero) {
        using T = decltype(zero);
        const ConvShape shape(g);
        const T *in = x.read<T>(), *added = read_if<T>(residual);
        const float* filters = weight.read<float>();
        T* out = y.write<T>();
        const bool relu = epilogue == ops::NormEpilogue::relu;
        const bool vector_store = shape.out_group % 4 == 0 && aligned_to(16, out);
        const std::int64_t pixels = g.batch * g.out_h * g.out_w;
        const auto run = [&]<bool vectorised>(std::bool_constant<vectorised>) {
            const ForwardPass<T, vectorised> pass{shape, in, filters, read_if<float>(bias), added, out, relu, vector_store};
            dispatch_engine<T, true, !vectorised>(shape.out_group, [&]<class Engine>(Engine) {
                launch_product<Engine>(x.device(), pixels, shape.out_group, g.groups, pass);
            });
        };
        if (shape.in_group % 4 == 0 && aligned_to(16, in, filters))
            run(std::true_type{});
        else
            run(std::false_type{});
    });
}

}  // namespace bitloom::cuda::implicit_gemm
