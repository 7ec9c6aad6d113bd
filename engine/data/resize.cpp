#include "engine/data/resize.h"

#include <algorithm>
#include <cmath>

namespace bitloom {

ResizedDataset::Axis ResizedDataset::make_axis(std::int64_t from, std::int64_t to) {
    Axis axis;
    for (std::int64_t i = 0; i < to; ++i) {
        const double centre =
            (static_cast<double>(i) + 0.5) * static_cast<double>(from) / static_cast<double>(to) - 0.5;
        const double position = std::clamp(centre, 0.0, static_cast<double>(from - 1));
        const auto low = static_cast<std::int32_t>(std::floor(position));
        axis.low.push_back(low);
        axis.high.push_back(static_cast<std::int32_t>(std::min<std::int64_t>(low + 1, from - 1)));
        axis.weight.push_back(static_cast<float>(position - low));
    }
    return axis;
}

ResizedDataset::ResizedDataset(std::shared_ptr<const Dataset> source, std::int64_t side, bool rgb)
    : source_(std::move(source)) {
    require(source_ != nullptr, "resize: no data set given");
    constexpr std::int64_t max_side = 1 << 14;
    require(side >= 0 && side <= max_side, "resize: side ", side, " is not in 0..", max_side);
    const Shape shape = source_->image_shape();
    const std::int64_t height = side ? side : shape[0], width = side ? side : shape[1];
    rows_ = make_axis(shape[0], height);
    columns_ = make_axis(shape[1], width);
    same_size_ = height == shape[0] && width == shape[1];
    if (rgb && shape[2] != 3) {
        require(shape[2] == 1, "rgb: images of ", shape[2], " channels cannot become RGB");
        repeat_ = 3;
    }
}

void ResizedDataset::read(std::int64_t index, std::uint8_t* image) const {
    const Shape shape = source_->image_shape();
    thread_local std::vector<std::uint8_t> original;
    original.resize(static_cast<std::size_t>(shape.numel()));
    source_->read(index, original.data());
    const std::int64_t channels = shape[2], stride = shape[1] * channels;
    std::uint8_t* out = image;
    for (std::int64_t r = 0; r < rows_.extent(); ++r) {
        const auto row = static_cast<std::size_t>(r);
        const std::uint8_t* top = original.data() + rows_.low[row] * stride;
        const std::uint8_t* bottom = original.data() + rows_.high[row] * stride;
        const float down = rows_.weight[row];
        for (std::int64_t c = 0; c < columns_.extent(); ++c) {
            const auto column = static_cast<std::size_t>(c);
            const std::int64_t left = columns_.low[column] * channels, right = columns_.high[column] * channels;
            const float across = columns_.weight[column];
            for (std::int64_t k = 0; k < channels; ++k) {
                std::uint8_t value = top[left + k];
                if (!same_size_) {
                    const float upper = top[left + k] + across * static_cast<float>(top[right + k] - top[left + k]);
                    const float lower =
                        bottom[left + k] + across * static_cast<float>(bottom[right + k] - bottom[left + k]);
                    value = static_cast<std::uint8_t>(upper + down * (lower - upper) + 0.5f);
                }
                for (std::int64_t copy = 0; copy < repeat_; ++copy) *out++ = value;
            }
        }
    }
}

std::shared_ptr<const Dataset> resized(std::shared_ptr<const Dataset> source, std::int64_t side, bool rgb) {
    if (!source) return source;
    const Shape shape = source->image_shape();
    const bool resize = side != 0 && (side != shape[0] || side != shape[1]);
    if (!resize && !(rgb && shape[2] != 3)) return source;
    return std::make_shared<ResizedDataset>(std::move(source), side, rgb);
}

}  // namespace bitloom
