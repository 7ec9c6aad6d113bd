#pragma once
// The one place that speaks to oneDNN (2.x): convolutions and matrix products on f32 arrays in bitloom's layouts.
// Every thread of the program holds its own primitives, found by what they compute and by the number of OpenMP threads,
// with their memory objects, so that a steady-state call creates nothing. Scratchpads come from the caching allocator.
// A weight is reordered into the layout a primitive wants and that copy is kept until the weight changes.

#include <string>

#include "ops/kernels.h"

namespace bitloom::ops::cpu::onednn {

enum class ConvolutionPass { forward, backward_data, backward_weights };

/// Arrays NHWC and OHWI as in ops/kernels.h; `bias` [out_c] and `dbias` [out_c] may be null. No extent may be 0.
void convolution_forward(const Conv2dGeometry&, const float* x, const Tensor& weight, const float* bias, float* y);
/// y = relu?(convolution [+ bias] [+ what y held]).
void convolution_inference(const Conv2dGeometry&, const float* x, const Tensor& weight, const float* bias,
                           bool add_to_output, bool relu, float* y);
void convolution_backward_data(const Conv2dGeometry&, const float* dy, const Tensor& weight, float* dx);
void convolution_backward_weights(const Conv2dGeometry&, const float* x, const float* dy, float* dweight, float* dbias);

/// c [m, n] = relu?(op(a) op(b) (+ bias [n], may be null)), row-major. Transposed operands are stored as a [k, m], b [n, k].
struct MatrixProduct {
    std::int64_t m, n, k;
    bool transpose_a = false, transpose_b = false;
    bool relu = false;
    bool operator==(const MatrixProduct&) const = default;
};
void matrix_product(const MatrixProduct&, const float* a, const float* b, const float* bias, float* c);

/// oneDNN's name of the implementation that a pass would use ("jit:avx512_core", "ref:any", ...), for tests and
/// benchmarks.
std::string convolution_implementation(ConvolutionPass, const Conv2dGeometry&, bool with_bias);

/// What this thread holds, for tests: primitives, and bytes of reordered weights.
struct CacheStats {
    std::size_t primitives = 0;
    std::size_t weight_bytes = 0;
    std::uint64_t weight_reorders = 0;  ///< ever done by this thread
};
CacheStats cache_stats();
/// Primitives ever made by all threads; constant in a steady state.
std::uint64_t primitives_created();

}  // namespace bitloom::ops::cpu::onednn
