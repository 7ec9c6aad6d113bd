// SVHN, format 2 (ufldl.stanford.edu/housenumbers): MATLAB v5 files with X, uint8 (H, W, C, N), and y, labels 1 to 10.
#include <filesystem>
#include <optional>

#include "engine/data/files.h"
#include "engine/data/mat_file.h"
#include "engine/data/readers.h"

namespace bitloom {

namespace {

/// Image by image: the file's column-major order keeps each in one piece, and only one of them is held twice.
Tensor read_images(MatFile& file, const std::string& path) {
    const std::vector<std::uint64_t>& extents = file.array().extents;
    require(extents.size() == 4 && file.array().is_uint8 && file.stored_width() == 1, path,
            ": X must be uint8 of four dimensions (H, W, C, N)");
    const std::size_t height = extents[0], width = extents[1], channels = extents[2], count = extents[3];
    const auto extent = [](std::size_t n) { return static_cast<std::int64_t>(n); };
    Tensor images = Tensor::empty({extent(count), extent(height), extent(width), extent(channels)}, DType::u8);
    std::uint8_t* out = images.write<std::uint8_t>();
    std::vector<std::uint8_t> in(height * width * channels);  // the row index runs fastest
    for (std::size_t n = 0; n < count; ++n) {
        file.read_bytes(in);
        for (std::size_t r = 0; r < height; ++r)
            for (std::size_t c = 0; c < width; ++c)
                for (std::size_t k = 0; k < channels; ++k) *out++ = in[r + height * (c + width * k)];
    }
    return images;
}

std::vector<std::int32_t> read_labels(MatFile& file, const std::string& path) {
    std::vector<std::int32_t> labels(file.array().count);
    for (std::size_t i = 0; i < labels.size(); ++i) {
        double value = 0;
        file.read_numbers({&value, 1});
        require(value >= 1 && value <= 10 && value == static_cast<int>(value), path, ": label ", value, " of image ", i,
                " is not in 1..10");
        labels[i] = static_cast<std::int32_t>(value) % 10;  // 10 is the digit 0
    }
    return labels;
}

}  // namespace

std::shared_ptr<MemoryDataset> read_svhn_mat(const std::string& path) {
    MatFile file(path);
    Tensor images;
    std::optional<std::vector<std::int32_t>> labels;
    while (!(images.defined() && labels) && file.next()) {
        const MatArray& array = file.array();
        const bool is_x = array.name == "X" && !images.defined(), is_y = array.name == "y" && !labels;
        if (!is_x && !is_y) continue;
        require(array.count > 0, path, ": variable ", array.name, " is empty");
        require(!array.is_complex, path, ": variable ", array.name, " is complex");
        if (is_x)
            images = read_images(file, path);
        else
            labels = read_labels(file, path);
        file.finish();
    }
    require(images.defined(), path, ": has no variable X");
    require(labels.has_value(), path, ": has no variable y");
    require(static_cast<std::int64_t>(labels->size()) == images.dim(0), path, ": ", images.dim(0), " images in X but ",
            labels->size(), " labels in y");
    return std::make_shared<MemoryDataset>(std::move(images), std::move(*labels), 10);
}

DataSplits read_svhn(const std::string& data_dir, bool extra) {
    const std::filesystem::path folder = require_folder("svhn", data_dir, {"svhn"}, {"train_32x32.mat"});
    DataSplits splits;
    splits.train = read_svhn_mat((folder / "train_32x32.mat").string());
    splits.test = read_svhn_mat((folder / "test_32x32.mat").string());
    if (extra) splits.extra = read_svhn_mat((folder / "extra_32x32.mat").string());
    return splits;
}

}  // namespace bitloom
