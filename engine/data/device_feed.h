#pragma once
// Batches made where they are used: the data set lies in the memory of a GPU, whose kernels read, augment and
// normalise.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/loader.h"
#include "engine/training_kernels.h"

namespace bitloom {

/// What a Loader needs to let the device make its batches. The images of a data set are held once a device, however
/// many loaders (folds, training and validation parts) read them.
class DeviceFeed {
   public:
    /// Why the device cannot make the batches; empty where it can.
    static std::string obstacle(const Dataset& dataset, const LoaderOptions& options);

    DeviceFeed(const DeviceFeed&) = delete;
    DeviceFeed& operator=(const DeviceFeed&) = delete;
    /// `normalization` holds one value a pixel and channel, or nothing. Brings to the device what is not there yet.
    DeviceFeed(const Dataset& dataset, const LoaderOptions& options, const Normalization& normalization);

    /// The order of an epoch, as positions in the data set.
    void start(std::int64_t epoch, const std::vector<std::int64_t>& order);
    /// Fills the tensors of a batch with positions [first, first + images.dim(0)) of the order.
    void fill(std::int64_t first, Tensor& images, Tensor& labels) const;

   private:
    const TrainingKernels& kernels_;
    Device device_;
    std::vector<std::shared_ptr<const Tensor>> resident_;  // u8 [N, H, W, C] each; keeps them alive
    Tensor addresses_;                                     // u8: a pointer for each image of the data set
    Tensor labels_;                                        // i32, of each image of the data set
    Tensor order_;                                         // u8: 64-bit positions
    Tensor mean_, deviation_;
    std::vector<AugmentStep> steps_;
    ImageGather plan_;
};

}  // namespace bitloom
