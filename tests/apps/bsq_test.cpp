// The BSQ programs as processes, on a few drawn images.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/io/atomic_file.h"
#include "engine/io/hdf5.h"
#include "quant/bsq/files.h"
#include "tests/apps/process.h"

namespace bitloom::test {
namespace {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

Arguments small(const Arguments& more, const std::string& train_size = "256") {
    Arguments all{"--dataset", "digits", "--train-size", train_size, "--test-size", "100", "--train-batch", "64", "--threads", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}
void expect_one_line(const ProcessResult& result, int status, const std::string& part) {
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
    EXPECT_LE(std::count(result.err.begin(), result.err.end(), '\n'), status == 2 ? 2 : 1) << result.err;
}

TEST(Bsq, AResumedRunEndsInTheSameBitsAfterPlanesWereDropped) {
    const TemporaryFolder folder;
    const Arguments recipe{"--arch", "svhn_cnn", "--Nbits", "6", "--act", "3", "--L1", "--decay", "0.05", "--Prun-Int", "1",
                           "--thre", "60", "--epochs", "3", "--schedule", "2", "1", "2", "--lr", "0.05"};
    const auto run_in = [&](const std::string& name, Arguments more) {
        Arguments all = recipe;
        all.insert(all.end(), more.begin(), more.end());
        all.insert(all.end(), {"--out-dir", folder / name});
        return run("bsq_train", small(all));
    };
    ASSERT_EQ(run_in("whole", {}).status, 0);
    ASSERT_EQ(run_in("cut", {"--max-steps", "6"}).status, 0);  // in the second of three epochs of four steps
    EXPECT_FALSE(fs::exists(folder / "cut/summary.json"));
    ASSERT_EQ(run("bsq_train", {"--resume", "--max-steps", "0", "--out-dir", folder / "cut"}).status, 0);
    for (const char* file : {"checkpoint.h5", "model_best.h5", "log.txt", "summary.json", "history.csv"})
        EXPECT_EQ(read_file(folder / ("whole/" + std::string(file))), read_file(folder / ("cut/" + std::string(file)))) << file;
    const bsq::PrecisionTable table = bsq::read_header(folder / "whole/checkpoint.h5").table;
    EXPECT_TRUE(std::any_of(table.begin(), table.end(), [](const auto& entry) { return entry.second[0] < 6; }));
    EXPECT_EQ(table.size(), 6u);

    const std::string log = read_file(folder / "whole/log.txt");
    EXPECT_TRUE(log.starts_with("Learning Rate\tTrain Loss\tValid Loss\tTrain Acc.\tValid Acc.\tReg Loss\tComp\t\n0.050000\t"));
    EXPECT_EQ(std::count(log.begin(), log.end(), '\n'), 4);
    // Epochs of the schedule in any order, each once.
    EXPECT_NE(log.find("\n0.005000\t"), std::string::npos) << log;
    EXPECT_NE(log.find("\n0.000500\t"), std::string::npos) << log;
}

TEST(Bsq, TrainsFinetunesAndLeavesFourKindsOfFiles) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("bsq_train", small({"--arch", "svhn_cnn", "--Nbits", "4", "--act", "8", "--L1", "--epochs", "1", "--out-dir",
                                      folder / "bits"}))
                  .status,
              0);
    const ProcessResult finetuned =
        run("bsq_finetune", small({"--arch", "svhn_cnn", "--model", folder / "bits/checkpoint.h5", "--bin", "--act", "8",
                                   "--epochs", "2", "--lr", "0.01", "--out-dir", folder / "fixed"}));
    ASSERT_EQ(finetuned.status, 0) << finetuned.err;
    EXPECT_NE(finetuned.out.find("conv_0 [4, 0]"), std::string::npos);
    for (const char* file : {"checkpoint.h5", "model_best.h5", "best_bin.h5", "best_float.h5", "report.html", "log.txt"})
        EXPECT_TRUE(fs::exists(folder / ("fixed/" + std::string(file)))) << file;
    using bsq::Representation;
    EXPECT_EQ(bsq::read_header(folder / "bits/checkpoint.h5").representation, Representation::bits);
    EXPECT_EQ(bsq::read_header(folder / "fixed/checkpoint.h5").representation, Representation::fixed);
    EXPECT_EQ(bsq::read_header(folder / "fixed/best_bin.h5").representation, Representation::bits);
    EXPECT_EQ(bsq::read_header(folder / "fixed/best_float.h5").representation, Representation::floating);
    const hdf5::File planes = hdf5::File::open(folder / "fixed/best_bin.h5");
    EXPECT_EQ(planes.shape("conv_1.pweight"), (Shape{16, 16, 3, 3, 4}));  // OIHW and the plane

    // All four say the same: planes and floating point represent the quantized weights exactly.
    std::vector<std::string> correct;
    for (const char* file : {"model_best", "best_bin"}) {
        const ProcessResult tested =
            run("bsq_finetune", small({"--arch", "svhn_cnn", "--model", folder / ("fixed/" + std::string(file) + ".h5"), "--act",
                                       "8", "--evaluate"}));
        ASSERT_EQ(tested.status, 0) << tested.err;
        const auto at = tested.out.find("correct: ");
        correct.push_back(tested.out.substr(at, tested.out.find('\n', at) - at));
    }
    EXPECT_EQ(correct[0], correct[1]);
    // Without activation quantizers the floating-point file is one for `evaluate`.
    const ProcessResult evaluated = run("evaluate", {"--model", "svhn_cnn", "--weights", folder / "fixed/best_float.h5",
                                                     "--dataset", "digits", "--test-size", "100", "--normalize", "unit"});
    EXPECT_EQ(evaluated.status, 0) << evaluated.err;
}

// bsq.md, 2.1: any depth 6n + 2.
TEST(Bsq, ResNetsMayHaveDepthsThatAreNotListed) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("bsq_train", small({"--depth", "8", "--Nbits", "2", "--epochs", "0", "--out-dir", folder / "bits"}, "64")).status, 0);
    EXPECT_EQ(bsq::read_header(folder / "bits/checkpoint.h5").table.size(), 8u);
    // The file knows its depth.
    const ProcessResult tested =
        run("bsq_finetune", small({"--model", folder / "bits/checkpoint.h5", "--bin", "--evaluate"}, "64"));
    ASSERT_EQ(tested.status, 0) << tested.err;
    EXPECT_NE(tested.out.find("/100\ntop5: "), std::string::npos) << tested.out;
}

TEST(Bsq, ConvertsTheTrainedResNetCodeForCode) {
    const std::string models = models_folder();
    if (!fs::exists(models + "/bsq_resnet20_fp.h5")) GTEST_SKIP() << "no trained networks in " << models << " (BITLOOM_MODELS)";
    const TemporaryFolder folder;
    const ProcessResult converted = run(
        "bsq_convert",
        small({"--depth", "20", "--model", models + "/bsq_resnet20_fp.h5", "--Nbits", "8", "--out-dir", folder / "bits"}, "64"));
    ASSERT_EQ(converted.status, 0) << converted.err;
    // Before and after: bsq.md, 2.2 (steps 5 to 8) and 6.2.
    EXPECT_NE(converted.out.find("top5_correct: "), converted.out.rfind("top5_correct: "));
    EXPECT_NE(converted.out.find("module.conv1\n"), converted.out.rfind("module.conv1\n"));
    EXPECT_NE(converted.out.find("conv1.weight.bsq.planes [8, 2, 16, 3, 3, 3] f32\n"), std::string::npos) << converted.out;
    const hdf5::File got = hdf5::File::open(folder / "bits/checkpoint.h5");
    const hdf5::File want = hdf5::File::open(models + "/bsq_resnet20_8bit.h5");
    std::int64_t compared = 0;
    for (const std::string& name : want.datasets()) {
        const bool bias = name.ends_with(".biascode");
        if (name.starts_with("v0/") || (!bias && !name.ends_with(".code"))) continue;
        const std::string layer = name.substr(0, name.rfind('.'));
        const std::vector<float> p = got.read(layer + (bias ? ".pbias" : ".pweight")).values<float>(),
                                 n = got.read(layer + (bias ? ".nbias" : ".nweight")).values<float>();
        const std::vector<std::int64_t> codes = want.read_i64(name);
        ASSERT_EQ(p.size(), 8 * codes.size());
        for (std::size_t i = 0; i < codes.size(); ++i) {
            std::int64_t code = 0;
            for (std::size_t b = 0; b < 8; ++b) code = 2 * code + static_cast<std::int64_t>(p[8 * i + b] - n[8 * i + b]);
            ASSERT_EQ(code, codes[i]) << name << ' ' << i;
        }
        const std::string scale = layer + (bias ? ".biasscale" : ".scale");
        EXPECT_EQ(got.read(scale).item(), want.read(scale).item());
        compared += static_cast<std::int64_t>(codes.size());
    }
    EXPECT_EQ(compared, 268346);
    // Another depth, and a network that the table does not fit.
    expect_one_line(run("bsq_train", small({"--depth", "32", "--bin", "--model", folder / "bits/checkpoint.h5", "--evaluate"}, "64")),
                    1, "layer1.3");
    expect_one_line(run("bsq_convert", small({"--arch", "resnet32", "--model", models + "/bsq_resnet20_fp.h5", "--out-dir",
                                              folder / "x"},
                                             "64")),
                    1, "layer1.3");
}

TEST(Bsq, TheSweepTabulatesItsRunsAndContinues) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("bsq_train", small({"--arch", "svhn_cnn", "--epochs", "0", "--Nbits", "5", "--out-dir", folder / "start"})).status, 0);
    const Arguments sweep =
        small({"--arch", "svhn_cnn", "--model", folder / "start/checkpoint.h5", "--act", "8", "--alphas", "0.01,0.1", "--intervals",
               "2", "--ablate-reweighing", "--Prun-Int", "1", "--epochs", "1", "--finetune-epochs", "1", "--out-dir", folder / "sweep"});
    const ProcessResult first = run("bsq_sweep", sweep);
    ASSERT_EQ(first.status, 0) << first.err;
    const std::string csv = read_file(folder / "sweep/sweep.csv");
    EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 1 + 5);  // two strengths, one more interval, two without reweighing
    const auto json = nlohmann::json::parse(read_file(folder / "sweep/sweep.json"));
    EXPECT_EQ(json.size(), 5u);
    EXPECT_EQ(json[3]["reweighed"], false);
    EXPECT_TRUE(fs::exists(folder / "sweep/report.html"));
    const ProcessResult again = run("bsq_sweep", {"--resume", "--out-dir", folder / "sweep"});
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_EQ(again.out.find("== "), std::string::npos) << again.out;  // nothing was left to do
    EXPECT_EQ(read_file(folder / "sweep/sweep.csv"), csv);
}

TEST(Bsq, ANewSweepForgetsTheOneBeforeAtOnce) {
    const TemporaryFolder folder;
    const auto sweep = [&](const std::string& seed, const std::string& name) {
        return small({"--arch", "svhn_cnn", "--Nbits", "5", "--act", "8", "--alphas", "0.1", "--Prun-Int", "1", "--epochs", "1",
                      "--finetune-epochs", "1", "--seed", seed, "--out-dir", folder / name},
                     "64");
    };
    ASSERT_EQ(run("bsq_sweep", sweep("1", "used")).status, 0);
    ASSERT_EQ(run("bsq_sweep", sweep("2", "fresh")).status, 0);
    run_until_changed(folder / "used/config.json", "bsq_sweep", sweep("2", "used"));
    const ProcessResult resumed = run("bsq_sweep", {"--resume", "--out-dir", folder / "used"});
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    EXPECT_EQ(read_file(folder / "used/sweep.json"), read_file(folder / "fresh/sweep.json"));
}

TEST(Bsq, AWrongCommandLeavesTheRunInItsFolderAlone) {
    const TemporaryFolder folder;
    const Arguments start{"--arch", "svhn_cnn", "--Nbits", "5", "--epochs", "1", "--out-dir", folder / "run"};
    ASSERT_EQ(run("bsq_train", small(start, "64")).status, 0);
    const auto files = [&] {
        std::string all;
        for (const char* name : {"config.json", "last.h5", "checkpoint.h5", "summary.json"}) all += read_file(folder / "run/" + name);
        return all;
    };
    const std::string before = files();
    for (const char* program : {"bsq_train", "bsq_finetune", "bsq_convert", "bsq_sweep"}) {
        const Arguments wrong = small({"--arch", "svhn_cnn", "--model", folder / "none.h5", "--out-dir", folder / "run"}, "64");
        EXPECT_EQ(run(program, wrong).status, 1) << program;
        EXPECT_TRUE(files() == before) << program;
    }
    EXPECT_EQ(run("bsq_train", {"--resume", "--epochs", "2", "--out-dir", folder / "run"}).status, 0);
}

TEST(Bsq, StartsFromTheCheckpointOfAFloatRunWithTrainedBounds) {
    const TemporaryFolder folder;
    const Arguments data{"--dataset", "digits-grey", "--train-size", "128", "--test-size", "100", "--threads", "1"};
    const auto with = [&](Arguments arguments) {
        arguments.insert(arguments.end(), data.begin(), data.end());
        return arguments;
    };
    const ProcessResult trained =
        run("train", with({"--model", "lenet5", "--epochs", "1", "--batch-size", "64", "--out-dir", folder / "float"}));
    ASSERT_EQ(trained.status, 0) << trained.err;
    // Three bits: the activations get bounds (PACT), which the float network does not have.
    const ProcessResult converted =
        run("bsq_convert", with({"--arch", "lenet5", "--act", "3", "--model", folder / "float/last.h5", "--out-dir", folder / "bits"}));
    ASSERT_EQ(converted.status, 0) << converted.err;
    EXPECT_EQ(hdf5::File::open(folder / "bits/checkpoint.h5").read("relu2.alpha").item(), 10);
}

TEST(Bsq, TrainTakesItAsAScheme) {
    const TemporaryFolder folder;
    write_file_atomically(folder / "bsq.json", R"({"alpha": 20, "interval": 1, "threshold": 55})");
    const Arguments data{"--dataset", "digits-grey", "--train-size", "256", "--test-size", "100"};
    Arguments train{"--model", "lenet5", "--batch-size", "64", "--epochs", "2", "--scheme", "bsq", "--scheme-config",
                    folder / "bsq.json", "--test-weights", "best", "--out-dir", folder / "run"};
    train.insert(train.end(), data.begin(), data.end());
    const ProcessResult trained = run("train", train);
    ASSERT_EQ(trained.status, 0) << trained.err;
    EXPECT_NE(trained.err.find("bits per parameter"), std::string::npos);
    // The best epoch's planes are fewer than those at the start.
    const ProcessResult tested =
        run("evaluate", {"--weights", folder / "run/best.h5", "--dataset", "digits-grey", "--test-size", "100", "--json"});
    ASSERT_EQ(tested.status, 0) << tested.err;
    const auto json = nlohmann::json::parse(tested.out);
    EXPECT_LT(json["compression"]["bsq"]["bits_per_parameter"].get<double>(), 8);
    const auto correct = trained.out.substr(0, trained.out.find('\n'));
    EXPECT_EQ(correct, "correct: " + std::to_string(json["correct"].get<int>()) + "/100");
}

TEST(Bsq, BadInputIsOneLine) {
    const TemporaryFolder folder;
    const Arguments out{"--out-dir", folder / "x"};
    const auto with = [&](Arguments more) {
        more.insert(more.end(), out.begin(), out.end());
        return small(more, "64");
    };
    expect_one_line(run("bsq_train", with({"--L1", "--decay", "-0.1"})), 2, "decay");
    expect_one_line(run("bsq_train", with({"--Prun-Int", "0"})), 2, "Prun-Int");
    expect_one_line(run("bsq_train", with({"--depth", "29"})), 2, "6n + 2");
    expect_one_line(run("bsq_train", with({"--arch", "vgg16"})), 2, "arch");
    expect_one_line(run("bsq_train", with({"--schedule", "3", "x"})), 2, "'x'");
    const ProcessResult v0 = run("bsq_train", with({"--bsq-version", "v0", "--act", "8", "--model", folder / "none.h5"}));
    EXPECT_NE(v0.err.find("--act has no effect with --bsq-version v0"), std::string::npos) << v0.err;
    expect_one_line(run("bsq_train", with({"--model", folder / "none.h5"})), 1, "none.h5");
    expect_one_line(run("bsq_convert", with({})), 2, "--model");
    expect_one_line(run("bsq_train", {"--resume", "--out-dir", folder / "nothing"}), 2, "config.json");

    ASSERT_EQ(run("bsq_train", small({"--arch", "svhn_cnn", "--epochs", "0", "--out-dir", folder / "svhn"}, "64")).status, 0);
    ASSERT_EQ(run("bsq_finetune", small({"--arch", "lenet5", "--dataset", "digits-grey", "--epochs", "0", "--out-dir", folder / "lenet"}, "64")).status, 0);
    const std::string planes = folder / "svhn/checkpoint.h5", floating = folder / "lenet/best_float.h5";
    expect_one_line(run("bsq_train", with({"--depth", "20", "--model", planes})), 1, "conv1");
    expect_one_line(run("bsq_convert", with({"--arch", "svhn_cnn", "--model", planes})), 1, "is in bits already");
    expect_one_line(run("bsq_convert", small({"--arch", "lenet5", "--dataset", "digits-grey", "--model", floating, "--dict", planes,
                                              "--out-dir", folder / "x"},
                                             "64")),
                    1, "precision table");
    expect_one_line(run("bsq_train", small({"--arch", "lenet5", "--dataset", "digits-grey", "--bin", "--model", floating, "--evaluate"}, "64")),
                    1, "holds no bit planes");
    // A table that does not fit, a file cut short.
    fs::copy(planes, folder / "broken.h5");
    {
        const bsq::NetworkFile header = bsq::read_header(planes);
        EXPECT_EQ(header.table.size(), 6u);
        EXPECT_THROW(bsq::precision_table_from_json("{\"conv_0\": [99, 0]}"), Error);
        EXPECT_THROW(bsq::precision_table_from_json("{\"conv_0\": [4]}"), Error);
        EXPECT_THROW(bsq::precision_table_from_json("[4]"), Error);
    }
    fs::resize_file(folder / "broken.h5", fs::file_size(planes) / 2);
    const ProcessResult broken = run("bsq_train", with({"--arch", "svhn_cnn", "--model", folder / "broken.h5"}));
    expect_one_line(broken, 1, "broken.h5");
}

}  // namespace
}  // namespace bitloom::test
