// HDF5 files that are cut, damaged, swollen or none: one line each, and no healthy file is taken for one of them.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <random>

#include "engine/io/atomic_file.h"
#include "engine/io/hdf5.h"
#include "tests/engine/io/raw_hdf5.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom {
namespace {

using ::testing::StartsWith;

/// Everything in the file, so that no part of it goes unread. Throws Error alone.
void read_everything(const std::string& path) {
    const hdf5::File file = hdf5::File::open(path);
    for (const std::string& name : file.datasets()) {
        (void)file.shape(name);
        if (name == "words")
            file.read_strings(name);
        else
            file.read(name, DType::f64);
    }
    (void)file.attribute_string("", "about");
    (void)file.attribute_f64("", "mean");
}

TEST(DamagedHdf5, TruncatedAnywhereIsOneError) {
    TemporaryFolder folder;
    const std::string whole = folder.file("whole.h5"), old = folder.file("old.h5"), cut = folder.file("cut.h5");
    {
        hdf5::File file = hdf5::File::create(whole);
        for (int i = 0; i < 12; ++i) file.write(cat("layer", i, "/weight"), Tensor::full({5, 7}, i));
        file.write_strings("words", {"a", "bc"});
        file.write_attribute("", "about", std::string("truncation"));
        file.write_attribute("", "mean", std::vector<double>{1, 2, 3});
        file.close();
    }
    {  // the same in the old format of symbol tables, as h5py writes it
        RawFile raw(old);
        const std::vector<float> x(2000, 1.0f);
        for (int i = 0; i < 6; ++i)
            raw.dataset(cat("w", i).c_str(), H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {40, 50}, x.data());
        const hid_t variable = H5Tcopy(H5T_C_S1);
        H5Tset_size(variable, H5T_VARIABLE);
        const char* word = "word";
        raw.dataset("words", variable, variable, {}, &word);
        raw.attribute("about", variable, {}, &word);
        H5Tclose(variable);
        const double mean = 1;
        raw.attribute("mean", H5T_NATIVE_DOUBLE, {}, &mean);
    }
    for (const std::string& source : {whole, old}) {
        read_everything(source);
        const std::string contents = read_file(source);
        for (std::size_t i = 0; i < 60; ++i) {
            const std::size_t length = i < 50 ? contents.size() * i / 50 : contents.size() - 1 - (i - 50) * 3;
            put(cut, contents.substr(0, length));
            EXPECT_THAT(message_of([&] { read_everything(cut); }), StartsWith(cut)) << length;
        }
    }
}

TEST(DamagedHdf5, DamagedMetadataNeverCrashes) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    {
        hdf5::File file = hdf5::File::create(path);
        for (int i = 0; i < 4; ++i) file.write(cat("x", i), Tensor::full({3}, i));
        file.write_attribute("", "about", std::string("damage"));
        file.write_attribute("", "mean", 1.0);
        file.close();
    }
    const std::string contents = read_file(path);
    std::mt19937 random(7);
    int refused = 0;
    for (int i = 0; i < 200; ++i) {
        std::string damaged = contents;
        damaged[random() % std::min<std::size_t>(damaged.size(), 700)] ^= static_cast<char>(1 + random() % 255);
        put(path, damaged);
        try {
            read_everything(path);
        } catch (const Error&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 100);  // the checksums of the format do their work
}

TEST(DamagedHdf5, AFileThatTheLibraryNeverComesBackFromIsOneError) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    {
        RawFile raw(path);
        const hid_t variable = H5Tcopy(H5T_C_S1);
        H5Tset_size(variable, H5T_VARIABLE);
        const char* words[] = {"one", "two"};
        raw.dataset("words", variable, variable, {2}, words);
        H5Tclose(variable);
    }
    std::string contents = read_file(path);
    // Variable-length strings lie in a global heap: "GCOL", version, size (16 bytes in all), then objects of 16 bytes
    // of header (number, uses, size in the last 8) and their bytes, padded to 8. The third one is the free space: of no
    // length, HDF5 1.10 looks for what follows it for ever.
    const std::size_t heap = contents.find("GCOL");
    ASSERT_NE(heap, std::string::npos);
    const std::size_t free_space = heap + 16 + 2 * (16 + 8);
    ASSERT_EQ(contents.substr(free_space, 2), std::string(2, '\0'));
    contents.replace(free_space + 8, 8, std::string(8, '\0'));
    put(path, contents);
    const std::string message = message_of([&] { hdf5::File::open(path).read_strings("words"); });
    EXPECT_THAT(message, StartsWith(path + ": damaged HDF5 file"));
}

/// Where the reference to the first of a file's variable-length strings of 3 characters lies: length (4 bytes), address
/// of the heap (8), number in the heap (4).
std::size_t string_reference(const std::string& contents) {
    const std::size_t heap = contents.find("GCOL");
    std::string reference("\3\0\0\0", 4);
    for (int shift = 0; shift < 64; shift += 8) reference += static_cast<char>(heap >> shift);
    return contents.find(reference);
}

TEST(DamagedHdf5, SizesThatTheFileCannotHaveAreOneError) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    const auto expect_refused = [&](const std::string& contents) {
        put(path, contents);
        EXPECT_EQ(message_of([&] { hdf5::File::open(path); }),
                  path + ": the HDF5 library needs more memory for it than its contents can (damaged HDF5 file?)");
    };
    for (const bool attribute : {false, true}) {
        {
            RawFile raw(path);
            const hid_t variable = H5Tcopy(H5T_C_S1);
            H5Tset_size(variable, H5T_VARIABLE);
            const char* words[] = {"one", "two"};
            if (attribute)
                raw.attribute("words", variable, {2}, words);
            else
                raw.dataset("words", variable, variable, {2}, words);
            H5Tclose(variable);
        }
        std::string contents = read_file(path);
        const std::size_t reference = string_reference(contents);
        ASSERT_NE(reference, std::string::npos);
        contents[reference + 3] = '\3';  // a string of 48 MB
        expect_refused(contents);
    }
}

// As a file of test vectors has them: the library keeps what it saw of objects, more than their bytes in the file.
TEST(DamagedHdf5, ThousandsOfSmallGroupsAreNoDamage) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    constexpr int groups = 12000;
    {
        const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        const hid_t text = H5Tcopy(H5T_C_S1), one = H5Screate(H5S_SCALAR);
        H5Tset_size(text, H5T_VARIABLE);
        for (int i = 0; i < groups; ++i) {
            const hid_t group = H5Gcreate2(file, ("case_" + std::to_string(i)).c_str(), H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
            for (const char* name : {"first", "second", "third", "fourth", "fifth", "sixth"}) {
                const hid_t attribute = H5Acreate2(group, name, text, one, H5P_DEFAULT, H5P_DEFAULT);
                H5Awrite(attribute, text, &name);
                H5Aclose(attribute);
            }
            H5Gclose(group);
        }
        H5Sclose(one);
        H5Tclose(text);
        H5Fclose(file);
    }
    const hdf5::File file = hdf5::File::open(path);
    EXPECT_EQ(file.groups().size(), std::size_t{groups});
    EXPECT_EQ(file.attribute_string("case_11999", "sixth"), "sixth");
}

// Memory is not held against a file that is merely well packed.
TEST(DamagedHdf5, APackedDatasetMayGrow) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    constexpr hsize_t rows = 160, columns = 65536;  // 42 MB of zeros in some 50 KB
    {
        RawFile raw(path);
        const hid_t packed = H5Pcreate(H5P_DATASET_CREATE);
        const hsize_t chunk[] = {40, columns};
        H5Pset_chunk(packed, 2, chunk);
        H5Pset_deflate(packed, 6);
        raw.dataset("zeros", H5T_IEEE_F32LE, H5T_NATIVE_FLOAT, {rows, columns},
                    std::vector<float>(rows * columns).data(), packed);
        H5Pclose(packed);
    }
    EXPECT_LT(read_file(path).size(), std::size_t{1} << 20);
    EXPECT_EQ(hdf5::File::open(path).shape("zeros"), (Shape{160, 65536}));
}

TEST(DamagedHdf5, NamesFilesThatAreNone) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.h5");
    EXPECT_EQ(message_of([&] { hdf5::File::open(path); }), path + ": No such file or directory");
    put(path, "");
    EXPECT_EQ(message_of([&] { hdf5::File::open(path); }), path + ": not an HDF5 file");
    put(path, std::string(5000, 'x'));
    EXPECT_EQ(message_of([&] { hdf5::File::open(path); }), path + ": not an HDF5 file");
    EXPECT_EQ(message_of([&] { hdf5::File::open(folder.path().string()); }), folder.path().string() + ": is a folder");
}

}  // namespace
}  // namespace bitloom
