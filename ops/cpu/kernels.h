#pragma once
// The kernels of the `cpu` device: oneDNN for convolutions and matrix products, own vectorised loops for the rest.
// Activations are f32 or bf16, parameters and statistics f32; all compute in f32.

#include "ops/kernel_function.h"

namespace bitloom::ops::cpu {

// convolution.cpp
KernelFunction<&OpKernels::conv2d_forward> conv2d_forward;
KernelFunction<&OpKernels::conv2d_inference> conv2d_inference;
KernelFunction<&OpKernels::conv2d_backward_data> conv2d_backward_data;
KernelFunction<&OpKernels::conv2d_backward_weights> conv2d_backward_weights;

// dense.cpp
KernelFunction<&OpKernels::dense_forward> dense_forward;
KernelFunction<&OpKernels::dense_inference> dense_inference;
KernelFunction<&OpKernels::dense_backward_data> dense_backward_data;
KernelFunction<&OpKernels::dense_backward_weights> dense_backward_weights;
KernelFunction<&OpKernels::bias_forward> bias_forward;
KernelFunction<&OpKernels::bias_backward> bias_backward;

// normalization.cpp
KernelFunction<&OpKernels::batch_norm_forward> batch_norm_forward;
KernelFunction<&OpKernels::batch_norm_backward> batch_norm_backward;
KernelFunction<&OpKernels::batch_norm_inference> batch_norm_inference;
KernelFunction<&OpKernels::batch_norm_inference_backward> batch_norm_inference_backward;

// pooling.cpp
KernelFunction<&OpKernels::max_pool2d_forward> max_pool2d_forward;
KernelFunction<&OpKernels::max_pool2d_backward> max_pool2d_backward;
KernelFunction<&OpKernels::avg_pool2d_forward> avg_pool2d_forward;
KernelFunction<&OpKernels::avg_pool2d_backward> avg_pool2d_backward;

// pointwise.cpp
KernelFunction<&OpKernels::unary_forward> unary_forward;
KernelFunction<&OpKernels::unary_backward> unary_backward;
KernelFunction<&OpKernels::binary_forward> binary_forward;
KernelFunction<&OpKernels::scale_forward> scale_forward;
KernelFunction<&OpKernels::step_forward> step_forward;
KernelFunction<&OpKernels::surrogate_backward> surrogate_backward;

// softmax.cpp
KernelFunction<&OpKernels::softmax_forward> softmax_forward;
KernelFunction<&OpKernels::softmax_backward> softmax_backward;
KernelFunction<&OpKernels::cross_entropy_forward> cross_entropy_forward;
KernelFunction<&OpKernels::cross_entropy_backward> cross_entropy_backward;

// dropout.cpp
KernelFunction<&OpKernels::dropout> dropout;
KernelFunction<&OpKernels::row_scale> row_scale;

// shaping.cpp
KernelFunction<&OpKernels::strided_copy> strided_copy;

// reduction.cpp
KernelFunction<&OpKernels::reduce_sum> reduce_sum;
KernelFunction<&OpKernels::reduce_max> reduce_max;
KernelFunction<&OpKernels::reduce_max_backward> reduce_max_backward;

}  // namespace bitloom::ops::cpu
