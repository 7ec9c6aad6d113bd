// Searches through the programs: killed and resumed, and what they refuse.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "engine/io/atomic_file.h"
#include "engine/parameter.h"
#include "quant/checkpoints.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::Process;
using test::ProcessResult;
using test::run;
using test::run_until_changed;
using test::TemporaryFolder;

const std::vector<std::string> small_tune{"--dataset", "digits", "--train-size", "256", "--test-size", "100", "--epochs", "2",
                                          "--max-trials", "4", "--most-layers", "1", "--jobs", "1", "--threads", "1"};

std::vector<std::string> with(std::vector<std::string> arguments, std::initializer_list<std::string> more) {
    arguments.insert(arguments.end(), more);
    return arguments;
}

TEST(SvhnTune, AKilledSearchEndsAsOneLeftAlone) {
    const TemporaryFolder folder;
    const ProcessResult whole = run("svhn_tune", with(small_tune, {"--out-dir", folder / "whole"}));
    ASSERT_EQ(whole.status, 0) << whole.err;
    Process killed("svhn_tune", with(small_tune, {"--out-dir", folder / "killed"}));
    const std::string second = folder / "killed/trials/trial_1/history.csv";
    while (killed.running() && !std::filesystem::exists(second)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    killed.kill(SIGKILL);
    killed.wait();
    // The published program's word for --resume.
    const ProcessResult resumed = run("svhn_tune", {"--reload", "--out-dir", folder / "killed"});
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    EXPECT_EQ(read_file(folder / "killed/trials.csv"), read_file(folder / "whole/trials.csv"));
    EXPECT_TRUE(std::filesystem::exists(folder / "killed/svhn_bestModel.h5"));
    EXPECT_TRUE(std::filesystem::exists(folder / "killed/report.html"));
}

TEST(SvhnAutoq, SearchesAndReports) {
    const TemporaryFolder folder;
    const ProcessResult result =
        run("svhn_autoq", {"--dataset", "digits", "--train-size", "256", "--test-size", "100", "--goal", "bits", "--no-blocks",
                           "--tuner", "random", "--max-trials", "2", "--epochs", "1", "--reference-epochs", "1",
                           "--final-epochs", "1", "--threads", "1", "--jobs", "2", "--out-dir", folder / "autoq"});
    ASSERT_EQ(result.status, 0) << result.err;
    const auto summary = nlohmann::json::parse(read_file(folder / "autoq/summary.json"));
    EXPECT_EQ(summary.at("float_bits"), 170816);
    EXPECT_LT(summary.at("bits"), 170816);
    EXPECT_TRUE(std::filesystem::exists(folder / "autoq/best_model.h5"));
    // Of the best network: test loss, confusion on the training part (256 images less 15 %), feature maps nine a row.
    EXPECT_NEAR(summary.at("loss").get<double>(), std::log(10), 2);
    EXPECT_THAT(result.out, testing::HasSubstr("test loss"));
    std::istringstream confusion(read_file(folder / "autoq/confusion_train.csv"));
    std::string line;
    std::getline(confusion, line);
    int counted = 0;
    while (std::getline(confusion, line)) {
        std::istringstream cells(line.substr(line.find(',') + 1));
        for (std::string cell; std::getline(cells, cell, ',');) counted += std::stoi(cell);
    }
    EXPECT_EQ(counted, 256 - 39);
    for (const auto& [layer, side] : {std::pair{"conv_0", 30}, {"conv_1", 13}, {"conv_2", 4}}) {
        const std::string maps = read_file(folder / ("autoq/" + std::string(layer) + "_maps.csv"));
        EXPECT_EQ(std::count(maps.begin(), maps.begin() + static_cast<std::ptrdiff_t>(maps.find('\n')), ',') + 1, 9 * side);
    }
}

TEST(SvhnAutoq, AKilledBlockScheduleEndsAsOneLeftAlone) {
    const TemporaryFolder folder;
    const std::vector<std::string> arguments{"--dataset",      "digits", "--train-size", "64", "--test-size",        "20",
                                             "--goal",         "bits",   "--blocks",     "conv.*,.*dense.*",
                                             "--schedule",     "sequential", "--max-trials", "1", "--epochs",        "1",
                                             "--final-epochs", "1",      "--threads",    "1", "--reference-epochs", "1",
                                             "--jobs",         "1"};
    const ProcessResult whole = run("svhn_autoq", with(arguments, {"--out-dir", folder / "whole"}));
    ASSERT_EQ(whole.status, 0) << whole.err;
    const auto next_block = [&] {
        return nlohmann::json::parse(read_file(folder / "killed/scheduler.json")).at("next_block").get<int>();
    };
    // On a busy machine the signal may come when the second block is over: then once more.
    for (int attempt = 0; attempt < 20; ++attempt) {
        std::filesystem::remove_all(folder / "killed");
        Process killed("svhn_autoq", with(arguments, {"--out-dir", folder / "killed"}));
        const std::string second = folder / "killed/block_1/search.json";
        while (killed.running() && !std::filesystem::exists(second)) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        killed.kill(SIGKILL);
        const ProcessResult result = killed.wait();
        ASSERT_TRUE(result.signal == SIGKILL || result.status == 0) << result.err;
        if (next_block() == 1) break;
    }
    ASSERT_EQ(next_block(), 1);
    const ProcessResult resumed = run("svhn_autoq", {"--resume", "--out-dir", folder / "killed"});
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    for (const char* file : {"block_0/trials.csv", "block_1/trials.csv", "summary.json", "dictionary.json"})
        EXPECT_EQ(read_file(folder / ("killed/" + std::string(file))), read_file(folder / ("whole/" + std::string(file)))) << file;
    EXPECT_EQ(next_block(), 2);
}

// What the first run left must not count as done when the second was cut at its very beginning.
TEST(Searches, ANewRunForgetsTheOneBeforeAtOnce) {
    const std::vector<std::string> tiny{"--dataset", "digits", "--train-size", "64", "--test-size", "20", "--max-trials", "2",
                                        "--epochs", "1", "--threads", "1", "--jobs", "1"};
    const std::vector<std::string> tune = with(tiny, {"--most-layers", "1"});
    const std::vector<std::string> autoq = with(tiny, {"--goal", "bits", "--blocks", "conv.*,.*dense.*", "--schedule", "sequential",
                                                       "--final-epochs", "1", "--reference-epochs", "1"});
    const TemporaryFolder folder;
    for (const auto& [program, arguments] : {std::pair{"svhn_tune", tune}, std::pair{"svhn_autoq", autoq}}) {
        const std::string fresh = folder / (std::string(program) + "_fresh"), used = folder / (std::string(program) + "_used");
        ASSERT_EQ(run(program, with(arguments, {"--seed", "1", "--out-dir", used})).status, 0);
        const std::vector<std::string> second = with(arguments, {"--seed", "2", "--out-dir"});
        ASSERT_EQ(run(program, with(second, {fresh})).status, 0);
        run_until_changed(used + "/config.json", program, with(second, {used}));
        const ProcessResult resumed = run(program, {"--resume", "--out-dir", used});
        ASSERT_EQ(resumed.status, 0) << resumed.err;
        for (const char* file : {"trials.csv", "block_0/trials.csv", "block_1/trials.csv", "summary.json", "dictionary.json"}) {
            if (std::filesystem::exists(fresh + "/" + file)) {
                EXPECT_EQ(read_file(used + "/" + file), read_file(fresh + "/" + file)) << program << ' ' << file;
            }
        }
    }
}

// quantized_bits(2,1,1) makes zeros of all magnitudes below 1/2, and so of all that a float network of this size has.
TEST(SvhnAutoq, TrialsFitSmallWeightsToCoarseQuantizers) {
    const TemporaryFolder folder;
    const ProcessResult result = run(
        "svhn_autoq", {"--dataset", "digits", "--train-size", "64", "--test-size", "20", "--goal", "bits", "--no-blocks",
                       "--limits", R"json({"conv_.$": [["quantized_bits(2,1,1,alpha=1.0)"]], "dense_.$": [["quantized_bits(2,1,1,alpha=1.0)"]]})json",
                       "--max-trials", "1", "--epochs", "1", "--reference-epochs", "1", "--final-epochs", "0", "--threads", "1",
                       "--jobs", "1", "--out-dir", folder / "autoq"});
    ASSERT_EQ(result.status, 0) << result.err;
    const quant::CompressedModel model = quant::load_compressed({}, folder / "autoq/best_model.h5");
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    for (const auto& [path, parameter] : model.network->named_parameters()) {
        if (!path.ends_with(".weight") || parameter->transforms.empty()) continue;
        const std::vector<double> w = parameter->effective(context).value().values<double>();
        EXPECT_LT(std::count(w.begin(), w.end(), 0.0), std::ssize(w)) << path;
    }
}

TEST(SvhnAutoq, TheShippedRecipeAimsAtAQuarterOfTheBits) {
    const TemporaryFolder folder;
    const ProcessResult result =
        run("svhn_autoq", {"--config", std::string(BITLOOM_SOURCE_DIR) + "/configs/svhn_autoq_quarter.json", "--train-size", "64",
                           "--test-size", "20", "--max-trials", "3", "--epochs", "1", "--reference-epochs", "1", "--final-epochs",
                           "0", "--threads", "1", "--jobs", "1", "--out-dir", folder / "autoq"});
    ASSERT_EQ(result.status, 0) << result.err;
    // Every trial's score: accuracy (1 + delta), the mark at a quarter of 170,816 bits.
    const auto search = nlohmann::json::parse(read_file(folder / "autoq/search/search.json"));
    ASSERT_EQ(search.at("trials").size(), 3u);
    for (const auto& trial : search.at("trials")) {
        const double bits = trial.at("metrics").at("bits"), accuracy = trial.at("metrics").at("val_accuracy");
        const double percent = bits < 42704 ? 1 : 200;
        EXPECT_NEAR(trial.at("score"), accuracy * (1 + percent / 100 * std::log2(42704 / bits)), 1e-9);
    }
}

TEST(SvhnAutoq, RefusesBadLimits) {
    const TemporaryFolder folder;
    for (const char* limits : {"[1]", "{\"Dense\": 8}", "{\"Dense\": [[3]]}"}) {
        const ProcessResult result = run("svhn_autoq", {"--dataset", "digits", "--train-size", "64", "--limits", limits,
                                                        "--out-dir", folder / "autoq"});
        EXPECT_EQ(result.status, 2) << limits;
        EXPECT_THAT(result.err, testing::HasSubstr("--limits"));
    }
}

TEST(SvhnAutoq, RefusesBeforeItTrains) {
    const TemporaryFolder folder;
    for (const auto& [flag, text] : {std::pair{"--layers", "conv_["}, {"--blocks", "LSTM.*"}, {"--limits", "{\"LSTM\": [8]}"},
                                     {"--final-lr-schedule", "cosinus"}}) {
        const ProcessResult result = run("svhn_autoq", {"--dataset", "digits", "--train-size", "64", flag, text,
                                                        "--out-dir", folder / "autoq"});
        EXPECT_EQ(result.status, 2) << flag;
        EXPECT_THAT(result.err, testing::Not(testing::HasSubstr("epoch"))) << flag;
    }
}

TEST(SvhnQtool, ReadsPlainFilesOfTheNamedNetwork) {
    const std::string models = test::models_folder();
    if (!std::filesystem::exists(models + "/bsq_resnet20_fp.h5")) GTEST_SKIP() << "no trained networks in " << models << " (BITLOOM_MODELS)";
    const ProcessResult result = run("svhn_qtool", {"--model", "resnet20", "--weights", models + "/bsq_resnet20_fp.h5"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.out, run("svhn_qtool", {"--model", "resnet20"}).out);
}

TEST(SvhnQtool, PrintsThePublishedFigures) {
    const ProcessResult result = run("svhn_qtool", {});
    ASSERT_EQ(result.status, 0) << result.err;
    for (const char* figure : {"14222", "170816", "3917580", "1681674"})
        EXPECT_THAT(result.out, testing::HasSubstr(figure));
    EXPECT_THAT(run("svhn_qtool", {"--bits", "4"}).out, testing::HasSubstr("1847050"));
    EXPECT_EQ(run("svhn_qtool", {"--source", "fp8"}).status, 2);
    EXPECT_EQ(run("svhn_qtool", {"--device", "tpu"}).status, 2);
    EXPECT_TRUE(nlohmann::json::accept(run("svhn_qtool", {"--json"}).out));
}

}  // namespace
}  // namespace bitloom
