// The kernel table of the `reference` device.

#include "ops/reference/kernels.h"
#include "ops/widen.h"

namespace bitloom::ops {

namespace {
/// On bf16 activations the reference computes in f64 and rounds each result once: the best that the format allows.
template <auto kernel>
constexpr auto in_bf16_too = widened<kernel, DType::f64>;
}  // namespace

const OpKernels& reference_op_kernels() {
    static const OpKernels table = {
        .conv2d_forward = in_bf16_too<reference::conv2d_forward>,
        .conv2d_inference = in_bf16_too<reference::conv2d_inference>,
        .conv2d_backward_data = in_bf16_too<reference::conv2d_backward_data>,
        .conv2d_backward_weights = in_bf16_too<reference::conv2d_backward_weights>,
        .dense_forward = in_bf16_too<reference::dense_forward>,
        .dense_inference = in_bf16_too<reference::dense_inference>,
        .dense_backward_data = in_bf16_too<reference::dense_backward_data>,
        .dense_backward_weights = in_bf16_too<reference::dense_backward_weights>,
        .bias_forward = in_bf16_too<reference::bias_forward>,
        .bias_backward = in_bf16_too<reference::bias_backward>,
        .batch_norm_forward = in_bf16_too<reference::batch_norm_forward>,
        .batch_norm_backward = in_bf16_too<reference::batch_norm_backward>,
        .batch_norm_inference = in_bf16_too<reference::batch_norm_inference>,
        .batch_norm_inference_backward = in_bf16_too<reference::batch_norm_inference_backward>,
        .max_pool2d_forward = in_bf16_too<reference::max_pool2d_forward>,
        .max_pool2d_backward = in_bf16_too<reference::max_pool2d_backward>,
        .avg_pool2d_forward = in_bf16_too<reference::avg_pool2d_forward>,
        .avg_pool2d_backward = in_bf16_too<reference::avg_pool2d_backward>,
        .unary_forward = in_bf16_too<reference::unary_forward>,
        .unary_backward = in_bf16_too<reference::unary_backward>,
        .binary_forward = in_bf16_too<reference::binary_forward>,
        .scale_forward = in_bf16_too<reference::scale_forward>,
        .step_forward = in_bf16_too<reference::step_forward>,
        .surrogate_backward = in_bf16_too<reference::surrogate_backward>,
        .softmax_forward = in_bf16_too<reference::softmax_forward>,
        .softmax_backward = in_bf16_too<reference::softmax_backward>,
        .cross_entropy_forward = in_bf16_too<reference::cross_entropy_forward>,
        .cross_entropy_backward = in_bf16_too<reference::cross_entropy_backward>,
        .dropout = in_bf16_too<reference::dropout>,
        .row_scale = in_bf16_too<reference::row_scale>,
        .strided_copy = reference::strided_copy,
        .reduce_sum = in_bf16_too<reference::reduce_sum>,
        .reduce_max = in_bf16_too<reference::reduce_max>,
        .reduce_max_backward = in_bf16_too<reference::reduce_max_backward>,
    };
    return table;
}

}  // namespace bitloom::ops
