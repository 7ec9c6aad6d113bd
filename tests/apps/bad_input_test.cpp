// Damaged and unusual files through the programs: one clear line and the right exit status, or the right result.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hdf5.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "engine/io/hdf5.h"
#include "models/registry.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::lines;
using test::ProcessResult;
using test::run;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

/// Status 1 and one line that names the program.
void expect_refusal(const std::string& program, const std::vector<std::string>& arguments, const std::string& says,
                    const std::string& and_says = "") {
    const ProcessResult result = run(program, arguments);
    test::expect_refusal(result, 1, {says, and_says});
    EXPECT_THAT(result.err, StartsWith(program + ": "));
}

void put(const std::string& path, const std::string& contents) { std::ofstream(path, std::ios::binary) << contents; }

std::string big_endian(std::uint32_t word) {
    std::string bytes;
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(word >> shift);
    return bytes;
}

/// Arguments of a short training on the files in `folder`, whose run goes below it.
std::vector<std::string> training(const std::string& dataset, const TemporaryFolder& folder,
                                  const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"--dataset=" + dataset, "--data-dir=" + folder.path(),
                                       "--out-dir=" + (folder / "run"), "--threads=1", "--epochs=1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

TEST(BadInput, Mnist) {
    const TemporaryFolder folder;
    const std::string images = folder / "train-images-idx3-ubyte", labels = folder / "train-labels-idx1-ubyte";
    const auto header = [](std::uint32_t count) {
        return big_endian(0x803) + big_endian(count) + big_endian(28) + big_endian(28);
    };
    const auto refused = [&](const std::string& file, const std::string& says) {
        expect_refusal("train", training("mnist", folder, {"--model=mnist_mlp"}), file, says);
    };
    put(images, header(3) + std::string(3 * 784, 'x'));
    refused("train-labels-idx1-ubyte", "no ");
    put(labels, big_endian(0x801) + big_endian(3) + std::string("\1\2\12", 3));
    refused(labels, "label 10 of image 2 is not in 0..9");
    put(labels, big_endian(0x801) + big_endian(3) + std::string("\1\2\3", 3));
    put(images, header(60000) + std::string(3 * 784, 'x'));  // lies about its size
    refused(images, "its header promises 47040000 bytes");
    put(images, header(3) + std::string(3 * 784 - 1, 'x'));
    refused(images, "its header promises");
    put(images, header(3).substr(0, 10));
    refused(images, "truncated");
    std::filesystem::remove(images);
    put(images + ".gz", std::string("\x1f\x8b\x08\0\0\0\0\0\0\3", 10) + "what is this");
    refused(images + ".gz", "damaged gzip data");
}

TEST(BadInput, Cifar) {
    const TemporaryFolder folder;
    const auto batch = [](char label) { return label + std::string(3072, 'x'); };
    const std::vector<std::string> arguments = training("cifar10", folder, {"--model=resnet20"});
    put(folder / "data_batch_1.bin", batch('\0'));
    expect_refusal("train", arguments, "data_batch_2.bin", "no such file");
    for (int i = 2; i <= 5; ++i) put(folder / ("data_batch_" + std::to_string(i) + ".bin"), batch('\1'));
    put(folder / "test_batch.bin", batch('\13'));
    expect_refusal("train", arguments, folder / "test_batch.bin", "label 11 of record 0 is not in 0..9");
    put(folder / "test_batch.bin", batch('\2').substr(0, 2000));
    expect_refusal("train", arguments, folder / "test_batch.bin", "truncated");
}

TEST(BadInput, Svhn) {
    const TemporaryFolder folder;
    const auto little = [](std::uint32_t word) {
        const std::string bytes = big_endian(word);
        return std::string(bytes.rbegin(), bytes.rend());
    };
    const auto element = [&](std::uint32_t type, const std::string& data) {
        return little(type) + little(static_cast<std::uint32_t>(data.size())) + data +
               std::string((8 - data.size() % 8) % 8, '\0');
    };
    const std::string header = std::string(124, ' ') + std::string("\0\1IM", 4);
    const std::string y = element(14, element(6, little(9) + little(0)) + element(5, little(2) + little(1)) +
                                          element(1, "y") + element(2, "\1\2"));
    const std::string path = folder / "train_32x32.mat";
    const std::vector<std::string> arguments{"--data-dir=" + folder.path(), "--out-dir=" + (folder / "run"), "--debug",
                                             "--folds=2"};
    expect_refusal("svhn_kfold", arguments, "no train_32x32.mat");
    put(path, header + y);
    expect_refusal("svhn_kfold", arguments, path, "has no variable X");
    put(path, (header + y).substr(0, 150));
    expect_refusal("svhn_kfold", arguments, path, "truncated");
    put(path, "MATLAB");
    expect_refusal("svhn_kfold", arguments, path, "shorter than a MATLAB header");
}

/// Twelve images of `labels`, in the data set hdf5.
void write_images(const std::string& path, const std::vector<std::int64_t>& labels, std::int64_t side = 32) {
    hdf5::File file = hdf5::File::create(path);
    file.write("images", Tensor::full({static_cast<std::int64_t>(labels.size()), side, side, 3}, 3, DType::u8));
    file.write_i64("labels", labels);
    file.close();
}

TEST(BadInput, Hdf5ImagesTruncatedAnywhere) {
    const TemporaryFolder folder;
    write_images(folder / "train.h5", {0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3});
    write_images(folder / "test.h5", {0, 1, 2, 3});
    const std::vector<std::string> arguments = training("hdf5", folder, {"--model=svhn_cnn"});
    // A batch larger than the data set is one batch of what there is.
    const ProcessResult whole = run("train", training("hdf5", folder, {"--model=svhn_cnn", "--batch-size=1000"}));
    EXPECT_EQ(whole.status, 0) << whole.err;
    EXPECT_THAT(whole.out, HasSubstr("/4\n"));
    const std::string contents = read_file(folder / "train.h5");
    for (int i = 0; i < 10; ++i) {
        put(folder / "train.h5", contents.substr(0, contents.size() * static_cast<std::size_t>(i) / 10));
        expect_refusal("train", arguments, folder / "train.h5");
    }
    write_images(folder / "train.h5", {0, 1, 2, 3});
    write_images(folder / "test.h5", {0, 4, 2, 3});
    expect_refusal("train", arguments, folder / "test.h5", "label 4 of image 1 is not in 0..3");
    write_images(folder / "train.h5", {0, 11, 2, 3});
    write_images(folder / "test.h5", {0, 1, 2, 3});
    expect_refusal("svhn_kfold", training("hdf5", folder, {"--folds=2"}), "hdf5 has 12 classes, --nclasses=10");
}

/// Plain weights of the SVHN network in PyTorch's layout, with what other programs do differently.
struct PlainFile {
    bool half = false;            ///< weights as 16-bit floats
    bool scalar_counter = false;  ///< num_batches_tracked [] instead of [1]
    bool variable_strings = false;

    void write(const std::string& path) const {
        const hid_t file = H5Fcreate(path.c_str(), H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT);
        ASSERT_GE(file, 0);
        const std::unique_ptr<Module> network = make_model({.name = "svhn_cnn"}, 3);
        for (const auto& [name, parameter] : network->named_parameters()) tensor(file, name, parameter->value);
        for (const auto& [name, buffer] : network->named_buffers())
            if (!name.ends_with("num_batches_tracked"))
                tensor(file, name, *buffer);
            else
                counter(file, name);
        strings(file, "_names");
        H5Fclose(file);
    }

   private:
    void tensor(hid_t file, const std::string& name, const Tensor& tensor) const {
        std::vector<hsize_t> extents;
        for (int i = 0; i < tensor.rank(); ++i) extents.push_back(static_cast<hsize_t>(tensor.dim(i)));
        if (extents.size() == 4) std::rotate(extents.begin() + 1, extents.begin() + 3, extents.end());  // OHWI to OIHW
        // Multiples of 1/8 below 2: alike in 16 and in 32 bits. Variances are positive.
        std::vector<float> values(static_cast<std::size_t>(tensor.numel()));
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] = name.ends_with("running_var") ? 1.0f : static_cast<float>((i * 7919) % 17) / 8.0f - 1.0f;
        const hid_t type = H5Tcopy(H5T_IEEE_F32LE);
        if (half) {
            H5Tset_fields(type, 15, 10, 5, 0, 10);
            H5Tset_precision(type, 16);
            H5Tset_size(type, 2);
            H5Tset_ebias(type, 15);
        }
        dataset(file, name, type, H5T_NATIVE_FLOAT, extents, values.data());
        H5Tclose(type);
    }
    void counter(hid_t file, const std::string& name) const {
        const std::int64_t count = 5;
        dataset(file, name, H5T_STD_I64LE, H5T_NATIVE_INT64,
                scalar_counter ? std::vector<hsize_t>{} : std::vector<hsize_t>{1}, &count);
    }
    void strings(hid_t file, const std::string& name) const {
        const hid_t type = H5Tcopy(H5T_C_S1);
        H5Tset_size(type, variable_strings ? H5T_VARIABLE : 8);
        const char* pointers[] = {"conv_0", "conv_1"};
        const char fixed[] = "conv_0\0\0conv_1\0";
        dataset(file, name, type, type, {2}, variable_strings ? static_cast<const void*>(pointers) : fixed);
        const hid_t space = H5Screate(H5S_SCALAR),
                    note = H5Acreate2(file, "note", type, space, H5P_DEFAULT, H5P_DEFAULT);
        EXPECT_GE(H5Awrite(note, type, variable_strings ? static_cast<const void*>(pointers) : fixed), 0);
        H5Aclose(note);
        H5Sclose(space);
        H5Tclose(type);
    }
    static void dataset(hid_t file, const std::string& name, hid_t type, hid_t memory_type,
                        const std::vector<hsize_t>& extents, const void* values) {
        const hid_t space = extents.empty()
                                ? H5Screate(H5S_SCALAR)
                                : H5Screate_simple(static_cast<int>(extents.size()), extents.data(), nullptr);
        const hid_t id = H5Dcreate2(file, name.c_str(), type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        ASSERT_GE(id, 0) << name;
        EXPECT_GE(H5Dwrite(id, memory_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), 0) << name;
        H5Dclose(id);
        H5Sclose(space);
    }
};

std::vector<std::string> evaluation(const std::string& weights) {
    return {"--weights=" + weights, "--model=svhn_cnn", "--dataset=digits", "--test-size=30",
            "--train-size=1",       "--threads=1",      "--normalize=unit", "--batch-size=30"};
}

TEST(BadInput, WhatOtherProgramsWriteDifferentlyIsAccepted) {
    const TemporaryFolder folder;
    PlainFile().write(folder / "plain.h5");
    const ProcessResult plain = run("evaluate", evaluation(folder / "plain.h5"));
    ASSERT_EQ(plain.status, 0) << plain.err;
    for (const auto& [name, file] : {std::pair{"half", PlainFile{.half = true}},
                                     {"scalar", PlainFile{.scalar_counter = true}},
                                     {"variable", PlainFile{.variable_strings = true}}}) {
        file.write(folder / name);
        const ProcessResult result = run("evaluate", evaluation(folder / name));
        EXPECT_EQ(result.status, 0) << name << ": " << result.err;
        EXPECT_EQ(result.out, plain.out) << name;
    }
}

TEST(BadInput, WeightsTruncatedAnywhere) {
    const TemporaryFolder folder;
    PlainFile{.variable_strings = true}.write(folder / "plain.h5");
    Checkpoint checkpoint;
    checkpoint.model = describe({.name = "svhn_cnn"});
    gather(*make_model({.name = "svhn_cnn"}, 5), checkpoint);
    save_checkpoint(folder / "checkpoint.h5", checkpoint);
    for (const char* name : {"plain.h5", "checkpoint.h5"}) {
        const std::string contents = read_file(folder / name);
        for (const double part : {0.0, 0.001, 0.02, 0.3, 0.7, 0.99}) {
            put(folder / "cut.h5",
                contents.substr(0, static_cast<std::size_t>(part * static_cast<double>(contents.size()))));
            expect_refusal("evaluate", evaluation(folder / "cut.h5"), folder / "cut.h5");
        }
    }
}

TEST(BadInput, KfoldRefusesTheWeightsOfAnotherNetwork) {
    const TemporaryFolder folder;
    Checkpoint checkpoint;
    checkpoint.model = describe({.name = "lenet5"});
    gather(*make_model({.name = "lenet5"}, 5), checkpoint);
    save_checkpoint(folder / "lenet5.h5", checkpoint);
    expect_refusal("svhn_kfold",
                   {"--dataset=digits", "--train-size=100", "--test-size=20", "--folds=2", "--single", "--epochs=1",
                    "--loadModel", "--lmodel=" + (folder / "lenet5.h5"), "--out-dir=" + (folder / "run")},
                   "a lenet5 does not fit");
}

TEST(BadInput, LossThatIsNotFiniteStopsAndKeepsTheLastGoodCheckpoint) {
    const TemporaryFolder folder;
    const std::string out = folder / "run", last = out + "/last.h5";
    const ProcessResult result =
        run("train", {"--dataset=digits-grey", "--model=lenet5", "--train-size=400", "--test-size=20", "--epochs=1",
                      "--batch-size=20", "--lr=1e30", "--threads=1", "--checkpoint-every-steps=1", "--out-dir=" + out});
    EXPECT_EQ(result.status, 1);
    EXPECT_EQ(result.out, "");
    const std::string said = lines(result.err).back();
    EXPECT_THAT(said, AllOf(StartsWith("train: training: the loss is "), HasSubstr("in epoch 1, batch "),
                            HasSubstr("; the last good checkpoint is " + last)));
    // The step that is named is the first that was not done.
    const std::int64_t done = load_checkpoint(last).integers.at("trainer.step");
    EXPECT_THAT(said, HasSubstr("(step " + std::to_string(done + 1) + ")"));
    EXPECT_GE(done, 1);
}

TEST(BadInput, NoEpochsAreWrongUsage) {
    const TemporaryFolder folder;
    for (const char* program : {"train", "svhn_kfold"}) {
        const ProcessResult result = run(program, {"--dataset=digits", "--epochs=0", "--out-dir=" + (folder / "run")});
        EXPECT_EQ(result.status, 2);
        EXPECT_THAT(lines(result.err).front(), HasSubstr("--epochs: must be at least 1, got 0"));
    }
}

}  // namespace
}  // namespace bitloom
