#pragma once
// The kernels of the `reference` device, f32 and f64 (and bf16, widened to f64: table.cpp): plain loops, summed in the
// element type, in an order that does not depend on the number of threads. They are the yardstick of every other
// backend. Contracts: ops/kernels.h.

#include "ops/kernel_function.h"

namespace bitloom::ops::reference {

/// Whether a loop of so many multiplications or elements is worth waking the other threads for.
inline bool worth_threads(std::int64_t operations) { return operations >= (1 << 18); }

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

}  // namespace bitloom::ops::reference
