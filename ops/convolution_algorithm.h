#pragma once
// Which of its algorithms a GPU convolves with. CPUs have no such choice.

#include <string>
#include <string_view>
#include <vector>

namespace bitloom::ops {

enum class ConvolutionAlgorithm {
    automatic,      // the fastest for each shape, measured when it is first met; implicit_gemm where runs must not differ
    implicit_gemm,  // our own kernels
    im2col,         // a matrix of windows and cuBLAS
    cudnn           // NVIDIA's library, in builds that have it; shapes that it does not take go to implicit_gemm
};

/// auto, implicit-gemm, im2col, cudnn: the values of --conv-algo.
const std::vector<std::string>& convolution_algorithm_names();

/// Makes the named algorithm that of this process from here on. Throws UsageError for another name.
void use_convolution_algorithm(std::string_view name);
ConvolutionAlgorithm convolution_algorithm();

}  // namespace bitloom::ops
