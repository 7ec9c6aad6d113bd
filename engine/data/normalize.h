#pragma once
// From 8-bit pixels to network inputs.

#include <string>
#include <vector>

#include "engine/data/dataset.h"

namespace bitloom {

/// y = (x / divisor - mean) / std. `mean` and `std` hold one value a channel, or one a pixel and channel (H x W x C),
/// or nothing (0 and 1). Evaluated in float32 in that order.
struct Normalization {
    float divisor = 255.0f;
    std::vector<float> mean, std;
    /// Writes `pixels` = H W C values. Throws Error where the sizes of mean and std fit neither channels nor pixels.
    void apply(const std::uint8_t* image, const Shape& image_shape, float* out) const;
    /// The same from pixels 0..255 held as floats, as augmentations leave them; `out` may be `image`.
    void apply(const float* image, const Shape& image_shape, float* out) const;
    /// The same normalisation with one value a pixel and channel, which is applied fastest. Throws as apply.
    Normalization per_pixel(const Shape& image_shape) const;
};

/// Per-pixel, per-channel mean and population standard deviation of x/255 over a data set (svhn-qkeras.md, section 3);
/// a standard deviation of 0 becomes 1. Sums are exact integers, so the result does not depend on the order.
Normalization per_pixel_standardization(const Dataset& dataset);
/// The same with one mean and deviation a channel.
Normalization per_channel_standardization(const Dataset& dataset);
/// By name: none (raw 0..255), unit (x/255), cifar-bsq, cifar-ec2t, mnist-ec2t, per-pixel, per-channel (the last two
/// from `train`); or "m0,m1,m2/s0,s1,s2". Throws UsageError.
Normalization normalization_by_name(const std::string& name, const Dataset& train);

}  // namespace bitloom
