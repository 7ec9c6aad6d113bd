#pragma once
// What the weights and activations of a network are like, layer by layer (svhn-qkeras.md, section 6).

#include <cstdint>
#include <string>
#include <vector>

#include "engine/module.h"

namespace bitloom {

/// "conv_0" becomes "Conv 0", a pruned layer's name "Conv 0 (Pruned)".
std::string prettified(const std::string& layer, bool pruned);

/// A layer's first weight tensor.
struct LayerWeights {
    std::string layer;             ///< path in the network
    std::string title;             ///< prettified
    std::vector<float> stored;     ///< as the optimizer holds them: latent weights where the layer is quantized
    std::vector<float> effective;  ///< as the layer computes with them: quantized, masked
};
/// Of all layers that have weights, batch norms excepted, in the order of the network.
std::vector<LayerWeights> first_weights(Module& network);

/// Exact zeros among values, as a share of 1; 0 for no values.
double share_of_zeros(const std::vector<float>& values);

/// Counts in the bins between `edges` as numpy.histogram counts: a bin includes its lower edge, the last one both; what
/// lies outside is not counted.
std::vector<std::int64_t> histogram(const std::vector<float>& values, const std::vector<double>& edges);
/// `points` numbers from `first` to `last`, evenly spaced.
std::vector<double> linspace(double first, double last, int points);

/// Least, quartiles and largest of the magnitudes of the values that are not zero.
struct Profile {
    std::string name;
    std::int64_t count = 0, zeros = 0;  ///< of all values
    double least = 0, lower_quartile = 0, median = 0, upper_quartile = 0, largest = 0;
};
Profile profile_of(std::string name, const std::vector<float>& values);

/// Of every parameter as its layer computes with it: "conv_0/weight", "output_dense/bias",
/// "batch_normalization/weight".
std::vector<Profile> weight_profiles(Module& network);
/// Of every layer's output for the images, f32 [N, H, W, C], run in batches; the first row is the input.
std::vector<Profile> activation_profiles(Module& network, const Tensor& images, std::int64_t batch_size = 100);

/// The outputs of every convolution for one image f32 [1, H, W, C].
struct FeatureMaps {
    std::string layer;
    std::int64_t height = 0, width = 0, channels = 0;
    std::vector<float> values;  ///< [height, width, channels]
};
std::vector<FeatureMaps> convolution_outputs(Module& network, const Tensor& image);

}  // namespace bitloom
