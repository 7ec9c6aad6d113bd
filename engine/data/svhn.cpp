// SVHN, format 2 (ufldl.stanford.edu/housenumbers): MATLAB v5 files, read through matio.
#include <matio.h>

#include <filesystem>
#include <fstream>

#include "engine/data/files.h"
#include "engine/data/readers.h"

namespace bitloom {

namespace {

struct CloseMat {
    void operator()(mat_t* file) const { Mat_Close(file); }
};
struct FreeVariable {
    void operator()(matvar_t* variable) const { Mat_VarFree(variable); }
};
using MatFile = std::unique_ptr<mat_t, CloseMat>;
using Variable = std::unique_ptr<matvar_t, FreeVariable>;

/// Header of a variable, with its extents held against what the file can hold.
Variable read_info(mat_t* file, const std::string& path, const char* name) {
    Variable v(Mat_VarReadInfo(file, name));
    require(v != nullptr, path, ": has no variable ", name);
    require(v->rank >= 2 && v->dims != nullptr, path, ": variable ", name, " is no array");
    constexpr std::uint64_t deflate_limit = 1032;
    const std::uint64_t limit = file_size(path) * deflate_limit;
    std::uint64_t count = 1;
    for (int i = 0; i < v->rank; ++i)
        require(!__builtin_mul_overflow(count, static_cast<std::uint64_t>(v->dims[i]), &count) && count <= limit, path,
                ": variable ", name, " claims more elements than the file can hold");
    require(count > 0, path, ": variable ", name, " is empty");
    require(!v->isComplex, path, ": variable ", name, " is complex");
    return v;
}

void read_data(mat_t* file, const std::string& path, matvar_t* v) {
    require(Mat_VarReadDataAll(file, v) == 0 && v->data != nullptr, path, ": variable ", v->name,
            " is truncated or damaged");
}

template <class T>
std::vector<std::int32_t> labels_of(const matvar_t& v, std::size_t count, const std::string& path) {
    const T* values = static_cast<const T*>(v.data);
    std::vector<std::int32_t> labels(count);
    for (std::size_t i = 0; i < count; ++i) {
        require(values[i] >= T(1) && values[i] <= T(10), path, ": label ", +values[i], " of image ", i,
                " is not in 1..10");
        labels[i] = static_cast<std::int32_t>(values[i]) % 10;
    }
    return labels;
}

std::vector<std::int32_t> read_labels(mat_t* file, const std::string& path, std::size_t count) {
    const Variable y = read_info(file, path, "y");
    std::size_t found = 1;
    for (int i = 0; i < y->rank; ++i) found *= y->dims[i];
    require(found == count, path, ": ", count, " images in X but ", found, " labels in y");
    read_data(file, path, y.get());
    switch (y->class_type) {
        case MAT_C_UINT8:
            return labels_of<std::uint8_t>(*y, count, path);
        case MAT_C_DOUBLE:
            return labels_of<double>(*y, count, path);
        default:
            fail(path, ": labels y are neither uint8 nor double");
    }
}

/// matio prints its complaints; ours is the Error.
void silence(int, char*) {}

}  // namespace

std::shared_ptr<MemoryDataset> read_svhn_mat(const std::string& path) {
    file_size(path);
    {
        char magic[128] = {};
        std::ifstream header(path, std::ios::binary);
        header.read(magic, sizeof magic);
        require(header.gcount() == sizeof magic, path, ": truncated: shorter than a MATLAB header");
        const bool little = magic[126] == 'I' && magic[127] == 'M', big = magic[126] == 'M' && magic[127] == 'I';
        require(little || big, path, ": not a MATLAB v5 file");
    }
    Mat_LogInitFunc("bitloom", silence);
    const MatFile file(Mat_Open(path.c_str(), MAT_ACC_RDONLY));
    require(file != nullptr, path, ": not a MATLAB v5 file");
    const Variable x = read_info(file.get(), path, "X");
    require(x->rank == 4 && x->class_type == MAT_C_UINT8, path, ": X must be uint8 of four dimensions (H, W, C, N)");
    const std::size_t height = x->dims[0], width = x->dims[1], channels = x->dims[2], count = x->dims[3];
    std::vector<std::int32_t> labels = read_labels(file.get(), path, count);
    read_data(file.get(), path, x.get());

    const auto extent = [](std::size_t n) { return static_cast<std::int64_t>(n); };
    Tensor images = Tensor::empty({extent(count), extent(height), extent(width), extent(channels)}, DType::u8);
    std::uint8_t* out = images.write<std::uint8_t>();
    const auto* in = static_cast<const std::uint8_t*>(x->data);  // column-major: the row index runs fastest
    for (std::size_t n = 0; n < count; ++n, in += height * width * channels)
        for (std::size_t r = 0; r < height; ++r)
            for (std::size_t c = 0; c < width; ++c)
                for (std::size_t k = 0; k < channels; ++k) *out++ = in[r + height * (c + width * k)];
    return std::make_shared<MemoryDataset>(std::move(images), std::move(labels), 10);
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
