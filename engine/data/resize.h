#pragma once
// Images brought to a network's input shape as they are read.

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/data/dataset.h"

namespace bitloom {

/// Another data set's images resized to side x side (bilinear, half-pixel centres, no antialiasing, rounded half up)
/// and, with `rgb`, a grey channel repeated three times. Nothing is stored: an image is converted when it is read.
class ResizedDataset final : public Dataset {
   public:
    /// `side` 0 keeps the extent. Throws Error for a negative side, or where `rgb` is asked of images that are neither
    /// grey nor RGB.
    ResizedDataset(std::shared_ptr<const Dataset> source, std::int64_t side, bool rgb);
    std::int64_t size() const override { return source_->size(); }
    Shape image_shape() const override {
        return {rows_.extent(), columns_.extent(), repeat_ * source_->image_shape()[2]};
    }
    int classes() const override { return source_->classes(); }
    void read(std::int64_t index, std::uint8_t* image) const override;
    int label(std::int64_t index) const override { return source_->label(index); }

   private:
    /// The two source positions and the weight of the second, of every output position along one axis.
    struct Axis {
        std::vector<std::int32_t> low, high;
        std::vector<float> weight;
        std::int64_t extent() const { return static_cast<std::int64_t>(low.size()); }
    };
    static Axis make_axis(std::int64_t from, std::int64_t to);

    std::shared_ptr<const Dataset> source_;
    Axis rows_, columns_;
    std::int64_t repeat_ = 1;
    bool same_size_ = true;
};

/// `source` itself where nothing is to be done.
std::shared_ptr<const Dataset> resized(std::shared_ptr<const Dataset> source, std::int64_t side, bool rgb);

}  // namespace bitloom
