#pragma once
// Keras files for tests.

#include <string>
#include <utility>
#include <vector>

#include "engine/io/hdf5.h"

namespace bitloom::test {

/// first, first + 1, ...
inline Tensor counting(const Shape& shape, float first = 1) {
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = first + static_cast<float>(i);
    return Tensor::from(shape, values);
}

/// Writes files as Keras lays them out.
class KerasWriter {
   public:
    KerasWriter(const std::string& path, const std::string& root) : file_(hdf5::File::create(path)), root_(root) {}
    /// `weights`: names such as "kernel:0" with their values.
    void layer(const std::string& name, const std::vector<std::pair<std::string, Tensor>>& weights) {
        names_.push_back(name);
        std::vector<std::string> list;
        const std::string group = root_.empty() ? name : root_ + "/" + name;
        for (const auto& [weight, value] : weights) {
            list.push_back(name + "/" + weight);
            file_.write(group + "/" + list.back(), value);
        }
        if (!list.empty()) {
            file_.write_attribute(group, "weight_names", list);
            return;
        }
        file_.write(group + "/placeholder", Tensor::from<float>({1}, std::vector<float>{0}));  // makes the group
        file_.write_attribute(group, "weight_names", std::vector<double>{});
    }
    void close(const std::string& model_config = "", bool split = false) {
        if (split) {
            file_.write_attribute(root_, "layer_names0", std::vector<std::string>(names_.begin(), names_.begin() + 1));
            file_.write_attribute(root_, "layer_names1", std::vector<std::string>(names_.begin() + 1, names_.end()));
        } else {
            file_.write_attribute(root_, "layer_names", names_);
        }
        if (!model_config.empty()) file_.write_attribute("", "model_config", model_config);
        file_.close();
    }
    hdf5::File& file() { return file_; }

   private:
    hdf5::File file_;
    std::string root_;
    std::vector<std::string> names_;
};

/// The weights of a batch norm, all different.
inline std::vector<std::pair<std::string, Tensor>> norm_weights(std::int64_t channels) {
    return {{"gamma:0", counting({channels})},
            {"beta:0", counting({channels}, 11)},
            {"moving_mean:0", counting({channels}, 21)},
            {"moving_variance:0", counting({channels}, 31)}};
}

}  // namespace bitloom::test
