#pragma once
// Folders that svhn_kfold leaves behind, and the images on which it tested their networks.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/common/common_flags.h"
#include "apps/common/learning_curves.h"
#include "apps/common/predictions.h"
#include "quant/checkpoints.h"

namespace bitloom {

/// The last part of a folder's path: "full_0" of "runs/a/full_0/".
std::string folder_name(const std::string& folder);
/// "runs/a/full_3" of "runs/a/full" and 3.
std::string fold_folder(const std::string& prefix, int fold);
/// "runs/a/pruned_full" of "runs/a/full". (The published program puts "pruned_" behind every '/'.)
std::string pruned_folder(const std::string& prefix);
/// The folder of another fold: "_0" of its name becomes "_<fold>" wherever it stands, "runs_0/full_3" of
/// "runs_0/full_0". Throws UsageError where there is no "_0".
std::string other_fold(const std::string& folder, int fold);

/// Whether the folder has the trained network, model_best.h5.
bool is_trained(const std::string& folder);
/// The best network of the folder on the device. Throws Error in one line naming the folder and what would fill it.
quant::CompressedModel open_trained(const std::string& folder, Device device);
/// Its history_dict.csv as the curve `name`; an empty curve where there is none.
LearningCurve learning_curve_of(const std::string& folder, const std::string& name);

/// The data sets of the networks' training runs. Flags of data that were not given are taken from what the first
/// network's file records; networks of other data then do not fit.
class TestBench {
   public:
    TestBench(const Flags& flags, const DataFlags& given, Device device);
    /// On all test images, normalised as in its training. `name` starts messages. Throws Error.
    Predictions predict_test(const std::string& name, const quant::CompressedModel& model);
    /// The first test images, or training image `index`, as `predict_test` would show them to the network.
    Tensor test_images(const std::string& name, const quant::CompressedModel& model, std::int64_t count);
    Tensor training_image(const std::string& name, const quant::CompressedModel& model, std::int64_t index);
    const DataFlags& data() const { return data_; }

   private:
    const Normalization& prepare(const std::string& name, const quant::CompressedModel& model);
    Tensor load(std::shared_ptr<const Dataset> images, const Normalization& normalization);
    std::vector<std::string> open_names_;  // of the flags that the record fills
    DataFlags data_;
    Device device_;
    Shape input_;
    std::string first_;  // the network whose record counts
    DataSplits splits_;
    std::map<std::string, Normalization> normalizations_;
};

}  // namespace bitloom
