// The kernel table of the `cpu` device.

#include "ops/cpu/kernels.h"
#include "ops/widen.h"

namespace bitloom::ops {

const OpKernels& cpu_op_kernels() {
    static const OpKernels table = {
        .conv2d_forward = cpu::conv2d_forward,
        .conv2d_inference = cpu::conv2d_inference,
        .conv2d_backward_data = cpu::conv2d_backward_data,
        .conv2d_backward_weights = cpu::conv2d_backward_weights,
        .dense_forward = cpu::dense_forward,
        .dense_inference = cpu::dense_inference,
        .dense_backward_data = cpu::dense_backward_data,
        .dense_backward_weights = cpu::dense_backward_weights,
        .bias_forward = cpu::bias_forward,
        .bias_backward = cpu::bias_backward,
        .batch_norm_forward = cpu::batch_norm_forward,
        .batch_norm_backward = cpu::batch_norm_backward,
        .batch_norm_inference = cpu::batch_norm_inference,
        .batch_norm_inference_backward = cpu::batch_norm_inference_backward,
        .max_pool2d_forward = cpu::max_pool2d_forward,
        .max_pool2d_backward = cpu::max_pool2d_backward,
        .avg_pool2d_forward = cpu::avg_pool2d_forward,
        .avg_pool2d_backward = cpu::avg_pool2d_backward,
        .unary_forward = cpu::unary_forward,
        .unary_backward = cpu::unary_backward,
        .binary_forward = cpu::binary_forward,
        .scale_forward = cpu::scale_forward,
        .step_forward = cpu::step_forward,
        .surrogate_backward = cpu::surrogate_backward,
        .softmax_forward = widened<cpu::softmax_forward, DType::f32>,
        .softmax_backward = widened<cpu::softmax_backward, DType::f32>,
        .cross_entropy_forward = cpu::cross_entropy_forward,
        .cross_entropy_backward = cpu::cross_entropy_backward,
        .dropout = cpu::dropout,
        .row_scale = cpu::row_scale,
        .strided_copy = cpu::strided_copy,
        .reduce_sum = cpu::reduce_sum,
        .reduce_max = cpu::reduce_max,
        .reduce_max_backward = cpu::reduce_max_backward,
    };
    return table;
}

}  // namespace bitloom::ops
