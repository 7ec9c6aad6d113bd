#include "engine/data/readers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <matio.h>

#include "engine/io/hdf5.h"
#include "tests/engine/data/data_fixtures.h"

namespace bitloom {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

std::string counting(std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i < count; ++i) text += static_cast<char>(i % 251);
    return text;
}

TEST(Idx, ReadsPlainAndGzipFilesAlike) {
    TemporaryFolder folder;
    const std::string plain = idx_images(3, 4, counting(48));
    put(folder.file("plain"), plain);
    put(folder.file("packed.gz"), gzip(plain));
    for (const char* name : {"plain", "packed.gz"}) {
        const Tensor images = read_idx_images(folder.file(name));
        EXPECT_EQ(images.shape(), (Shape{3, 4, 4, 1}));
        for (int i = 0; i < 48; ++i) EXPECT_EQ(images.read<std::uint8_t>()[i], i);
    }
    put(folder.file("labels"), idx_labels(3, {1, 0, 9}));
    EXPECT_THAT(read_idx_labels(folder.file("labels")), ElementsAre(1, 0, 9));
}

TEST(Idx, RefusesAHeaderThatLies) {
    TemporaryFolder folder;
    const auto message = [&](const std::string& contents) {
        put(folder.file("images"), contents);
        const std::string text = message_of([&] { read_idx_images(folder.file("images")); });
        EXPECT_THAT(text, HasSubstr(folder.file("images")));
        return text;
    };
    EXPECT_THAT(message(idx_images(4000000000u, 28, counting(784))), HasSubstr("header promises"));
    EXPECT_THAT(message(idx_images(0xffffffffu, 0xffffffffu, counting(784))), HasSubstr("makes no sense"));
    EXPECT_THAT(message(idx_images(2, 28, counting(784))), HasSubstr("header promises"));
    EXPECT_THAT(message(idx_images(1, 28, counting(785))), HasSubstr("longer than its header says"));
    EXPECT_THAT(message(idx_images(0, 28, "")), HasSubstr("makes no sense"));
    EXPECT_THAT(message(idx_labels(1, counting(1))), HasSubstr("not an IDX file of images"));
    EXPECT_THAT(message(""), HasSubstr("truncated"));
    EXPECT_THAT(message(big_endian(0x803) + "ab"), HasSubstr("truncated"));
    // Compressed: the claim must not exceed what deflate can expand to, and what follows must be there.
    EXPECT_THAT(message(gzip(idx_images(4000000000u, 28, counting(784)))), HasSubstr("header promises"));
    EXPECT_THAT(message(gzip(idx_images(3, 28, counting(784)))), HasSubstr("truncated"));
}

TEST(Idx, RefusesTruncatedAndDamagedGzip) {
    TemporaryFolder folder;
    std::string noise;
    for (std::uint32_t i = 0; i < 7840; ++i) noise += static_cast<char>((i * 2654435761u) >> 24);
    const std::string packed = gzip(idx_images(10, 28, noise));
    for (const std::size_t kept : {packed.size() / 4, packed.size() / 2, packed.size() - 9, packed.size() - 1}) {
        put(folder.file("images.gz"), packed.substr(0, kept));
        EXPECT_THAT(message_of([&] { read_idx_images(folder.file("images.gz")); }),
                    AllOf(HasSubstr("images.gz"), HasSubstr("truncated")));
    }
    std::string damaged = packed;
    damaged[damaged.size() - 6] = static_cast<char>(damaged[damaged.size() - 6] ^ 0x55);  // in the checksum
    put(folder.file("images.gz"), damaged);
    EXPECT_THAT(message_of([&] { read_idx_images(folder.file("images.gz")); }), HasSubstr("images.gz"));
}

TEST(Mnist, FindsItsFilesAndHoldsThemAgainstEachOther) {
    TemporaryFolder folder;
    const std::filesystem::path below = folder.path() / "mnist";
    std::filesystem::create_directory(below);
    EXPECT_THAT(message_of([&] { read_mnist("mnist", folder.path().string(), "mnist"); }),
                AllOf(HasSubstr("train-images-idx3-ubyte"), HasSubstr(below.string())));
    EXPECT_THAT(message_of([&] { read_mnist("mnist", folder.file("nowhere"), "mnist"); }), HasSubstr("does not exist"));
    EXPECT_THAT(message_of([&] { read_mnist("mnist", "", "mnist"); }), HasSubstr("--data-dir"));

    put(below / "train-images-idx3-ubyte.gz", gzip(idx_images(2, 28, counting(1568))));
    EXPECT_THAT(message_of([&] { read_mnist("mnist", folder.path().string(), "mnist"); }),
                HasSubstr("train-labels-idx1-ubyte"));
    put(below / "train-labels-idx1-ubyte", idx_labels(2, {3, 10}));
    EXPECT_THAT(message_of([&] { read_mnist("mnist", folder.path().string(), "mnist"); }),
                HasSubstr("label 10 of image 1"));
    put(below / "train-labels-idx1-ubyte", idx_labels(3, {3, 9, 1}));
    EXPECT_THAT(message_of([&] { read_mnist("mnist", folder.path().string(), "mnist"); }), HasSubstr("2 images but"));
    put(below / "train-labels-idx1-ubyte", idx_labels(2, {3, 9}));
    put(below / "t10k-images-idx3-ubyte", idx_images(1, 28, counting(784)));
    put(below / "t10k-labels-idx1-ubyte", idx_labels(1, {7}));
    for (const std::string& given : {folder.path().string(), below.string()}) {
        const DataSplits splits = read_mnist("mnist", given, "mnist");
        EXPECT_EQ(splits.train->size(), 2);
        EXPECT_EQ(splits.train->label(1), 9);
        EXPECT_EQ(splits.test->label(0), 7);
        EXPECT_EQ(splits.extra, nullptr);
    }
}

std::string cifar_record(const std::string& labels, char first) {
    std::string record = labels;
    for (int plane = 0; plane < 3; ++plane)
        for (int i = 0; i < 1024; ++i) record += static_cast<char>((first + 40 * plane + i) & 127);
    return record;
}

TEST(Cifar, InterleavesThePlanes) {
    TemporaryFolder folder;
    put(folder.file("a.bin"), cifar_record({3}, 0) + cifar_record({9}, 5));
    put(folder.file("b.bin"), cifar_record({0}, 1));
    const auto data = read_cifar_files({folder.file("a.bin"), folder.file("b.bin")}, 1, 10);
    ASSERT_EQ(data->size(), 3);
    EXPECT_THAT(data->labels(), ElementsAre(3, 9, 0));
    std::vector<std::uint8_t> image(3072);
    data->read(1, image.data());
    for (int i = 0; i < 1024; ++i)
        for (int c = 0; c < 3; ++c) ASSERT_EQ(image[static_cast<std::size_t>(3 * i + c)], (5 + 40 * c + i) & 127);
    // CIFAR-100: the second label byte is the fine one.
    put(folder.file("c.bin"), cifar_record({11, 99}, 0));
    EXPECT_THAT(read_cifar_files({folder.file("c.bin")}, 2, 100)->labels(), ElementsAre(99));
}

TEST(Cifar, RefusesDamagedFiles) {
    TemporaryFolder folder;
    const std::string path = folder.file("data_batch_1.bin");
    const auto message = [&] { return message_of([&] { read_cifar_files({path}, 1, 10); }); };
    EXPECT_THAT(message(), AllOf(HasSubstr(path), HasSubstr("no such file")));
    put(path, cifar_record({11}, 0));
    EXPECT_THAT(message(), AllOf(HasSubstr(path), HasSubstr("label 11 of record 0")));
    put(path, cifar_record({10}, 0));  // the first that is too large
    EXPECT_THAT(message(), HasSubstr("label 10 of record 0 is not in 0..9"));
    put(path, cifar_record({1}, 0) + "x");
    EXPECT_THAT(message(), AllOf(HasSubstr(path), HasSubstr("whole number of records")));
    put(path, "");
    EXPECT_THAT(message(), HasSubstr(path));
    std::filesystem::remove(path);
    std::filesystem::create_directory(path);
    EXPECT_THAT(message(), HasSubstr("not a regular file"));
}

TEST(Cifar, FindsTheOfficialFoldersAndExplainsCompressedOnes) {
    TemporaryFolder folder;
    const auto load = [&] { return read_cifar10(folder.path().string()); };
    EXPECT_THAT(message_of(load), HasSubstr("no data_batch_1.bin"));
    std::filesystem::create_directory(folder.path() / "cifar-10");
    put(folder.file("cifar-10/data_batch_1.med.xz"), "x");
    put(folder.file("unpack_cifar10.py"), "x");
    EXPECT_THAT(message_of(load), AllOf(HasSubstr("python3 "), HasSubstr(folder.file("unpack_cifar10.py"))));
    const std::filesystem::path batches = folder.path() / "cifar-10-batches-bin";
    std::filesystem::create_directory(batches);
    for (int i = 1; i <= 5; ++i) put(batches / cat("data_batch_", i, ".bin"), cifar_record({static_cast<char>(i)}, 0));
    EXPECT_THAT(message_of(load), HasSubstr("test_batch.bin"));
    put(batches / "test_batch.bin", cifar_record({7}, 0));
    const DataSplits splits = load();
    EXPECT_EQ(splits.train->size(), 5);
    EXPECT_EQ(splits.train->label(4), 5);
    EXPECT_EQ(splits.test->label(0), 7);
    EXPECT_EQ(splits.test->image_shape(), (Shape{32, 32, 3}));
}

TEST(Cifar, HundredClassesAreTheFineOnes) {
    TemporaryFolder folder;
    const auto load = [&] { return read_cifar100(folder.path().string()); };
    EXPECT_THAT(message_of(load), HasSubstr("no train.bin"));
    const std::filesystem::path batches = folder.path() / "cifar-100-binary";
    std::filesystem::create_directory(batches);
    put(batches / "train.bin", cifar_record({19, 99}, 0) + cifar_record({3, 4}, 7));
    EXPECT_THAT(message_of(load), HasSubstr("test.bin"));
    put(batches / "test.bin", cifar_record({0, 42}, 0));
    const DataSplits splits = load();
    EXPECT_THAT((std::vector<int>{splits.train->label(0), splits.train->label(1), splits.test->label(0)}),
                ElementsAre(99, 4, 42));
    EXPECT_EQ(splits.train->classes(), 100);
    EXPECT_EQ(splits.test->size(), 1);
    put(batches / "test.bin", cifar_record({0, 100}, 0));
    EXPECT_THAT(message_of(load), HasSubstr("label 100 of record 0 is not in 0..99"));
}

/// One variable to be written to a MATLAB file.
struct MatVariable {
    std::string name;
    matio_classes kind;
    matio_types type;
    std::vector<std::size_t> dims;
    const void* data;
};

void write_mat(const std::string& path, const std::vector<MatVariable>& variables, matio_compression compression) {
    mat_t* file = Mat_CreateVer(path.c_str(), nullptr, MAT_FT_MAT5);
    ASSERT_NE(file, nullptr);
    for (const MatVariable& v : variables) {
        matvar_t* variable = Mat_VarCreate(v.name.c_str(), v.kind, v.type, static_cast<int>(v.dims.size()),
                                           const_cast<std::size_t*>(v.dims.data()), const_cast<void*>(v.data), 0);
        Mat_VarWrite(file, variable, compression);
        Mat_VarFree(variable);
    }
    Mat_Close(file);
}

class Svhn : public testing::Test {
   protected:
    static constexpr std::size_t count = 5;
    Svhn() : pixels_(32 * 32 * 3 * count) {
        for (std::size_t i = 0; i < pixels_.size(); ++i)
            pixels_[i] = static_cast<std::uint8_t>((i * 2654435761u) >> 13);
    }
    MatVariable x() const { return {"X", MAT_C_UINT8, MAT_T_UINT8, {32, 32, 3, count}, pixels_.data()}; }
    MatVariable y() const { return {"y", MAT_C_UINT8, MAT_T_UINT8, {labels_.size(), 1}, labels_.data()}; }
    std::string message() const {
        const std::string text = message_of([&] { read_svhn_mat(path_); });
        EXPECT_THAT(text, HasSubstr(path_));
        return text;
    }
    TemporaryFolder folder_;
    std::string path_ = folder_.file("train_32x32.mat");
    std::vector<std::uint8_t> pixels_, labels_{1, 10, 9, 2, 5};
};

TEST_F(Svhn, ReadsColumnMajorImagesAndLabelTenAsZero) {
    for (const auto compression : {MAT_COMPRESSION_NONE, MAT_COMPRESSION_ZLIB}) {
        write_mat(path_, {x(), y()}, compression);
        const auto data = read_svhn_mat(path_);
        ASSERT_EQ(data->size(), static_cast<std::int64_t>(count));
        EXPECT_EQ(data->image_shape(), (Shape{32, 32, 3}));
        EXPECT_THAT(data->labels(), ElementsAre(1, 0, 9, 2, 5));
        std::vector<std::uint8_t> image(3072);
        for (std::size_t n = 0; n < count; ++n) {
            data->read(static_cast<std::int64_t>(n), image.data());
            for (std::size_t r = 0; r < 32; ++r)
                for (std::size_t c = 0; c < 32; ++c)
                    for (std::size_t k = 0; k < 3; ++k)
                        ASSERT_EQ(image[(r * 32 + c) * 3 + k], pixels_[r + 32 * (c + 32 * (k + 3 * n))]);
        }
    }
    const std::vector<double> as_double(labels_.begin(), labels_.end());
    write_mat(path_, {x(), {"y", MAT_C_DOUBLE, MAT_T_DOUBLE, {count, 1}, as_double.data()}}, MAT_COMPRESSION_ZLIB);
    EXPECT_THAT(read_svhn_mat(path_)->labels(), ElementsAre(1, 0, 9, 2, 5));
    std::filesystem::copy_file(path_, folder_.file("test_32x32.mat"));
    EXPECT_EQ(read_svhn(folder_.path().string(), false).extra, nullptr);
    EXPECT_THAT(message_of([&] { read_svhn(folder_.path().string(), true); }), HasSubstr("extra_32x32.mat"));
}

template <class T>
void expect_labels_as(matio_classes kind, matio_types type, const std::string& path, const MatVariable& x) {
    const std::vector<T> labels{1, 10, 9, 2, 5};
    write_mat(path, {x, {"y", kind, type, {labels.size(), 1}, labels.data()}}, MAT_COMPRESSION_NONE);
    EXPECT_THAT(read_svhn_mat(path)->labels(), ElementsAre(1, 0, 9, 2, 5)) << type;
}

TEST_F(Svhn, LabelsOfEveryNumberType) {
    expect_labels_as<std::int8_t>(MAT_C_INT8, MAT_T_INT8, path_, x());
    expect_labels_as<std::int16_t>(MAT_C_INT16, MAT_T_INT16, path_, x());
    expect_labels_as<std::uint16_t>(MAT_C_UINT16, MAT_T_UINT16, path_, x());
    expect_labels_as<std::int32_t>(MAT_C_INT32, MAT_T_INT32, path_, x());
    expect_labels_as<std::uint32_t>(MAT_C_UINT32, MAT_T_UINT32, path_, x());
    expect_labels_as<std::int64_t>(MAT_C_INT64, MAT_T_INT64, path_, x());
    expect_labels_as<std::uint64_t>(MAT_C_UINT64, MAT_T_UINT64, path_, x());
    expect_labels_as<float>(MAT_C_SINGLE, MAT_T_SINGLE, path_, x());
    const std::vector<std::int16_t> negative{1, 2, -3, 4, 5};
    write_mat(path_, {x(), {"y", MAT_C_INT16, MAT_T_INT16, {count, 1}, negative.data()}}, MAT_COMPRESSION_NONE);
    EXPECT_THAT(message(), HasSubstr("label -3 of image 2"));
    const std::vector<double> broken{1, 2, 2.5, 4, 5};
    write_mat(path_, {x(), {"y", MAT_C_DOUBLE, MAT_T_DOUBLE, {count, 1}, broken.data()}}, MAT_COMPRESSION_NONE);
    EXPECT_THAT(message(), HasSubstr("label 2.5 of image 2"));
}

/// A MATLAB file by the bytes of its description, in either byte order.
class MatBytes {
   public:
    explicit MatBytes(bool big_endian) : big_(big_endian) {
        text_ = std::string(124, ' ') + (big_ ? std::string("\1\0MI", 4) : std::string("\0\1IM", 4));
    }
    std::string number(std::uint32_t value, int bytes) const {
        std::string text;
        for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> 8 * (big_ ? bytes - 1 - i : i));
        return text;
    }
    /// Up to four bytes stand within the tag.
    std::string element(std::uint32_t type, const std::string& data) const {
        const auto size = static_cast<std::uint32_t>(data.size());
        if (size <= 4) return number(size << 16 | type, 4) + data + std::string(4 - size, '\0');
        return number(type, 4) + number(size, 4) + data + std::string((8 - size % 8) % 8, '\0');
    }
    void add(const std::string& name, std::uint32_t kind, std::vector<std::uint32_t> extents, std::uint32_t type,
             const std::string& values) {
        std::string dimensions;
        for (const std::uint32_t extent : extents) dimensions += number(extent, 4);
        const std::string inside = element(6, number(kind, 4) + number(0, 4)) + element(5, dimensions) +
                                   element(1, name) + element(type, values);
        text_ += number(14, 4) + number(static_cast<std::uint32_t>(inside.size()), 4) + inside;
    }
    const std::string& text() const { return text_; }

   private:
    bool big_;
    std::string text_;
};

TEST(Mat, BothByteOrdersAndTheShortForm) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.mat"), pixels = counting(4 * 3 * 3 * 2);
    for (const bool big : {false, true}) {
        MatBytes mat(big);
        // uint8 and int16, the latter in four bytes within its tag.
        mat.add("X", 9, {4, 3, 3, 2}, 2, pixels);
        mat.add("y", 10, {2, 1}, 3, mat.number(10, 2) + mat.number(7, 2));
        put(path, mat.text());
        const auto data = read_svhn_mat(path);
        EXPECT_THAT(data->labels(), ElementsAre(0, 7)) << big;
        EXPECT_EQ(data->image_shape(), (Shape{4, 3, 3}));
        std::vector<std::uint8_t> image(36);
        data->read(1, image.data());
        // Row 2, column 1, channel 2 of the second image: the row index runs fastest.
        EXPECT_EQ(image[(2 * 3 + 1) * 3 + 2], static_cast<std::uint8_t>(pixels[2 + 4 * (1 + 3 * (2 + 3 * 1))])) << big;
        // Two labels are declared, one is there.
        MatBytes early(big);
        early.add("X", 9, {4, 3, 3, 2}, 2, pixels);
        early.add("y", 10, {2, 1}, 3, early.number(1, 2));
        put(path, early.text());
        EXPECT_THAT(message_of([&] { read_svhn_mat(path); }), HasSubstr(path)) << big;
    }
}

TEST_F(Svhn, RefusesWhatIsNotSvhn) {
    EXPECT_THAT(message(), HasSubstr("no such file"));
    put(path_, "short");
    EXPECT_THAT(message(), HasSubstr("shorter than a MATLAB header"));
    put(path_, std::string(4096, 'x'));
    EXPECT_THAT(message(), HasSubstr("not a MATLAB v5 file"));
    write_mat(path_, {y()}, MAT_COMPRESSION_ZLIB);
    EXPECT_THAT(message(), HasSubstr("no variable X"));
    write_mat(path_, {x()}, MAT_COMPRESSION_ZLIB);
    EXPECT_THAT(message(), HasSubstr("no variable y"));
    labels_ = {1, 11, 3, 4, 5};
    write_mat(path_, {x(), y()}, MAT_COMPRESSION_ZLIB);
    EXPECT_THAT(message(), HasSubstr("label 11 of image 1"));
    labels_ = {0, 1, 3, 4, 5};
    write_mat(path_, {x(), y()}, MAT_COMPRESSION_ZLIB);
    EXPECT_THAT(message(), HasSubstr("label 0 of image 0"));
    labels_ = {1, 2};
    write_mat(path_, {x(), y()}, MAT_COMPRESSION_ZLIB);
    EXPECT_THAT(message(), HasSubstr("5 images in X but 2 labels"));
    MatVariable flat = x();
    flat.dims = {32 * 32 * 3, count};
    write_mat(path_, {flat, y()}, MAT_COMPRESSION_ZLIB);
    EXPECT_THAT(message(), HasSubstr("four dimensions"));
}

TEST_F(Svhn, RefusesTruncatedFiles) {
    for (const auto compression : {MAT_COMPRESSION_NONE, MAT_COMPRESSION_ZLIB}) {
        write_mat(path_, {x(), y()}, compression);
        std::ifstream in(path_, std::ios::binary);
        const std::string whole{std::istreambuf_iterator<char>(in), {}};
        for (std::size_t kept = 0; kept + 64 < whole.size(); kept += 1000) {
            put(path_, whole.substr(0, kept));
            EXPECT_FALSE(message().empty()) << kept;
        }
    }
}

TEST(Hdf5Images, RoundTripAndBadFiles) {
    TemporaryFolder folder;
    const auto data = counting_images(6, {5, 4, 3}, 4);
    const auto write = [&](const std::string& path, const std::vector<std::int64_t>& labels, const Tensor& images) {
        hdf5::File file = hdf5::File::create(path);
        file.write("images", images);
        file.write_i64("labels", labels);
        file.close();
    };
    const std::vector<std::int64_t> labels(data->labels().begin(), data->labels().end());
    write(folder.file("train.h5"), labels, data->images());
    write(folder.file("test.h5"), {0, 1}, data->images().rows(2, 2));
    const DataSplits splits = read_hdf5_splits(folder.path().string(), false);
    EXPECT_EQ(splits.train->size(), 6);
    EXPECT_EQ(splits.train->classes(), 4);
    EXPECT_EQ(splits.test->classes(), 4);
    std::vector<std::uint8_t> image(60);
    splits.test->read(1, image.data());
    for (int i = 0; i < 60; ++i) EXPECT_EQ(image[static_cast<std::size_t>(i)], 21 + i);

    write(folder.file("test.h5"), {0, 4}, data->images().rows(0, 2));
    EXPECT_THAT(message_of([&] { read_hdf5_splits(folder.path().string(), false); }),
                AllOf(HasSubstr("test.h5"), HasSubstr("label 4 of image 1")));
    write(folder.file("bad.h5"), {0}, data->images());
    EXPECT_THAT(message_of([&] { read_hdf5_images(folder.file("bad.h5")); }), HasSubstr("6 images but 1 labels"));
    write(folder.file("bad.h5"), {0}, data->images().reshape({6, 60}));
    EXPECT_THAT(message_of([&] { read_hdf5_images(folder.file("bad.h5")); }), HasSubstr("[N, H, W, C]"));
    EXPECT_THAT(message_of([&] { read_hdf5_images(folder.file("none.h5")); }), HasSubstr("no such file"));
    put(folder.file("bad.h5"), "not HDF5 at all");
    EXPECT_THAT(message_of([&] { read_hdf5_images(folder.file("bad.h5")); }), HasSubstr("bad.h5"));
}

}  // namespace
}  // namespace bitloom
