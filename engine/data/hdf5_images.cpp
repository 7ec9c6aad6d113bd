#include <algorithm>
#include <filesystem>

#include "engine/data/files.h"
#include "engine/data/readers.h"
#include "engine/io/hdf5.h"

namespace bitloom {

std::shared_ptr<MemoryDataset> read_hdf5_images(const std::string& path, int classes) {
    file_size(path);
    const hdf5::File file = hdf5::File::open(path);
    for (const char* name : {"images", "labels"}) require(file.has(name), path, ": has no data set ", name);
    const Shape shape = file.shape("images"), label_shape = file.shape("labels");
    require(shape.rank() == 4 && shape.numel() > 0, path, ": images must be [N, H, W, C], not ", shape);
    require(label_shape.numel() == shape[0], path, ": ", shape[0], " images but ", label_shape.numel(), " labels");
    const std::vector<std::int64_t> values = file.read_i64("labels");
    std::vector<std::int32_t> labels;
    labels.reserve(values.size());
    constexpr std::int64_t most_classes = 1 << 20;
    const std::int64_t limit = classes > 0 ? classes : most_classes;
    for (std::size_t i = 0; i < values.size(); ++i) {
        require(values[i] >= 0 && values[i] < limit, path, ": label ", values[i], " of image ", i, " is not in 0..",
                limit - 1);
        labels.push_back(static_cast<std::int32_t>(values[i]));
    }
    if (classes == 0) classes = *std::max_element(labels.begin(), labels.end()) + 1;
    return std::make_shared<MemoryDataset>(file.read("images", DType::u8), std::move(labels), classes);
}

DataSplits read_hdf5_splits(const std::string& data_dir, bool extra) {
    const std::filesystem::path folder = require_folder("hdf5", data_dir, {}, {"train.h5"});
    const auto train = read_hdf5_images((folder / "train.h5").string());
    DataSplits splits;
    splits.train = train;
    const auto read_like_train = [&](const char* name) {
        const std::string path = (folder / name).string();
        auto part = read_hdf5_images(path, train->classes());
        require(part->image_shape() == train->image_shape(), path, ": images ", part->image_shape(), " but ",
                train->image_shape(), " in train.h5");
        return part;
    };
    splits.test = read_like_train("test.h5");
    if (extra) splits.extra = read_like_train("extra.h5");
    return splits;
}

}  // namespace bitloom
