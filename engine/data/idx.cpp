// MNIST's IDX format (yann.lecun.com/exdb/mnist): big-endian magic and extents, then unsigned bytes.
#include <filesystem>

#include "engine/data/files.h"
#include "engine/data/readers.h"

namespace bitloom {

namespace {

constexpr std::uint32_t image_magic = 0x803, label_magic = 0x801;
constexpr std::uint32_t max_side = 1u << 14;

void expect_magic(const std::string& path, std::uint32_t magic, std::uint32_t wanted) {
    require(magic == wanted, path, ": not an IDX file of ", wanted == image_magic ? "images" : "labels", " (magic ",
            magic, ", expected ", wanted, ")");
}

std::shared_ptr<const Dataset> read_pair(const std::string& name, const std::string& folder, const std::string& images,
                                         const std::string& labels) {
    const auto locate = [&](const std::string& file) {
        const std::filesystem::path plain = std::filesystem::path(folder) / file;
        if (std::filesystem::exists(plain)) return plain.string();
        const std::string packed = plain.string() + ".gz";
        require(std::filesystem::exists(packed), name, ": no ", file, "(.gz) in ", folder);
        return packed;
    };
    const std::string label_path = locate(labels), image_path = locate(images);
    std::vector<std::int32_t> values = read_idx_labels(label_path);
    for (std::size_t i = 0; i < values.size(); ++i)
        require(values[i] < 10, label_path, ": label ", values[i], " of image ", i, " is not in 0..9");
    Tensor pixels = read_idx_images(image_path);
    require(pixels.dim(0) == static_cast<std::int64_t>(values.size()), image_path, ": holds ", pixels.dim(0),
            " images but ", label_path, " ", values.size(), " labels");
    return std::make_shared<MemoryDataset>(std::move(pixels), std::move(values), 10);
}

}  // namespace

Tensor read_idx_images(const std::string& path) {
    ByteStream stream(path);
    expect_magic(path, stream.read_u32(), image_magic);
    const std::uint64_t count = stream.read_u32(), height = stream.read_u32(), width = stream.read_u32();
    require(count > 0 && height > 0 && width > 0 && height <= max_side && width <= max_side, path, ": header of ",
            count, " images of ", height, " x ", width, " makes no sense");
    const std::uint64_t bytes = count * height * width;  // below 2^60 by the bounds above
    stream.expect_room(bytes);
    Tensor images = Tensor::empty(
        {static_cast<std::int64_t>(count), static_cast<std::int64_t>(height), static_cast<std::int64_t>(width), 1},
        DType::u8);
    stream.read({images.write<std::uint8_t>(), bytes});
    stream.expect_end();
    return images;
}

std::vector<std::int32_t> read_idx_labels(const std::string& path) {
    ByteStream stream(path);
    expect_magic(path, stream.read_u32(), label_magic);
    const std::uint64_t count = stream.read_u32();
    require(count > 0, path, ": holds no labels");
    stream.expect_room(count);
    std::vector<std::uint8_t> bytes(count);
    stream.read(bytes);
    stream.expect_end();
    return {bytes.begin(), bytes.end()};
}

DataSplits read_mnist(const std::string& name, const std::string& data_dir, const std::string& folder) {
    const std::string train_images = "train-images-idx3-ubyte";
    const std::string found = require_folder(name, data_dir, {folder}, {train_images, train_images + ".gz"});
    DataSplits splits;
    splits.train = read_pair(name, found, train_images, "train-labels-idx1-ubyte");
    splits.test = read_pair(name, found, "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte");
    return splits;
}

}  // namespace bitloom
