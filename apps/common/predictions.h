#pragma once
// What a network says of every image of a data set.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/data/loader.h"
#include "engine/module.h"
#include "engine/train/metrics.h"

namespace bitloom {

struct Predictions {
    ClassificationMetrics metrics;
    std::vector<float>
        probabilities;  ///< [image * classes + class]: softmax of the logits, in float32 as Keras has them
    std::vector<std::int32_t> labels;

    int classes() const { return metrics.classes(); }
    /// Of one class, image by image.
    std::vector<float> scores(int c) const;
    std::vector<std::uint8_t> is_class(int c) const;
};

/// In inference, in the data set's order.
Predictions predict(Module& network, Loader& loader);

/// All images of a small data set as one batch, as a loader with these options gives them.
Tensor images_of(std::shared_ptr<const Dataset> images, LoaderOptions options);

/// counts[true class * classes + predicted class]
std::vector<std::int64_t> confusion_of(const ClassificationMetrics& metrics);
/// A row a label, a column a prediction, both named.
std::string confusion_csv(const std::vector<std::int64_t>& counts, int classes);

}  // namespace bitloom
