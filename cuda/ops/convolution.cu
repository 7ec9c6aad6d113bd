// Convolutions and dense layers: which algorithm computes them.

#include <array>
#include <functional>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

#include "cuda/cudnn_convolution.h"
#include "cuda/ops/elements.cuh"
#include "cuda/ops/im2col.h"
#include "cuda/ops/implicit_gemm.h"
#include "cuda/ops/kernels.h"
#include "cuda/stopwatch.h"
#include "engine/threads.h"
#include "ops/convolution_algorithm.h"
#include "ops/precision.h"

namespace bitloom::cuda {

namespace {

using cudnn_convolution::Pass;
using Algorithm = ConvolutionAlgorithm;

using Key = std::tuple<Device, Pass, DType, bool, std::array<std::int64_t, 18>>;
Key key_of(Device device, Pass pass, DType dtype, const Conv2dGeometry& g) {
    return {device, pass, dtype, tf32_allowed(),
            {g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c, g.kernel_h, g.kernel_w, g.stride_h, g.stride_w,
             g.pad_top, g.pad_bottom, g.pad_left, g.pad_right, g.dilation_h, g.dilation_w, g.groups}};
}

/// Matrices of windows of many groups are many small products, one after the other: no choice worth measuring.
constexpr std::int64_t most_groups_for_im2col = 8;

/// Runs the pass by `run(algorithm, output)` with the algorithm that the process is told to take, or with the fastest,
/// measured on an output of its own the first time a shape is met outside of a captured step.
void run_pass(Pass pass, const Conv2dGeometry& g, const Tensor& activations, Tensor& output,
              const std::function<void(Algorithm, Tensor&)>& run) {
    const Device device = activations.device();
    const bool cudnn_takes_it = cudnn_convolution::takes(pass, g, activations.dtype());
    const Algorithm wanted = convolution_algorithm();
    if (wanted == Algorithm::cudnn) return run(cudnn_takes_it ? Algorithm::cudnn : Algorithm::implicit_gemm, output);
    if (wanted != Algorithm::automatic) return run(wanted, output);
    // The clock may decide otherwise the next time, and the algorithms differ in their last bits.
    if (deterministic()) return run(Algorithm::implicit_gemm, output);

    static std::mutex mutex;
    static std::map<Key, Algorithm> chosen;
    const Key key = key_of(device, pass, activations.dtype(), g);
    {
        std::lock_guard lock(mutex);
        if (const auto found = chosen.find(key); found != chosen.end()) return run(found->second, output);
    }
    if (capturing(device) || output.numel() == 0) return run(Algorithm::implicit_gemm, output);
    std::vector<Algorithm> candidates{Algorithm::implicit_gemm};
    if (g.groups <= most_groups_for_im2col) candidates.push_back(Algorithm::im2col);
    if (cudnn_takes_it) candidates.push_back(Algorithm::cudnn);
    Tensor trial = Tensor::empty_like(output);
    Algorithm fastest = candidates.front();
    double least = 0;
    for (const Algorithm candidate : candidates) {
        const double time = milliseconds(device, [&] { run(candidate, trial); });
        if (candidate == candidates.front() || time < least) least = time, fastest = candidate;
    }
    {
        std::lock_guard lock(mutex);
        chosen.emplace(key, fastest);
    }
    run(fastest, output);
}

/// In place: y = epilogue(y [+ bias] [+ residual]).
template <class T>
__global__ void finish_kernel(std::int64_t n, std::int64_t channels, const float* bias, const T* residual, bool relu, T* y) {
    for (std::int64_t i = first_element(); i < n; i += element_stride()) {
        float value = widen(y[i]);
        if (bias) value += bias[i % channels];
        if (residual) value += widen(residual[i]);
        y[i] = narrow<T>(relu && value < 0 ? 0.0f : value);
    }
}

/// cuDNN's sums go to memory of their own where they must not overwrite a residual, or be rounded to bf16 before it is added.
void forward_by_cudnn(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias,
                      const Tensor* residual, NormEpilogue epilogue, Tensor& y) {
    const bool relu = epilogue == NormEpilogue::relu;
    if (residual && residual->shares_storage(y)) {
        const Tensor kept = residual->clone();
        return forward_by_cudnn(g, x, weight, bias, &kept, epilogue, y);
    }
    cudnn_convolution::forward(g, x, weight, y);
    if (!bias && !residual && !relu) return;
    dispatch_activation(x.dtype(), "conv2d_inference", [&](auto zero) {
        using T = decltype(zero);
        launch(x.device(), finish_kernel<T>, blocks_for(x.device(), y.numel(), threads_per_block), threads_per_block, 0,
               y.numel(), g.out_c, read_if<float>(bias), read_if<T>(residual), relu, y.write<T>());
    });
}

/// A dense layer as a convolution of maps of one cell.
Conv2dGeometry dense_geometry(std::int64_t batch, std::int64_t in, std::int64_t out) {
    return {.batch = batch, .in_h = 1, .in_w = 1, .in_c = in, .out_h = 1, .out_w = 1, .out_c = out, .kernel_h = 1, .kernel_w = 1};
}

}  // namespace

void conv2d_inference(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias,
                      const Tensor* residual, NormEpilogue epilogue, Tensor& y) {
    run_pass(Pass::forward, g, x, y, [&](Algorithm algorithm, Tensor& out) {
        if (algorithm == Algorithm::im2col) return im2col::forward(g, x, weight, bias, residual, epilogue, out);
        if (algorithm == Algorithm::cudnn) return forward_by_cudnn(g, x, weight, bias, residual, epilogue, out);
        implicit_gemm::forward(g, x, weight, bias, residual, epilogue, out);
    });
}

void conv2d_forward(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    conv2d_inference(g, x, weight, bias, nullptr, NormEpilogue::none, y);
}

void conv2d_backward_data(const Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx) {
    run_pass(Pass::data, g, dy, dx, [&](Algorithm algorithm, Tensor& out) {
        if (algorithm == Algorithm::im2col) return im2col::backward_data(g, dy, weight, out);
        if (algorithm == Algorithm::cudnn) return cudnn_convolution::backward_data(g, dy, weight, out);
        implicit_gemm::backward_data(g, dy, weight, out);
    });
}

void conv2d_backward_weights(const Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor* dbias) {
    run_pass(Pass::weights, g, x, dweight, [&](Algorithm algorithm, Tensor& out) {
        if (algorithm == Algorithm::im2col) return im2col::backward_weights(g, x, dy, out);
        if (algorithm == Algorithm::cudnn) return cudnn_convolution::backward_weights(g, x, dy, out);
        implicit_gemm::backward_weights(g, x, dy, out);
    });
    if (dbias) bias_backward(dy, *dbias);
}

// Dense layers go to cuBLAS; those of no inputs, which it does not take, to our own kernels.

void dense_inference(const Tensor& x, const Tensor& weight, const Tensor* bias, NormEpilogue epilogue, Tensor& y) {
    const Conv2dGeometry g = dense_geometry(x.dim(0), x.dim(1), weight.dim(0));
    (g.in_c == 0 ? implicit_gemm::forward : im2col::forward)(g, x, weight, bias, nullptr, epilogue, y);
}

void dense_forward(const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    dense_inference(x, weight, bias, NormEpilogue::none, y);
}

void dense_backward_data(const Tensor& dy, const Tensor& weight, Tensor& dx) {
    if (weight.dim(0) == 0) return dx.fill(0);
    im2col::backward_data(dense_geometry(dx.dim(0), dx.dim(1), weight.dim(0)), dy, weight, dx);
}

void dense_backward_weights(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor* dbias) {
    im2col::backward_weights(dense_geometry(x.dim(0), x.dim(1), dweight.dim(0)), x, dy, dweight);
    if (dbias) bias_backward(dy, *dbias);
}

}  // namespace bitloom::cuda
