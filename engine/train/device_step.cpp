#include "engine/train/device_step.h"

#include <span>

#include "engine/step_capture.h"

namespace bitloom {

DeviceMetrics::DeviceMetrics(const TrainingKernels& kernels, Device device)
    : kernels_(kernels),
      step_(Tensor::zeros({8}, DType::u8, device)),
      sums_(Tensor::zeros({4}, DType::f64, device)),
      halted_(Tensor::zeros({1}, DType::i32, device)) {}

void DeviceMetrics::begin(const Sums& sums) {
    const double values[] = {sums.loss, sums.correct, sums.weight, sums.regularization};
    sums_.copy_from(Tensor::from<double>({4}, std::span<const double>(values)));
    halted_.fill(0);
}

void DeviceMetrics::add(const Tensor& loss, const Tensor& regularization, const Tensor& logits, const Tensor& labels,
                        bool by_sample) {
    kernels_.accumulate_metrics({.loss = loss,
                                 .regularization = regularization.defined() ? &regularization : nullptr,
                                 .logits = logits,
                                 .labels = labels,
                                 .by_sample = by_sample,
                                 .step = step_,
                                 .sums = sums_,
                                 .halted = halted_});
}

DeviceMetrics::Sums DeviceMetrics::read() const {
    const std::vector<double> sums = sums_.values<double>();
    return {sums[0], sums[1], sums[2], sums[3], static_cast<std::int64_t>(halted_.item())};
}

std::string replay_obstacle(Module& model) {
    const auto named = [](const Transform& transform, const std::string& where) {
        return cat("the transform '", transform.name(), "' of ", where.empty() ? "the network" : where,
                   " works on the host in every step");
    };
    for (Module* module : model.modules()) {
        for (const Transform* hook : {static_cast<const Transform*>(module->layer_transform.get()),
                                      static_cast<const Transform*>(module->activation_transform.get()),
                                      static_cast<const Transform*>(module->output_transform.get())})
            if (hook && !hook->replayable()) return named(*hook, module->path());
    }
    for (const auto& [path, parameter] : model.named_parameters())
        for (const auto& transform : parameter->transforms)
            if (!transform->replayable()) return named(*transform, path);
    return {};
}

std::vector<CapturedStep::Place> CapturedStep::places() const {
    std::vector<Place> all;
    for (const auto& [path, parameter] : optimizer_.parameters())
        all.push_back({parameter->value.id(), parameter->trainable});
    for (const auto& [path, buffer] : model_.named_buffers()) all.push_back({buffer->id(), false});
    return all;
}

bool CapturedStep::valid(const Batch& batch) const {
    return graph_ && (inputs_.images.defined() || batch.images.id() == input_id_) && places() == places_;
}

void CapturedStep::drop() {
    graph_.reset();
    gradients_.clear();
    inputs_ = Batch();
    input_id_ = 0;
}

const Batch& CapturedStep::stage(const Batch& batch, bool stays) {
    if (stays) {
        input_id_ = batch.images.id();
        return batch;
    }
    if (!inputs_.images.defined()) {
        inputs_.images = Tensor::empty_like(batch.images);
        inputs_.labels = Tensor::empty_like(batch.labels);
    }
    inputs_.images.copy_from(batch.images);
    inputs_.labels.copy_from(batch.labels);
    inputs_.indices = batch.indices;
    return inputs_;
}

void CapturedStep::capture(Device device, const std::function<void()>& compute) {
    std::unique_ptr<StepGraph> captured = kernels_.capture(device, [&] {
        const CaptureScope scope;
        compute();
        optimizer_.prepare();
        optimizer_.apply();
    });
    graph_ = std::move(captured);
    places_ = places();
    gradients_.clear();
    for (const auto& [path, parameter] : optimizer_.parameters()) gradients_.push_back(parameter->grad);
    buffers_.clear();
    for (const auto& [path, buffer] : model_.named_buffers()) buffers_.push_back(buffer);
    run();
}

void CapturedStep::replay() {
    for (std::size_t i = 0; i < gradients_.size(); ++i) optimizer_.parameters()[i].second->grad = gradients_[i];
    optimizer_.prepare();
    run();
}

void CapturedStep::run() {
    optimizer_.upload();
    graph_->replay();
    // The optimizer raised the versions of what it writes; what the forward pass writes is new too.
    for (Tensor* buffer : buffers_) buffer->raw_write();
}

}  // namespace bitloom
