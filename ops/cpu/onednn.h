#pragma once
// The one place that speaks to oneDNN (2.x): convolutions and matrix products on tensors in bitloom's layouts.
// Activations and their gradients are f32 or bf16, all of one call the same; weights, biases and their gradients are f32.
// Beside bf16 activations the reordered copy of a weight is bf16; products are summed in f32.
// Every thread of the program holds its own primitives, found by what they compute and by the number of OpenMP threads,
// with their memory objects, so that a steady-state call creates nothing. Scratchpads come from the caching allocator.
// A weight is reordered into the layout a primitive wants and that copy is kept until the weight changes.

#include <string>

#include "ops/kernels.h"

namespace bitloom::ops::cpu::onednn {

enum class ConvolutionPass { forward, backward_data, backward_weights };

/// Arrays NHWC and OHWI as in ops/kernels.h; x, y and their gradients hold `activations`, all else f32. `bias` [out_c] and
/// `dbias` [out_c] may be null. No extent may be 0. y = relu?(convolution [+ bias] [+ what y held]).
void convolution_inference(const Conv2dGeometry&, DType activations, const void* x, const Tensor& weight,
                           const float* bias, bool add_to_output, bool relu, void* y);
void convolution_backward_data(const Conv2dGeometry&, DType activations, const void* dy, const Tensor& weight, void* dx);
void convolution_backward_weights(const Conv2dGeometry&, DType activations, const void* x, const void* dy,
                                  float* dweight, float* dbias);

/// c [m, n] = relu?(op(a) op(b) (+ bias [n], may be null)), row-major. Transposed operands are stored as a [k, m], b [n, k].
struct MatrixProduct {
    std::int64_t m, n, k;
    bool transpose_a = false, transpose_b = false;
    bool relu = false;
    DType activations = DType::f32;  ///< what a holds, and b unless it is a weight
    DType result = DType::f32;       ///< what c holds
    bool operator==(const MatrixProduct&) const = default;
};
void matrix_product(const MatrixProduct&, const void* a, const void* b, void* c);
/// The same with a weight (f32) as b.
void weight_product(const MatrixProduct&, const void* a, const Tensor& weight, const float* bias, void* c);

/// oneDNN's name of the implementation that a pass would use ("jit:avx512_core", "ref:any", ...), for tests and
/// benchmarks.
std::string convolution_implementation(ConvolutionPass, const Conv2dGeometry&, bool with_bias,
                                       DType activations = DType::f32);

/// Whether this CPU multiplies bf16 (AVX-512-BF16 or AMX), as far as oneDNN may use it, and what oneDNN calls the CPU.
bool multiplies_bf16();
/// Whether it has AMX, whose products of bf16 are several times as fast as those of AVX-512-BF16.
bool multiplies_tiles_of_bf16();
std::string instruction_set();

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
