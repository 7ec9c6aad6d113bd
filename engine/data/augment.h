#pragma once
// Augmentations: each works on one image, with numbers from the sample's own stream.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/data/dataset.h"
#include "engine/random.h"
#include "engine/training_kernels.h"

namespace bitloom {

/// Before normalisation, on 8-bit pixels as float [H, W, C] in 0..255; Cutout alone works after it (hole = mean
/// colour).
class Augmentation {
   public:
    virtual ~Augmentation() = default;
    virtual std::string name() const = 0;
    virtual bool after_normalization() const { return false; }
    /// The same for kernels of a device (engine/training_kernels.h); none where only the host can do it.
    virtual std::optional<AugmentStep> device_step() const { return std::nullopt; }
    /// In place; `scratch` has the image's size.
    virtual void apply(float* image, const Shape& image_shape, float* scratch, Rng& rng) const = 0;
};
using AugmentationPipeline = std::vector<std::shared_ptr<const Augmentation>>;

/// Parses "crop4,flip,shift0.1,rotate8,cutout16": applied in that order. Throws UsageError.
/// crop<p>: zero-pad p, random crop back; flip: left-right, p = 1/2; shift<f>: continuous row then column shift U(-f,
/// f) of the extent, bilinear, nearest edge (Keras ImageDataGenerator); rotate<d>: U(-d, d) degrees; cutout<l>: a
/// square of side l.
AugmentationPipeline parse_augmentations(const std::string& text);

}  // namespace bitloom
