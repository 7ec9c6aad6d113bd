#include "engine/data/dataset.h"

#include <cstring>

namespace bitloom {

MemoryDataset::MemoryDataset(Tensor images, std::vector<std::int32_t> labels, int classes)
    : images_(std::move(images)), labels_(std::move(labels)), classes_(classes) {
    require(images_.defined() && images_.rank() == 4 && images_.dtype() == DType::u8 && images_.device().is_host(),
            "data set: images must be u8 [N, H, W, C] in host memory");
    require(static_cast<std::int64_t>(labels_.size()) == images_.dim(0), "data set: ", images_.dim(0), " images but ",
            labels_.size(), " labels");
    require(classes_ > 0, "data set: ", classes_, " classes");
    for (std::size_t i = 0; i < labels_.size(); ++i)
        require(labels_[i] >= 0 && labels_[i] < classes_, "data set: image ", i, " has label ", labels_[i], " of ",
                classes_, " classes");
}

void MemoryDataset::read(std::int64_t index, std::uint8_t* image) const {
    require(index >= 0 && index < size(), "data set: image ", index, " of ", size());
    const std::size_t bytes = static_cast<std::size_t>(images_.shape().product(1, 4));
    std::memcpy(image, images_.read<std::uint8_t>() + static_cast<std::size_t>(index) * bytes, bytes);
}

Subset::Subset(std::shared_ptr<const Dataset> source, std::vector<std::int64_t> indices)
    : source_(std::move(source)), indices_(std::move(indices)) {
    require(source_ != nullptr, "subset: no data set given");
    for (const std::int64_t index : indices_)
        require(index >= 0 && index < source_->size(), "subset: index ", index, " of a data set with ", source_->size(),
                " images");
}

ConcatDataset::ConcatDataset(std::vector<std::shared_ptr<const Dataset>> parts) : parts_(std::move(parts)) {
    require(!parts_.empty(), "concatenation: no data set given");
    starts_.push_back(0);
    for (const auto& part : parts_) {
        require(part != nullptr, "concatenation: a data set is missing");
        require(part->image_shape() == parts_[0]->image_shape() && part->classes() == parts_[0]->classes(),
                "concatenation: images ", part->image_shape(), " of ", part->classes(), " classes do not go with ",
                parts_[0]->image_shape(), " of ", parts_[0]->classes());
        starts_.push_back(starts_.back() + part->size());
    }
}

std::pair<const Dataset*, std::int64_t> ConcatDataset::part_of(std::int64_t index) const {
    require(index >= 0 && index < size(), "data set: image ", index, " of ", size());
    std::size_t part = 0;
    while (index >= starts_[part + 1]) ++part;
    return {parts_[part].get(), index - starts_[part]};
}

}  // namespace bitloom
