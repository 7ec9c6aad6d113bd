// The programs as a user meets them: help, wrong usage, what a run leaves behind.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/io/atomic_file.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::expect_refusal;
using test::lines;
using test::ProcessResult;
using test::run;
using test::TemporaryFolder;
using test::tiny_kfold;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

std::vector<std::string> tiny_train(const std::string& out_dir, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{
        "--dataset=digits-grey", "--model=lenet5", "--train-size=200", "--test-size=100",     "--epochs=1",
        "--optimizer=adam",      "--lr=1e-3",      "--threads=1",      "--out-dir=" + out_dir};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

TEST(Programs, ExplainThemselves) {
    for (const char* program : {"svhn_kfold", "train", "evaluate"}) {
        const ProcessResult result = run(program, {"--help"});
        EXPECT_EQ(result.status, 0) << program;
        EXPECT_EQ(result.err, "");
        for (const char* flag :
             {"--seed", "--threads", "--device", "--dataset", "--data-dir", "--flagfile", "--config", "Usage: "})
            EXPECT_THAT(result.out, HasSubstr(flag)) << program;
    }
    EXPECT_THAT(run("svhn_kfold", {"-h"}).out, HasSubstr("--KerasModel"));
}

TEST(Programs, RefuseWrongUsageWithStatus2) {
    const TemporaryFolder folder;
    const std::string out = folder / "run";
    expect_refusal(run("svhn_kfold", tiny_kfold(out, {"--ephocs=3"})), 2, "'--ephocs'");
    expect_refusal(run("svhn_kfold", tiny_kfold(out, {"--buffersize=99"})), 2, "--buffersize: must be at least 100");
    expect_refusal(run("svhn_kfold", tiny_kfold(out, {"--Filters=8,8", "--Kernel=3"})), 2, "one value a convolution");
    expect_refusal(run("svhn_kfold", tiny_kfold(out, {"--start=2"})), 2, "--start=2");
    expect_refusal(run("svhn_kfold", {"--dataset=digits"}), 2, "--out-dir");
    // Counts beyond what they are kept in.
    expect_refusal(run("svhn_kfold", tiny_kfold(out, {"--folds=2147483648"})), 2, "--folds: must be at most");
    expect_refusal(run("svhn_kfold", tiny_kfold(out, {"--jobs=4294967297"})), 2, "--jobs: must be at most");
    expect_refusal(run("train", tiny_train(out, {"--threads=4294967297"})), 2, "--threads: must be at most");
    expect_refusal(run("backend_compare", {"--repetitions=2147483648"}), 2, "--repetitions: must be at most");
    expect_refusal(run("svhn_kfold", tiny_kfold(folder / "huge", {"--nclasses=9223372036854775807"})), 1, "larger than any memory");
    expect_refusal(run("svhn_kfold", tiny_kfold(out, {"--Activation=gelu"})), 2, "--Activation: must be one of relu, ");
    expect_refusal(run("train", tiny_train(out, {"--momentum=1"})), 2, "--momentum: must be below 1");
    expect_refusal(run("train", tiny_train(out, {"--resize=16385"})), 2, "--resize: must be at most 16384");
    expect_refusal(run("svhn_tune", {"--dataset=digits", "--project=a/b", "--out-dir=" + out}), 2, "--project");
    expect_refusal(run("svhn_compare", {"--out-dir="}), 2, "--out-dir");
    expect_refusal(run("bsq_convert", {"--model=none.h5", "--out-dir=" + out, "5"}), 2, "unexpected argument '5'");
    expect_refusal(run("svhn_autoq", {"--dataset=digits", "--train-size=64", "--test-size=10", "--batchsize=32",
                                      "--out-dir=" + (folder / "autoq"), "--tune-filters-exceptions=conv"}),
                   2, "output_dense, whose width is the number of classes");
    expect_refusal(run("train", tiny_train(out, {"--precision=fp16"})), 2, "--precision");
    expect_refusal(run("train", tiny_train(out, {"--data-on-device=on"})), 1,
                   "data on the device: device cpu makes no batches");
    // No driver, no such GPU, or no backend in this build: one line that names the device.
    expect_refusal(run("train", tiny_train(out, {"--device=cuda:999"})), 1, "device cuda:999: ");
    expect_refusal(run("evaluate", {"--weights=none.h5", "--device=cuda:999"}), 1, "device cuda:999: ");
    for (const char* program : {"svhn_kfold", "svhn_tune", "svhn_autoq", "bsq_train", "bsq_finetune"})
        expect_refusal(run(program, {"--dataset=digits", "--device=cuda:999", "--out-dir=" + out}), 1, "device cuda:999: ");
    expect_refusal(run("train", tiny_train(out, {"--precision=tf32"})), 2, "precision tf32: needs --device cuda, not cpu");
    expect_refusal(run("train", tiny_train(out, {"--precision=bf16", "--device=reference", "--dtype=f64"})), 2,
                   "--precision=bf16");
    expect_refusal(run("train", tiny_train(out, {"--dtype=f64"})), 2, "--device=reference");
    expect_refusal(run("train", tiny_train(out, {"--model=alexnet"})), 2, "--model");
    expect_refusal(run("train", tiny_train(out, {"--schedule=sometimes"})), 2, "sometimes");
    expect_refusal(run("train", tiny_train(out, {"--device=tpu"})), 2, "tpu");
    expect_refusal(run("train", {"--resume", "--out-dir=" + out}), 2, "holds no run");
    expect_refusal(run("train", {"--flagfile=" + (folder / "none.cfg")}), 2, "none.cfg");
}

TEST(Programs, RefuseBf16WhereTheProcessorHasNone) {
    const TemporaryFolder folder;
    ASSERT_EQ(setenv("DNNL_MAX_CPU_ISA", "AVX512_CORE", 1), 0);  // oneDNN then uses nothing newer, as on an older CPU
    for (const char* program : {"train", "svhn_kfold"}) {
        const std::string out = folder / program;
        const auto arguments = std::string_view(program) == "train" ? tiny_train(out, {"--precision=bf16"})
                                                                    : tiny_kfold(out, {"--precision=bf16"});
        expect_refusal(run(program, arguments), 1, "neither AVX-512-BF16 nor AMX");
    }
    unsetenv("DNNL_MAX_CPU_ISA");
}

TEST(Programs, NameMissingAndBrokenDataWithStatus1) {
    const TemporaryFolder folder;
    const std::string data = folder / "data";
    expect_refusal(run("train", tiny_train(folder / "run", {"--dataset=mnist", "--data-dir=" + data})), 1, data);
    expect_refusal(run("svhn_kfold", tiny_kfold(folder / "run", {"--dataset=svhn", "--data-dir=" + data})), 1, data);
    std::filesystem::create_directory(data);
    for (const char* name :
         {"train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"})
        write_file_atomically(data + "/" + name, std::string("\0\0\x08\x03\0\0\xea\x60", 8));
    expect_refusal(run("train", tiny_train(folder / "run", {"--dataset=mnist", "--data-dir=" + data})), 1, data);
}

TEST(Programs, NameAFolderThatCannotBeWritten) {
    const TemporaryFolder folder;
    write_file_atomically(folder / "file", "");
    expect_refusal(run("train", tiny_train(folder / "file")), 1, "/file: Not a directory");
    expect_refusal(run("svhn_kfold", tiny_kfold(folder / "file/run")), 1, "cannot create the folder");
    expect_refusal(run("train", tiny_train("/proc/run")), 1, "/proc/run");  // not even root can write there
}

TEST(Kfold, LeavesWhatTheSpecificationNames) {
    const TemporaryFolder folder;
    const ProcessResult result = run("svhn_kfold", tiny_kfold(folder.path()));
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("test accuracy: "));
    EXPECT_THAT(result.out, HasSubstr("over 2 folds"));
    EXPECT_THAT(result.out, HasSubstr(folder / "report.html"));
    for (const std::string fold : {"full_0", "full_1"}) {
        const std::string tested = fold + ".h5";
        for (const std::string& name :
             {std::string("model_best.h5"), std::string("weights_best.h5"), std::string("last.h5"), tested})
            EXPECT_TRUE(std::filesystem::exists(folder / (fold + "/" + name))) << fold << '/' << name;
        const std::vector<std::string> history = lines(read_file(folder / (fold + "/history_dict.csv")));
        ASSERT_EQ(history.size(), 3u);
        EXPECT_EQ(history[0], "loss,accuracy,val_loss,val_accuracy,lr");
    }
    const Json summary = Json::parse(read_file(folder / "summary.json"));
    ASSERT_EQ(summary.at("folds").size(), 2u);
    const double first = summary["folds"][0]["test_accuracy"], second = summary["folds"][1]["test_accuracy"];
    EXPECT_NEAR(summary["mean"]["test_accuracy"].get<double>(), (first + second) / 2, 1e-12);
    EXPECT_NEAR(summary["std"]["test_accuracy"].get<double>(), std::abs(first - second) / 2, 1e-12);
    EXPECT_EQ(lines(read_file(folder / "folds.csv")).size(), 3u);
    EXPECT_EQ(Json::parse(read_file(folder / "config.json")).at("batchsize"), 50);
    EXPECT_EQ(Json::parse(read_file(folder / "run.json")).at("threads"), 1);
    EXPECT_THAT(read_file(folder / "report.html"), HasSubstr("Confusion on the test set"));
    // The tested weights are those that evaluate finds in the file, with the normalisation that the file names.
    const ProcessResult evaluated = run("evaluate", {"--weights=" + (folder / "full_0/full_0.h5"), "--dataset=digits",
                                                     "--train-size=400", "--test-size=100", "--json"});
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_NEAR(Json::parse(evaluated.out).at("correct").get<double>() / 100, first, 1e-12);
}

TEST(Kfold, SideBySideOrOneAfterTheOtherIsTheSame) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("svhn_kfold", tiny_kfold(folder / "two")).status, 0);
    ASSERT_EQ(run("svhn_kfold", tiny_kfold(folder / "one", {"--jobs=1"})).status, 0);
    EXPECT_EQ(read_file(folder / "two/folds.csv"), read_file(folder / "one/folds.csv"));
    EXPECT_EQ(read_file(folder / "two/full_1/history_dict.csv"), read_file(folder / "one/full_1/history_dict.csv"));
    EXPECT_NE(read_file(folder / "one/full_0/history_dict.csv"), read_file(folder / "one/full_1/history_dict.csv"));
}

TEST(Kfold, ResumingSkipsFinishedFoldsAndKeepsTheSettings) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("svhn_kfold", tiny_kfold(folder.path(), {"--single"})).status, 0);
    const std::string untouched = read_file(folder / "full_0/last.h5");
    const ProcessResult rest = run("svhn_kfold", {"--resume", "--nosingle", "--out-dir=" + folder.path()});
    ASSERT_EQ(rest.status, 0) << rest.err;
    EXPECT_THAT(rest.err, Not(HasSubstr("full_0: epoch")));
    EXPECT_THAT(rest.err, HasSubstr("full_1: epoch 2/2"));
    EXPECT_EQ(read_file(folder / "full_0/last.h5"), untouched);
    expect_refusal(run("svhn_kfold", {"--resume", "--batchsize=64", "--out-dir=" + folder.path()}), 2,
                   "--batchsize=50, not 64");
}

TEST(Kfold, ReferenceLastEpochTestsTheLastWeights) {
    const TemporaryFolder folder;
    ASSERT_EQ(
        run("svhn_kfold", tiny_kfold(folder.path(), {"--single", "--reference-last-epoch", "--epochs=3", "--lr=0.5"}))
            .status,
        0);
    EXPECT_EQ(Json::parse(read_file(folder / "full_0/scores.json")).at("tested_epoch"), 3);
    EXPECT_TRUE(std::filesystem::exists(folder / "full_0/scores.npz"));
}

TEST(Kfold, StartsFromASavedModel) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("svhn_kfold", tiny_kfold(folder.path(), {"--single"})).status, 0);
    const ProcessResult again =
        run("svhn_kfold",
            tiny_kfold(folder.path(), {"--single", "--loadModel", "--lmodel=full_0", "--lr=0", "--epochs=1"}));
    ASSERT_EQ(again.status, 0) << again.err;
    EXPECT_TRUE(std::filesystem::exists(folder / "full_0_0/model_best.h5"));
    expect_refusal(run("svhn_kfold", tiny_kfold(folder.path(), {"--loadModel", "--lmodel=none"})), 1, "none");
    // The network is that of the file, whatever the flags of networks (a flag file's) say.
    const ProcessResult other =
        run("svhn_kfold", tiny_kfold(folder.path(), {"--loadModel", "--lmodel=full_0", "--Filters=8", "--Kernel=3",
                                                     "--Strides=1", "--Pooling=2", "--single", "--epochs=1"}));
    EXPECT_EQ(other.status, 0) << other.err;
}

TEST(Train, LeavesHistoryReportAndWeightsThatEvaluateReads) {
    const TemporaryFolder folder;
    const ProcessResult result = run("train", tiny_train(folder.path(), {"--validation-split=0.25", "--epochs=2"}));
    ASSERT_EQ(result.status, 0) << result.err;
    const std::vector<std::string> said = lines(result.out);
    ASSERT_EQ(said.size(), 4u);
    EXPECT_THAT(said[0], HasSubstr("/100"));
    EXPECT_EQ(lines(read_file(folder / "history.csv")).size(), 3u);
    EXPECT_THAT(read_file(folder / "report.html"), HasSubstr("Classes of the test set"));
    EXPECT_TRUE(std::filesystem::exists(folder / "best.h5"));
    const ProcessResult evaluated = run("evaluate", {"--weights=" + (folder / "last.h5"), "--dataset=digits-grey",
                                                     "--train-size=200", "--test-size=100"});
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_EQ(lines(evaluated.out)[0], said[0]);
    EXPECT_EQ(lines(evaluated.out)[2], said[2]);
}

TEST(Train, ReadsItsOwnRecordAndTheShippedConfigurations) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("train", tiny_train(folder / "a")).status, 0);
    ASSERT_EQ(run("train", {"--config=" + (folder / "a/config.json"), "--out-dir=" + (folder / "b")}).status, 0);
    EXPECT_EQ(read_file(folder / "a/history.csv"), read_file(folder / "b/history.csv"));
    // Each shipped file is accepted up to the data, which the named folder does not hold.
    const std::string configs = std::string(BITLOOM_SOURCE_DIR) + "/configs/", none = folder / "none";
    for (const char* name : {"mnist_mlp_gpfq", "mnist_mlp_best", "resnet20_cifar10_10epochs"})
        expect_refusal(
            run("train", {"--config=" + configs + name + ".json", "--data-dir=" + none, "--out-dir=" + (folder / "c")}),
            1, none);
    expect_refusal(run("svhn_kfold",
                       {"--flagfile=" + configs + "svhn_cnn.cfg", "--data-dir=" + none, "--out-dir=" + (folder / "c")}),
                   1, none);
    const ProcessResult quantized =
        run("train", {"--model=svhn_cnn_128", "--dataset=digits", "--train-size=64", "--test-size=20", "--epochs=1", "--threads=1",
                      "--scheme=qkeras", "--scheme-config=" + configs + "qkeras_cnn_dictionary.json", "--l1=1e-4",
                      "--out-dir=" + (folder / "e")});
    EXPECT_EQ(quantized.status, 0) << quantized.err;
    for (const char* flag : {"--flagfile=", "--config="}) {
        const std::string name = flag == std::string("--config=") ? "svhn_digits.json" : "demo.cfg";
        const std::vector<std::string> small = tiny_kfold(folder / "d", {"--single", "--epochs=1"});
        std::vector<std::string> arguments{flag + configs + name};
        arguments.insert(arguments.end(), small.begin(), small.end());
        EXPECT_EQ(run("svhn_kfold", arguments).status, 0) << name;
    }
}

TEST(Train, RecordsTheNumberOfThreadsThatItChose) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("train", tiny_train(folder.path(), {"--threads=0"})).status, 0);
    const int threads = Json::parse(read_file(folder / "config.json")).at("threads");
    EXPECT_GE(threads, 1);
    expect_refusal(run("train", {"--resume", "--threads=" + std::to_string(threads + 1), "--out-dir=" + folder.path()}),
                   2, "--threads");
}

TEST(Train, AWrongCommandLeavesTheRunInItsFolderAlone) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("train", tiny_train(folder / "run")).status, 0);
    const auto files = [&] {
        std::string all;
        for (const char* name : {"best.h5", "last.h5", "history.csv", "config.json"}) all += read_file(folder / "run/" + name);
        return all;
    };
    const std::string before = files();
    expect_refusal(run("train", tiny_train(folder / "run", {"--dataset=mnist", "--data-dir=" + (folder / "none")})), 1, "none");
    expect_refusal(run("train", tiny_train(folder / "run", {"--init-weights=" + (folder / "none.h5")})), 1, "none.h5");
    EXPECT_TRUE(files() == before);
    EXPECT_EQ(run("train", {"--resume", "--epochs=2", "--out-dir=" + (folder / "run")}).status, 0);
    // The folder's own weights are a start, too.
    EXPECT_EQ(run("train", tiny_train(folder / "run", {"--init-weights=" + (folder / "run/best.h5")})).status, 0);
}

TEST(Train, RefusesTheWeightsOfAnotherModel) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("train", tiny_train(folder / "a")).status, 0);
    expect_refusal(
        run("train", tiny_train(folder / "b", {"--model=mnist_mlp", "--init-weights=" + (folder / "a/last.h5")})), 1,
        "a/last.h5");
    std::filesystem::resize_file(folder / "a/last.h5", std::filesystem::file_size(folder / "a/last.h5") / 2);
    expect_refusal(run("train", {"--resume", "--out-dir=" + (folder / "a")}), 1, "a/last.h5");
}

TEST(Train, StepLimitEndsWithinTheEpoch) {
    const TemporaryFolder folder;
    const ProcessResult result =
        run("train", tiny_train(folder.path(), {"--batch-size=10", "--max-steps=7", "--epochs=3"}));
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(Json::parse(read_file(folder / "summary.json")).at("epochs"), 0);
    // Seven steps and then the rest are the whole run.
    const TemporaryFolder whole;
    ASSERT_EQ(run("train", {"--resume", "--max-steps=0", "--out-dir=" + folder.path()}).status, 0);
    ASSERT_EQ(run("train", tiny_train(whole.path(), {"--batch-size=10", "--epochs=3"})).status, 0);
    EXPECT_EQ(read_file(folder / "history.csv"), read_file(whole / "history.csv"));
}

TEST(Train, ReferenceDeviceComputesInDouble) {
    const TemporaryFolder folder;
    const std::vector<std::string> few{"--train-size=32", "--test-size=16", "--batch-size=8"};
    std::vector<std::string> in_double = few;
    in_double.insert(in_double.end(), {"--device=reference", "--dtype=f64"});
    ASSERT_EQ(run("train", tiny_train(folder / "double", in_double)).status, 0);
    ASSERT_EQ(run("train", tiny_train(folder / "fast", few)).status, 0);
    const auto loss = [&](const std::string& name) {
        return std::stod(lines(read_file(folder / (name + "/history.csv")))[1]);
    };
    EXPECT_NEAR(loss("double"), loss("fast"), 1e-4);
    EXPECT_NE(loss("double"), loss("fast"));
}

}  // namespace
}  // namespace bitloom
