// The kernel table of the `reference` device.

#include "ops/reference/kernels.h"

namespace bitloom::ops {

const OpKernels& reference_op_kernels() {
    static const OpKernels table = {
        .conv2d_forward = reference::conv2d_forward,
        .conv2d_inference = reference::conv2d_inference,
        .conv2d_backward_data = reference::conv2d_backward_data,
        .conv2d_backward_weights = reference::conv2d_backward_weights,
        .dense_forward = reference::dense_forward,
        .dense_inference = reference::dense_inference,
        .dense_backward_data = reference::dense_backward_data,
        .dense_backward_weights = reference::dense_backward_weights,
        .bias_forward = reference::bias_forward,
        .bias_backward = reference::bias_backward,
        .batch_norm_forward = reference::batch_norm_forward,
        .batch_norm_backward = reference::batch_norm_backward,
        .batch_norm_inference = reference::batch_norm_inference,
        .batch_norm_inference_backward = reference::batch_norm_inference_backward,
        .max_pool2d_forward = reference::max_pool2d_forward,
        .max_pool2d_backward = reference::max_pool2d_backward,
        .avg_pool2d_forward = reference::avg_pool2d_forward,
        .avg_pool2d_backward = reference::avg_pool2d_backward,
        .unary_forward = reference::unary_forward,
        .unary_backward = reference::unary_backward,
        .binary_forward = reference::binary_forward,
        .scale_forward = reference::scale_forward,
        .step_forward = reference::step_forward,
        .surrogate_backward = reference::surrogate_backward,
        .softmax_forward = reference::softmax_forward,
        .softmax_backward = reference::softmax_backward,
        .cross_entropy_forward = reference::cross_entropy_forward,
        .cross_entropy_backward = reference::cross_entropy_backward,
        .dropout = reference::dropout,
        .row_scale = reference::row_scale,
        .strided_copy = reference::strided_copy,
        .reduce_sum = reference::reduce_sum,
        .reduce_max = reference::reduce_max,
        .reduce_max_backward = reference::reduce_max_backward,
    };
    return table;
}

}  // namespace bitloom::ops
