// CIFAR-10 and CIFAR-100, binary version (cs.toronto.edu/~kriz/cifar.html).
#include <filesystem>
#include <fstream>

#include "engine/data/files.h"
#include "engine/data/readers.h"

namespace bitloom {

namespace {

namespace fs = std::filesystem;
constexpr std::int64_t side = 32, channels = 3, plane = side * side, pixels = plane * channels;

std::vector<std::string> in_folder(const std::string& folder, const std::vector<std::string>& names) {
    std::vector<std::string> paths;
    for (const std::string& name : names) paths.push_back((fs::path(folder) / name).string());
    return paths;
}

/// Where only median-edge compressed batches lie about, says how they are unpacked.
void explain_compressed_batches(const std::string& data_dir) {
    const std::string folder = find_folder(data_dir, {"cifar-10"}, {"data_batch_1.med.xz"});
    if (folder.empty()) return;
    const std::string script = "unpack_cifar10.py";
    const fs::path beside = fs::path(folder) / script, above = fs::path(folder).parent_path() / script;
    const fs::path found = fs::exists(beside) ? beside : above;
    fail("cifar10: ", folder, " holds compressed batches only; run `python3 ", found.string(),
         " OUT` and give OUT as the data folder");
}

}  // namespace

std::shared_ptr<MemoryDataset> read_cifar_files(const std::vector<std::string>& paths, int label_bytes, int classes) {
    const std::int64_t record = label_bytes + pixels;
    std::int64_t count = 0;
    for (const std::string& path : paths) {
        const auto bytes = static_cast<std::int64_t>(file_size(path));
        require(bytes > 0 && bytes % record == 0, path, ": ", bytes, " bytes are no whole number of records of ",
                record, " bytes; truncated or another format");
        count += bytes / record;
    }
    Tensor images = Tensor::empty({count, side, side, channels}, DType::u8);
    std::vector<std::int32_t> labels;
    labels.reserve(static_cast<std::size_t>(count));
    std::uint8_t* out = images.write<std::uint8_t>();
    std::vector<std::uint8_t> buffer(static_cast<std::size_t>(record));
    for (const std::string& path : paths) {
        std::ifstream file(path, std::ios::binary);
        require(file.good(), path, ": cannot be opened");
        const std::int64_t records = static_cast<std::int64_t>(file_size(path)) / record;
        for (std::int64_t i = 0; i < records && static_cast<std::int64_t>(labels.size()) < count; ++i) {
            file.read(reinterpret_cast<char*>(buffer.data()), record);
            require(file.gcount() == record, path, ": truncated: ends in record ", i);
            const int label = buffer[static_cast<std::size_t>(label_bytes - 1)];
            require(label < classes, path, ": label ", label, " of record ", i, " is not in 0..", classes - 1);
            labels.push_back(label);
            const std::uint8_t* red = buffer.data() + label_bytes;
            for (std::int64_t p = 0; p < plane; ++p, out += channels) {
                out[0] = red[p];
                out[1] = red[p + plane];
                out[2] = red[p + 2 * plane];
            }
        }
    }
    require(static_cast<std::int64_t>(labels.size()) == count, paths.front(), ": changed while it was read");
    return std::make_shared<MemoryDataset>(std::move(images), std::move(labels), classes);
}

DataSplits read_cifar10(const std::string& data_dir) {
    const std::vector<std::string> folders{"cifar-10", "cifar-10-batches-bin"};
    if (!data_dir.empty() && find_folder(data_dir, folders, {"data_batch_1.bin"}).empty())
        explain_compressed_batches(data_dir);
    const std::string folder = require_folder("cifar10", data_dir, folders, {"data_batch_1.bin"});
    DataSplits splits;
    splits.train = read_cifar_files(in_folder(folder, {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                                                       "data_batch_4.bin", "data_batch_5.bin"}),
                                    1, 10);
    splits.test = read_cifar_files(in_folder(folder, {"test_batch.bin"}), 1, 10);
    return splits;
}

DataSplits read_cifar100(const std::string& data_dir) {
    const std::string folder = require_folder("cifar100", data_dir, {"cifar-100", "cifar-100-binary"}, {"train.bin"});
    DataSplits splits;
    splits.train = read_cifar_files(in_folder(folder, {"train.bin"}), 2, 100);
    splits.test = read_cifar_files(in_folder(folder, {"test.bin"}), 2, 100);
    return splits;
}

}  // namespace bitloom
