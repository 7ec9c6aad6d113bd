// svhn_kfold on SVHN's own files: MATLAB files that the test writes, with extra images and label 10 for the digit 0.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <matio.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/data/dataset.h"
#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::lines;
using test::ProcessResult;
using test::run;
using test::TemporaryFolder;
using Json = nlohmann::json;

/// X [32, 32, 3, N] column-major and y [N, 1], as the data set's authors store them.
void write_svhn(const std::string& path, const Dataset& images, std::int64_t first, std::int64_t count) {
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(3072 * count)), image(3072), labels;
    for (std::int64_t n = 0; n < count; ++n) {
        images.read(first + n, image.data());
        for (std::size_t r = 0; r < 32; ++r)
            for (std::size_t c = 0; c < 32; ++c)
                for (std::size_t k = 0; k < 3; ++k)
                    pixels[r + 32 * (c + 32 * (k + 3 * static_cast<std::size_t>(n)))] = image[(r * 32 + c) * 3 + k];
        const int label = images.label(first + n);
        labels.push_back(static_cast<std::uint8_t>(label == 0 ? 10 : label));
    }
    mat_t* file = Mat_CreateVer(path.c_str(), nullptr, MAT_FT_MAT5);
    ASSERT_NE(file, nullptr);
    std::size_t x_extents[] = {32, 32, 3, static_cast<std::size_t>(count)},
                y_extents[] = {static_cast<std::size_t>(count), 1};
    matvar_t* x = Mat_VarCreate("X", MAT_C_UINT8, MAT_T_UINT8, 4, x_extents, pixels.data(), 0);
    matvar_t* y = Mat_VarCreate("y", MAT_C_UINT8, MAT_T_UINT8, 2, y_extents, labels.data(), 0);
    Mat_VarWrite(file, x, MAT_COMPRESSION_ZLIB);
    Mat_VarWrite(file, y, MAT_COMPRESSION_ZLIB);
    Mat_VarFree(x);
    Mat_VarFree(y);
    Mat_Close(file);
}

TEST(KfoldSvhn, TheFullPipelineRunsOnMatlabFiles) {
    const TemporaryFolder folder;
    DatasetOptions options;
    options.name = "digits";
    options.train_size = 1300;
    options.test_size = 200;
    const DataSplits digits = load_dataset(options);
    std::filesystem::create_directory(folder / "svhn");
    write_svhn(folder / "svhn/train_32x32.mat", *digits.train, 0, 300);
    write_svhn(folder / "svhn/extra_32x32.mat", *digits.train, 300, 1000);
    write_svhn(folder / "svhn/test_32x32.mat", *digits.test, 0, 200);

    // The published flag file first, as its user gives it; what follows it wins.
    const std::string out = folder / "models", cfg = std::string(BITLOOM_SOURCE_DIR) + "/configs/svhn_cnn.cfg";
    const auto kfold = [&](const std::vector<std::string>& more) {
        std::vector<std::string> arguments{"--flagfile=" + cfg, "--data-dir=" + (folder / "svhn"),
                                           "--outdir=" + out,   "--epochs=5",
                                           "--batchsize=32",    "--single",
                                           "--start=1",         "--threads=1",
                                           "--widths=4,1"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        const ProcessResult result = run("svhn_kfold", arguments);
        EXPECT_EQ(result.status, 0) << result.err;
    };
    kfold({});
    kfold({"--prune=True"});
    kfold({"--quantize"});
    kfold({"--quantize", "--prune"});
    double accuracy = 0;
    for (const std::string name :
         {"full_1", "pruned_full_1", "quant_4bit_1", "quant_1bit_1", "pruned_quant_4bit_1", "pruned_quant_1bit_1"}) {
        for (const std::string& file : {std::string("model_best.h5"), std::string("weights_best.h5"), name + ".h5",
                                        std::string("history_dict.csv"), std::string("scores.npz")})
            EXPECT_TRUE(std::filesystem::exists(out + "/" + name + "/" + file)) << name << '/' << file;
        EXPECT_EQ(lines(read_file(out + "/" + name + "/history_dict.csv")).size(), 6u);
        const Json score = Json::parse(read_file(out + "/" + name + "/scores.json"));
        std::int64_t tested = 0;
        for (const std::int64_t count : score.at("confusion").get<std::vector<std::int64_t>>()) tested += count;
        EXPECT_EQ(tested, 200);
        if (name.starts_with("pruned")) {
            EXPECT_GE(score.at("zeros").get<double>(), 0.5) << name;
        }
        if (name == "quant_4bit_1") accuracy = score.at("test_accuracy").get<double>();
    }
    EXPECT_GT(accuracy, 0.25);
    EXPECT_FALSE(std::filesystem::exists(out + "/full_0"));
    // 9 tenths of 300 and of 1000 images make 1170, 37 batches of 32; without extra images 270 make 9.
    EXPECT_EQ(load_checkpoint(out + "/full_1/last.h5").integers.at("trainer.step"), 5 * 37);
    ASSERT_EQ(run("svhn_kfold", {"--data-dir=" + (folder / "svhn"), "--outdir=" + (folder / "few"), "--epochs=1",
                                 "--batchsize=32", "--single", "--debug", "--threads=1"})
                  .status,
              0);
    EXPECT_EQ(load_checkpoint(folder / "few/full_0/last.h5").integers.at("trainer.step"), 9);
}

}  // namespace
}  // namespace bitloom
