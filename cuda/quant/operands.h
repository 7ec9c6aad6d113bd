#pragma once
// The schemes' kernels take f32: checks that name the kernel.

#include <string_view>

#include "cuda/common.h"

namespace bitloom::cuda {

inline const float* f32_input(const Tensor& tensor, std::string_view who) {
    require(tensor.dtype() == DType::f32, who, ": CUDA kernels take f32, got ", name_of(tensor.dtype()));
    return tensor.read<float>();
}
inline const float* f32_input(const Tensor* tensor, std::string_view who) {
    return tensor ? f32_input(*tensor, who) : nullptr;
}
inline float* f32_output(Tensor& tensor, std::string_view who) {
    require(tensor.dtype() == DType::f32, who, ": CUDA kernels give f32, not ", name_of(tensor.dtype()));
    return tensor.write<float>();
}
inline float* f32_output(Tensor* tensor, std::string_view who) {
    return tensor ? f32_output(*tensor, who) : nullptr;
}

}  // namespace bitloom::cuda
