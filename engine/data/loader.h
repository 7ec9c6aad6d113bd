#pragma once
// Shuffled, augmented, normalised, prefetched batches. What a batch holds depends only on (seed, epoch, batch number),
// never on the number of worker threads or on what was read before.

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/data/augment.h"
#include "engine/data/dataset.h"
#include "engine/data/normalize.h"

namespace bitloom {

struct Batch {
    Tensor images;                      ///< f32 [B, H, W, C] (or the loader's dtype), normalised
    Tensor labels;                      ///< i32 [B]
    std::vector<std::int64_t> indices;  ///< of the images in the data set
    std::int64_t size() const { return labels.defined() ? labels.dim(0) : 0; }
};

enum class Shuffle {
    none,
    full,      ///< a permutation an epoch
    reservoir  ///< tf.data's buffer of `reservoir` elements: emit a random one, refill from the stream (svhn-qkeras.md,
               ///< 3)
};

/// Whether a GPU holds the data set and makes the batches (engine/data/device_feed.h). The batches are the same.
enum class DataOnDevice {
    automatic,  ///< where it can and the images fit
    on,         ///< or else an Error that says why not
    off
};

struct LoaderOptions {
    std::int64_t batch_size = 128;
    Shuffle shuffle = Shuffle::none;
    std::int64_t reservoir = 1024;
    bool drop_last = false;
    int workers = 1;   ///< background threads; 0 assembles in the caller
    int prefetch = 3;  ///< batches held ready
    std::uint64_t seed = 1;
    Normalization normalization;
    AugmentationPipeline augmentation;  ///< empty: none
    DType dtype = DType::f32;
    Device device = cpu_device;
    DataOnDevice data_on_device = DataOnDevice::automatic;  ///< the host itself has no such choice
};

/// The counter of the stream from which image `index` draws its augmentations in epoch `epoch`.
inline std::uint64_t augment_counter(std::int64_t epoch, std::int64_t index) {
    constexpr int epoch_shift = 40;  // an image's index stays below 2^40
    return (static_cast<std::uint64_t>(epoch) << epoch_shift) + static_cast<std::uint64_t>(index);
}

/// One thread calls start() and next(). A sample's augmentations draw from Rng(seed, "augment", epoch * 2^40 + index),
/// an epoch's order from Rng(seed, "shuffle", epoch).
class Loader {
   public:
    /// Throws Error for an empty data set, options out of range, or a normalisation that does not fit the images, and
    /// where the data shall lie on a device that cannot have them.
    Loader(std::shared_ptr<const Dataset> dataset, LoaderOptions options);
    ~Loader();
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;

    const Dataset& dataset() const;
    const LoaderOptions& options() const;
    /// Whether the device makes the batches.
    bool data_on_device() const;
    /// Batches an epoch, the last partial one included unless drop_last.
    std::int64_t batches() const;
    /// Begins epoch `epoch` (from 0) at batch `first`: a resumed run starts in the middle.
    void start(std::int64_t epoch, std::int64_t first = 0);
    /// The next batch of the epoch; false at its end. The loader takes the batch passed in and fills its tensors again
    /// where nobody else holds them. Errors of the workers are rethrown here, at the batch they struck, and again until
    /// start() is called. Throws Error before the first start().
    bool next(Batch& batch);

   private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace bitloom
