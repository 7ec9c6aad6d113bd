#pragma once
// A training step on a device that the host cannot address: metrics are summed there and read when somebody asks, and a
// step that is always the same is captured once and replayed.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/loader.h"
#include "engine/module.h"
#include "engine/optim/optimizer.h"
#include "engine/training_kernels.h"

namespace bitloom {

/// The sums of an epoch and the number of the step, in device memory.
class DeviceMetrics {
   public:
    DeviceMetrics(const TrainingKernels& kernels, Device device);

    struct Sums {
        double loss = 0, correct = 0, weight = 0, regularization = 0;
        /// 0, or the number (from 1) of the first step whose loss was not finite; nothing was added or updated since.
        std::int64_t halted = 0;
    };
    /// Sets the sums; `halted` is 0 from here on.
    void begin(const Sums& sums);
    /// Announces the step that follows `steps` others.
    void set_step(std::int64_t steps) { kernels_.set_step(step_, static_cast<std::uint64_t>(steps)); }
    /// Adds a batch. `regularization` may be undefined.
    void add(const Tensor& loss, const Tensor& regularization, const Tensor& logits, const Tensor& labels,
             bool by_sample);
    /// Waits for the steps so far.
    Sums read() const;

    /// The number of steps done, for Context::device_step.
    const std::uint64_t* step() const { return static_cast<const std::uint64_t*>(step_.raw()); }
    /// For Optimizer::set_halted.
    const Tensor& halted() const { return halted_; }

   private:
    const TrainingKernels& kernels_;
    Tensor step_, sums_, halted_;
};

/// Why a step of this model cannot be replayed without its host code; empty where it can.
std::string replay_obstacle(Module& model);

/// A captured step, and what must still hold when it is replayed.
class CapturedStep {
   public:
    CapturedStep(const TrainingKernels& kernels, Module& model, Optimizer& optimizer)
        : kernels_(kernels), model_(model), optimizer_(optimizer) {}

    /// Whether a step was captured that can compute with this batch, and whose parameters and buffers are still where
    /// they were.
    bool valid(const Batch& batch) const;
    bool captured() const { return graph_ != nullptr; }
    /// Forgets the step and gives back its memory.
    void drop();
    /// The batch to compute with: what the captured step reads, or reads once it is captured. `stays` says that the
    /// next batch of this shape will lie in the same memory.
    const Batch& stage(const Batch& batch, bool stays);
    /// Captures `compute`, which leaves gradients in the parameters, and the optimizer's update behind it, and runs
    /// both once. Throws what `compute` throws, with nothing done.
    void capture(Device device, const std::function<void()>& compute);
    /// Runs it once more.
    void replay();

   private:
    struct Place {
        std::uint64_t id;
        bool trainable;
        bool operator==(const Place&) const = default;
    };
    std::vector<Place> places() const;
    void run();

    const TrainingKernels& kernels_;
    Module& model_;
    Optimizer& optimizer_;
    std::unique_ptr<StepGraph> graph_;
    std::vector<Place> places_;
    std::vector<Tensor> gradients_;  // parallel to the optimizer's parameters
    std::vector<Tensor*> buffers_;
    Batch inputs_;                // filled only where batches come in ever new memory
    std::uint64_t input_id_ = 0;  // of the images that the captured step reads
};

}  // namespace bitloom
