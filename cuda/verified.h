#pragma once
// The kernels that have passed tests/gpu on a GPU, by their names in ops/kernels.h, quant/kernels.h, quant/bsq/kernels.h
// (and sgd, adam, rmsprop of engine/optim/kernels.h). A name is added by hand after a run of gpu_test on a GPU, and taken out when its kernel is
// rewritten. The emulation of tests/cuda_emulation does not count.

#include <algorithm>
#include <span>
#include <string_view>

namespace bitloom::cuda {

/// None yet.
inline constexpr std::span<const std::string_view> kernels_run_on_a_gpu{};

inline bool has_run_on_a_gpu(std::string_view kernel) {
    return std::find(kernels_run_on_a_gpu.begin(), kernels_run_on_a_gpu.end(), kernel) != kernels_run_on_a_gpu.end();
}

}  // namespace bitloom::cuda
