// The operations' kernels on CUDA.

#include "cuda/ops/kernels.h"
#include "cuda/tables.h"

namespace bitloom::cuda {

const ops::OpKernels& op_kernel_table() {
    static constexpr ops::OpKernels table = {
        .conv2d_forward = conv2d_forward,
        .conv2d_inference = conv2d_inference,
        .conv2d_backward_data = conv2d_backward_data,
        .conv2d_backward_weights = conv2d_backward_weights,
        .dense_forward = dense_forward,
        .dense_inference = dense_inference,
        .dense_backward_data = dense_backward_data,
        .dense_backward_weights = dense_backward_weights,
        .bias_forward = bias_forward,
        .bias_backward = bias_backward,
        .batch_norm_forward = batch_norm_forward,
        .batch_norm_backward = batch_norm_backward,
        .batch_norm_inference = batch_norm_inference,
        .batch_norm_inference_backward = batch_norm_inference_backward,
        .max_pool2d_forward = max_pool2d_forward,
        .max_pool2d_backward = max_pool2d_backward,
        .avg_pool2d_forward = avg_pool2d_forward,
        .avg_pool2d_backward = avg_pool2d_backward,
        .unary_forward = unary_forward,
        .unary_backward = unary_backward,
        .binary_forward = binary_forward,
        .scale_forward = scale_forward,
        .step_forward = step_forward,
        .surrogate_backward = surrogate_backward,
        .softmax_forward = softmax_forward,
        .softmax_backward = softmax_backward,
        .cross_entropy_forward = cross_entropy_forward,
        .cross_entropy_backward = cross_entropy_backward,
        .dropout = dropout,
        .row_scale = row_scale,
        .strided_copy = strided_copy,
        .reduce_sum = reduce_sum,
        .reduce_max = reduce_max,
        .reduce_max_backward = reduce_max_backward,
    };
    return table;
}

}  // namespace bitloom::cuda
