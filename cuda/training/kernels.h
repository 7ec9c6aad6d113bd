#pragma once
// The kernels of cuda/training, as engine/training_kernels.h describes them.

#include "engine/training_kernels.h"

namespace bitloom::cuda {

void update_moments(const Tensor& mean, const Tensor& variance, double fraction, double correction, Tensor& moving_mean,
                    Tensor& moving_variance, Tensor& tracked);
void accumulate_metrics(const MetricsStep& step);
void set_step(Tensor& step, std::uint64_t value);
void gather_images(const ImageGather& plan, Tensor& images, Tensor& labels);
std::int64_t largest_image(Device device);
std::unique_ptr<StepGraph> capture(Device device, const std::function<void()>& work);

}  // namespace bitloom::cuda
