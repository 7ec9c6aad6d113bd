#include "apps/common/predictions.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "engine/train/evaluator.h"

namespace bitloom {

std::vector<float> Predictions::scores(int c) const {
    std::vector<float> column(labels.size());
    for (std::size_t i = 0; i < labels.size(); ++i)
        column[i] = probabilities[i * static_cast<std::size_t>(classes()) + static_cast<std::size_t>(c)];
    return column;
}

std::vector<std::uint8_t> Predictions::is_class(int c) const {
    std::vector<std::uint8_t> positive(labels.size());
    std::transform(labels.begin(), labels.end(), positive.begin(), [c](std::int32_t label) { return label == c; });
    return positive;
}

Predictions predict(Module& network, Loader& loader) {
    Predictions result;
    EvaluateOptions options;
    options.sink = [&](const Tensor& logits, const Batch& batch) {
        std::vector<float> values = logits.values<float>();
        const auto classes = static_cast<std::size_t>(logits.dim(1));
        for (std::size_t begin = 0; begin < values.size(); begin += classes) {
            const auto row = values.begin() + static_cast<std::ptrdiff_t>(begin);
            const auto end = row + static_cast<std::ptrdiff_t>(classes);
            const float largest = *std::max_element(row, end);
            float sum = 0;
            std::for_each(row, end, [&](float& z) { sum += z = std::exp(z - largest); });
            std::for_each(row, end, [&](float& z) { z /= sum; });
        }
        result.probabilities.insert(result.probabilities.end(), values.begin(), values.end());
        const std::vector<std::int32_t> labels = batch.labels.values<std::int32_t>();
        result.labels.insert(result.labels.end(), labels.begin(), labels.end());
    };
    result.metrics = evaluate(network, loader, options);
    return result;
}

Tensor images_of(std::shared_ptr<const Dataset> images, LoaderOptions options) {
    options.batch_size = images->size();
    options.workers = 0;
    Loader loader(std::move(images), options);
    loader.start(0);
    Batch batch;
    loader.next(batch);
    return batch.images;
}

std::vector<std::int64_t> confusion_of(const ClassificationMetrics& metrics) {
    std::vector<std::int64_t> counts;
    for (int label = 0; label < metrics.classes(); ++label)
        for (int p = 0; p < metrics.classes(); ++p) counts.push_back(metrics.confusion(label, p));
    return counts;
}

std::string confusion_csv(const std::vector<std::int64_t>& counts, int classes) {
    std::string text = "label";
    for (int p = 0; p < classes; ++p) text += cat(",", p);
    for (std::size_t i = 0; i < counts.size(); ++i) {
        if (i % static_cast<std::size_t>(classes) == 0) text += cat("\n", i / static_cast<std::size_t>(classes));
        text += cat(",", counts[i]);
    }
    return text + "\n";
}

}  // namespace bitloom
