// What a training step does beside its operations: moving averages of batch normalisation, sums of the metrics, the
// number of the step.

#include "cuda/common.h"
#include "cuda/training/kernels.h"

namespace bitloom::cuda {

namespace {

constexpr int threads = 256;

__global__ void update_moments_kernel(std::int64_t channels, const float* mean, const float* variance, double kept,
                                      double mean_factor, double variance_factor, float* moving_mean,
                                      float* moving_variance, std::int32_t* tracked) {
    for (std::int64_t c = threadIdx.x; c < channels; c += blockDim.x) {
        moving_mean[c] = static_cast<float>(kept * moving_mean[c] + mean_factor * mean[c]);
        moving_variance[c] = static_cast<float>(kept * moving_variance[c] + variance_factor * variance[c]);
    }
    if (threadIdx.x == 0) ++*tracked;
}

/// Index of the first largest entry; a NaN counts as larger than any number (engine/train/metrics.cpp).
__device__ inline std::int64_t argmax(const float* z, std::int64_t n) {
    std::int64_t best = 0;
    for (std::int64_t j = 1; j < n; ++j)
        if (z[j] > z[best] || (isnan(z[j]) && !isnan(z[best]))) best = j;
    return best;
}

__global__ void accumulate_metrics_kernel(std::int64_t batch, std::int64_t classes, const float* loss,
                                          const float* regularization, const float* logits, const std::int32_t* labels,
                                          bool by_sample, const std::uint64_t* step, double* sums,
                                          std::int32_t* halted) {
    __shared__ int correct[threads];
    int own = 0;
    for (std::int64_t i = threadIdx.x; i < batch; i += threads)
        own += argmax(logits + i * classes, classes) == labels[i];
    correct[threadIdx.x] = own;
    __syncthreads();
    for (unsigned half = threads / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) correct[threadIdx.x] += correct[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x != 0 || *halted != 0) return;
    const double value = *loss, extra = regularization ? static_cast<double>(*regularization) : 0.0;
    if (!isfinite(value + extra)) {
        *halted = static_cast<std::int32_t>(*step) + 1;
        return;
    }
    const double samples = static_cast<double>(batch), right = correct[0];
    sums[0] += by_sample ? value * samples : value;
    sums[1] += by_sample ? right : right / samples;
    sums[2] += by_sample ? samples : 1.0;
    sums[3] = extra;
}

__global__ void set_step_kernel(std::uint64_t* step, std::uint64_t value) { *step = value; }

}  // namespace

void update_moments(const Tensor& mean, const Tensor& variance, double fraction, double correction, Tensor& moving_mean,
                    Tensor& moving_variance, Tensor& tracked) {
    launch(mean.device(), update_moments_kernel, 1, threads, 0, mean.numel(), mean.read<float>(),
           variance.read<float>(), 1 - fraction, fraction, fraction * correction, moving_mean.write<float>(),
           moving_variance.write<float>(), tracked.write<std::int32_t>());
}

void accumulate_metrics(const MetricsStep& step) {
    require(step.logits.rank() == 2 && step.labels.numel() == step.logits.dim(0), "metrics: logits of shape ",
            step.logits.shape(), " and labels of shape ", step.labels.shape());
    require(step.loss.numel() == 1, "training: a loss must have one element, got shape ", step.loss.shape());
    launch(step.logits.device(), accumulate_metrics_kernel, 1, threads, 0, step.logits.dim(0), step.logits.dim(1),
           step.loss.read<float>(), step.regularization ? step.regularization->read<float>() : nullptr,
           step.logits.read<float>(), step.labels.read<std::int32_t>(), step.by_sample,
           static_cast<const std::uint64_t*>(step.step.raw()), step.sums.write<double>(),
           step.halted.write<std::int32_t>());
}

void set_step(Tensor& step, std::uint64_t value) {
    launch(step.device(), set_step_kernel, 1, 1, 0, static_cast<std::uint64_t*>(step.raw_write()), value);
}

}  // namespace bitloom::cuda
