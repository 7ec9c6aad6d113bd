#pragma once
// What training on a GPU needs beside the kernels of the engine and of the operations, so that a step brings nothing to
// the host: batches made on the device, sums of the metrics, moving averages in one pass, and graphs of whole steps.
// One table a device; host devices have none, they do the same in plain code.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "engine/tensor.h"

namespace bitloom {

/// Work of a device, captured once; a replay does it again on the same memory. Memory that it took while it was
/// captured stays its own until it is dropped.
class StepGraph {
   public:
    virtual ~StepGraph() = default;
    virtual void replay() = 0;
};

/// While it lives, the calling thread's work on a device goes to a stream of its own, with memory of its own: threads
/// that train side by side need not wait for each other. Tensors made under it may outlive it.
class DeviceLane {
   public:
    virtual ~DeviceLane() = default;
};

/// One augmentation in the terms of engine/data/augment.h.
struct AugmentStep {
    enum class Kind : std::int32_t { crop, flip, shift, cutout };
    Kind kind = Kind::flip;
    double amount = 0;  ///< crop: padding, shift: fraction, cutout: side
};

/// A batch of images to be read, augmented and normalised. All pointers are to memory of the device.
struct ImageGather {
    std::int64_t height = 0, width = 0, channels = 0;
    const std::uint8_t* const* images = nullptr;  ///< where each image of the data set lies
    const std::int32_t* labels = nullptr;         ///< of each image of the data set
    const std::int64_t* order = nullptr;          ///< the images of the batch
    std::uint64_t augment_key = 0;                ///< image i draws from PhiloxStream{augment_key, augment_counter + i}
    std::uint64_t augment_counter = 0;
    std::span<const AugmentStep> steps{};  ///< in host memory; at most max_augment_steps
    float divisor = 255;
    const float* mean = nullptr;       ///< one value a pixel and channel, or null for 0
    const float* deviation = nullptr;  ///< one value a pixel and channel, or null for 1
};
inline constexpr std::size_t max_augment_steps = 8;

/// One step's part in the sums of an epoch.
struct MetricsStep {
    const Tensor& loss;            ///< f32 [1], without the regularisers
    const Tensor* regularization;  ///< f32 [1], or null
    const Tensor& logits;          ///< f32 [B, classes]
    const Tensor& labels;          ///< i32 [B]
    bool by_sample;                ///< weigh by B, else every batch alike
    const Tensor& step;            ///< as set_step left it
    Tensor& sums;                  ///< f64 [4]: loss, correct, weight, and the regularisation of the last batch
    Tensor& halted;                ///< i32 [1]: 0, or step + 1 of the first step whose loss was not finite
};

struct TrainingKernels {
    /// moving = (1 - fraction) moving + fraction batch for mean and variance, the batch's variance times `correction`
    /// first; tracked (i32 [1]) counts one batch more.
    void (*update_moments)(const Tensor& mean, const Tensor& variance, double fraction, double correction,
                           Tensor& moving_mean, Tensor& moving_variance, Tensor& tracked);
    /// Adds a batch to the sums unless `halted` is set; sets it where loss or regularisation is not finite.
    void (*accumulate_metrics)(const MetricsStep& step);
    /// Writes the number of steps done: a u8 tensor of 8 bytes, an unsigned 64-bit number in the device's byte order.
    void (*set_step)(Tensor& step, std::uint64_t value);
    /// images [B, H, W, C] (f32, f64 or bf16) and labels i32 [B], bit for bit as Loader makes them on the host.
    void (*gather_images)(const ImageGather& plan, Tensor& images, Tensor& labels);
    /// The largest image, in values, that gather_images can augment.
    std::int64_t (*largest_image)(Device device);
    /// Runs `work` once without doing it, and returns what it would have done. Throws Error where the work copies to
    /// the host or waits.
    std::unique_ptr<StepGraph> (*capture)(Device device, const std::function<void()>& work);
    std::unique_ptr<DeviceLane> (*open_lane)(Device device);
    /// Waits for the calling thread's work.
    void (*synchronize)(Device device);
    /// Bytes that can still be had from the device.
    std::size_t (*free_memory)(Device device);
};

/// The table of a device, or null for host devices and for backends that are not installed.
const TrainingKernels* training_kernels(Device device);
/// A lane for the calling thread until the result dies, in the same thread; null for devices without lanes.
std::unique_ptr<DeviceLane> open_lane(Device device);
void register_training_kernels(DeviceKind kind, const TrainingKernels& table);

}  // namespace bitloom
