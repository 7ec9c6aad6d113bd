// svhn_kfold --prune and --quantize, train --scheme: what they train, from what, and what they leave behind.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "quant/checkpoints.h"
#include "quant/pruning/pruner.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::expect_refusal;
using test::lines;
using test::ProcessResult;
using test::run;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

ProcessResult kfold(const std::string& out_dir, const std::vector<std::string>& more = {}) {
    return run("svhn_kfold", test::tiny_kfold(out_dir, more));
}

/// The masked layers of a checkpoint.
std::vector<quant::pruning::LayerSparsity> sparsity_in(const std::string& path) {
    return quant::pruning::sparsity_of(*quant::load_compressed({.name = ""}, path).network);
}

const Tensor& parameter(const Checkpoint& checkpoint, const std::string& name) {
    for (const auto& [path, tensor] : checkpoint.parameters)
        if (path == name) return tensor;
    ADD_FAILURE() << "no " << name;
    return checkpoint.parameters.front().second;
}

TEST(KfoldPruning, StartsFromTheFloatFoldsAndEndsAtHalfTheWeights) {
    const TemporaryFolder folder;
    expect_refusal(kfold(folder.path(), {"--prune"}), 1,
                   "pruned_full_0 starts from " + (folder / "full_0/model_best.h5"));
    ASSERT_EQ(kfold(folder.path()).status, 0);
    const std::string before = read_file(folder / "summary.json");
    const ProcessResult result = kfold(folder.path(), {"--prune=True"});
    ASSERT_EQ(result.status, 0) << result.err;
    // 16 batches are few for steps 1000 to 8000: the schedule shrinks into three quarters of them.
    EXPECT_THAT(result.err, AllOf(HasSubstr("too long for a run of 8 steps"), HasSubstr("over steps 1 to 6")));
    EXPECT_THAT(result.out, HasSubstr("zeros"));
    EXPECT_EQ(read_file(folder / "summary.json"), before);
    const Json summary = Json::parse(read_file(folder / "summaries/pruned_full/summary.json"));
    for (const std::string fold : {"pruned_full_0", "pruned_full_1"}) {
        for (const std::string& name : {std::string("model_best.h5"), std::string("weights_best.h5"), fold + ".h5"}) {
            const auto layers = sparsity_in(folder / (fold + "/" + name));
            ASSERT_EQ(layers.size(), 6u);
            for (const auto& layer : layers) {
                EXPECT_EQ(2 * layer.zeros, layer.weights) << fold << '/' << name << ' ' << layer.layer;
                EXPECT_EQ(layer.latent_zeros, layer.zeros);
            }
        }
        EXPECT_EQ(lines(read_file(folder / (fold + "/history_dict.csv"))).size(), 3u);
        EXPECT_TRUE(std::filesystem::exists(folder / (fold + "/scores.npz")));
        EXPECT_EQ(Json::parse(read_file(folder / (fold + "/compression.json"))).at("pruning").at("sparsity"), 0.5);
    }
    EXPECT_EQ(summary.at("folds")[0].at("zeros"), 0.5);
    EXPECT_EQ(summary.at("folds")[0].at("tested_epoch"), 2);  // after the first the masks are not final
    // evaluate finds the masks in the file.
    const ProcessResult evaluated =
        run("evaluate", {"--weights=" + (folder / "pruned_full_1/pruned_full_1.h5"), "--dataset=digits",
                         "--train-size=400", "--test-size=100", "--json"});
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_NEAR(Json::parse(evaluated.out).at("correct").get<double>() / 100,
                summary["folds"][1]["test_accuracy"].get<double>(), 1e-12);
    EXPECT_EQ(Json::parse(evaluated.out).at("compression").at("pruning").at("zeros"), 6776);
}

TEST(KfoldPruning, BeginsWithTheWeightsThatTheFloatFoldHandsOver) {
    const TemporaryFolder folder;
    ASSERT_EQ(kfold(folder.path(), {"--single", "--epochs=1"}).status, 0);
    // A learning rate of 0 leaves the weights as they come: the ones that survive are those of the float network.
    ASSERT_EQ(kfold(folder.path(), {"--single", "--epochs=1", "--prune", "--lr=0"}).status, 0);
    const Checkpoint full = load_checkpoint(folder / "full_0/model_best.h5"),
                     pruned = load_checkpoint(folder / "pruned_full_0/model_best.h5");
    for (const std::string layer : {"conv_1", "output_dense"}) {
        const std::vector<float> a = parameter(full, layer + ".weight").values<float>(),
                                 b = parameter(pruned, layer + ".weight").values<float>();
        for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(b[i] == a[i] || b[i] == 0) << layer << ' ' << i;
    }
}

TEST(KfoldPruning, SchedulesThatFitStayAsTheyAre) {
    const TemporaryFolder folder;
    ASSERT_EQ(kfold(folder.path(), {"--single"}).status, 0);
    const ProcessResult result =
        kfold(folder.path(), {"--single", "--prune", "--prune-begin=2", "--prune-end=6", "--prune-frequency=2"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("sparsity 0.4 to 0.5 over steps 2 to 6, masks refreshed every 2 steps"));
    EXPECT_THAT(result.err, Not(HasSubstr("too long")));
}

TEST(KfoldPruning, ConfigurationFilesChooseMasksAndLayers) {
    const TemporaryFolder folder;
    ASSERT_EQ(kfold(folder.path(), {"--single"}).status, 0);
    const std::string file = folder / "pruning.json";
    write_file_atomically(file, R"({"granularity": "2:4", "layers": ["dense_0", "conv_1"]})");
    ASSERT_EQ(kfold(folder.path(), {"--single", "--prune", "--prune-config=" + file}).status, 0);
    const auto layers = sparsity_in(folder / "pruned_full_0/pruned_full_0.h5");
    ASSERT_EQ(layers.size(), 2u);
    EXPECT_EQ(layers[0].zeros, 1152);
    EXPECT_EQ(layers[1].zeros, 2016);
    write_file_atomically(file, R"({"layers": ["conv_7"]})");
    expect_refusal(kfold(folder.path(), {"--single", "--prune", "--prune-config=" + file}), 2, "no layer 'conv_7'");
    write_file_atomically(file, "{");
    expect_refusal(kfold(folder.path(), {"--prune", "--prune-config=" + file}), 2, "pruning.json");
    expect_refusal(kfold(folder.path(), {"--prune", "--prune-config=" + (folder / "none.json")}), 2, "none.json");
    expect_refusal(kfold(folder.path(), {"--prune", "--prune-end=10"}), 2, "ends at step 10, begins at 1000");
    expect_refusal(kfold(folder.path(), {"--prune", "--prune-frequency=0"}), 2, "--prune-frequency");
}

TEST(KfoldPruning, ResumesTheRunThatTheFlagsName) {
    const TemporaryFolder folder;
    ASSERT_EQ(kfold(folder.path()).status, 0);
    expect_refusal(run("svhn_kfold", {"--resume", "--prune", "--out-dir=" + folder.path()}), 2, "holds no run");
    ASSERT_EQ(kfold(folder.path(), {"--prune", "--single"}).status, 0);
    const std::string untouched = read_file(folder / "pruned_full_0/last.h5");
    const ProcessResult rest = run("svhn_kfold", {"--resume", "--prune", "--nosingle", "--out-dir=" + folder.path()});
    ASSERT_EQ(rest.status, 0) << rest.err;
    EXPECT_EQ(read_file(folder / "pruned_full_0/last.h5"), untouched);
    EXPECT_TRUE(std::filesystem::exists(folder / "pruned_full_1/scores.json"));
}

/// Whether two checkpoints' latent weights are the same bits.
bool same_weights(const std::string& a, const std::string& b) {
    const Checkpoint first = load_checkpoint(a), second = load_checkpoint(b);
    for (const std::string layer : {"conv_0.weight", "dense_1.weight", "output_dense.bias"})
        if (parameter(first, layer).values<float>() != parameter(second, layer).values<float>()) return false;
    return true;
}

TEST(KfoldQuantization, EachWidthStartsFromTheNextWiderOne) {
    const TemporaryFolder folder;
    expect_refusal(kfold(folder.path(), {"--quantize"}), 1,
                   "quant_16bit_0 starts from " + (folder / "full_0/model_best.h5"));
    // Small weights, so that none is clipped to [-1, 1]; a learning rate of 0 keeps what was handed over.
    ASSERT_EQ(kfold(folder.path(), {"--single", "--epochs=1", "--lr=1e-3"}).status, 0);
    const ProcessResult scan = kfold(folder.path(), {"--single", "--epochs=1", "--quantize", "--lr=0"});
    ASSERT_EQ(scan.status, 0) << scan.err;
    std::size_t before = 0;
    for (const int width : {16, 14, 12, 10, 8, 6, 4, 3, 2, 1}) {
        const std::string name = "quant_" + std::to_string(width) + "bit_0";
        EXPECT_TRUE(same_weights(folder / "full_0/model_best.h5", folder / (name + "/model_best.h5"))) << name;
        for (const char* file : {"weights_best.h5", "history_dict.csv", "scores.npz", "scores.json"})
            EXPECT_TRUE(std::filesystem::exists(folder / (name + "/" + file))) << name << '/' << file;
        EXPECT_TRUE(std::filesystem::exists(folder / (name + "/" + name + ".h5")));
        const std::size_t said = scan.err.find(name + ": epoch 1/1");
        ASSERT_NE(said, std::string::npos) << name;
        EXPECT_GE(said, before);
        before = said;
    }
    const Json report = Json::parse(read_file(folder / "quant_3bit_0/compression.json"));
    EXPECT_THAT(report.dump(), AllOf(HasSubstr("quantized_bits(3,0,0,alpha=1)"), HasSubstr("quantized_relu(3,0)"),
                                     HasSubstr(R"json("bias":"quantized_bits(3,0,0,alpha=1)")json")));
    EXPECT_THAT(read_file(folder / "quant_2bit_0/compression.json"), HasSubstr("ternary(alpha=1)"));
    EXPECT_THAT(read_file(folder / "quant_1bit_0/compression.json"), HasSubstr("binary(alpha=1)"));
    EXPECT_EQ(lines(read_file(folder / "summaries/quant/folds.csv")).size(), 11u);
    const Json summary = Json::parse(read_file(folder / "summaries/quant/summary.json")).at("models");
    EXPECT_EQ(summary.size(), 10u);
    // evaluate puts the quantizers back.
    const ProcessResult evaluated =
        run("evaluate", {"--weights=" + (folder / "quant_3bit_0/quant_3bit_0.h5"), "--dataset=digits",
                         "--train-size=400", "--test-size=100", "--json"});
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_NEAR(Json::parse(evaluated.out).at("correct").get<double>() / 100,
                summary.at("quant_3bit").at("folds")[0].at("test_accuracy").get<double>(), 1e-12);
}

TEST(KfoldQuantization, PrunedScanStartsFromEachWidthAndKeepsZerosInBinaryNetworks) {
    const TemporaryFolder folder;
    const std::string widths = "--widths=8,2,1";
    ASSERT_EQ(kfold(folder.path(), {"--single", "--epochs=1"}).status, 0);
    expect_refusal(kfold(folder.path(), {"--single", "--quantize", "--prune", widths}), 1,
                   "pruned_quant_8bit_0 starts from " + (folder / "quant_8bit_0/model_best.h5"));
    ASSERT_EQ(kfold(folder.path(), {"--single", "--epochs=1", "--quantize", widths}).status, 0);
    const ProcessResult pruned = kfold(folder.path(), {"--single", "--quantize", "--prune", widths});
    ASSERT_EQ(pruned.status, 0) << pruned.err;
    for (const int width : {8, 2, 1}) {
        const std::string name = "pruned_quant_" + std::to_string(width) + "bit_0";
        for (const auto& layer : sparsity_in(folder / (name + "/" + name + ".h5"))) {
            EXPECT_GE(2 * layer.zeros, layer.weights) << name << ' ' << layer.layer;
            EXPECT_EQ(2 * layer.latent_zeros, layer.weights) << name << ' ' << layer.layer;
            if (width == 1) {  // binary weights have no zero but the mask's
                EXPECT_EQ(layer.zeros, layer.latent_zeros) << layer.layer;
            }
        }
    }
    EXPECT_THAT(read_file(folder / "summaries/pruned_quant/folds.csv"), HasSubstr("pruned_quant_1bit,0,"));
}

TEST(KfoldQuantization, ResumesAtAnyWidth) {
    const TemporaryFolder folder;
    ASSERT_EQ(kfold(folder.path(), {"--single"}).status, 0);
    ASSERT_EQ(kfold(folder.path(), {"--single", "--quantize", "--widths=6,4,3"}).status, 0);
    const std::string done = read_file(folder / "quant_6bit_0/last.h5"),
                      want = read_file(folder / "quant_3bit_0/scores.json"),
                      four = read_file(folder / "quant_4bit_0/scores.json");
    std::filesystem::remove_all(folder / "quant_3bit_0");
    std::filesystem::remove(folder / "quant_4bit_0/scores.json");  // as if killed after its last epoch
    const ProcessResult rest = run("svhn_kfold", {"--resume", "--quantize", "--out-dir=" + folder.path()});
    ASSERT_EQ(rest.status, 0) << rest.err;
    EXPECT_THAT(rest.err, AllOf(Not(HasSubstr("quant_6bit_0: epoch")), HasSubstr("quant_3bit_0: epoch 2/2")));
    EXPECT_EQ(read_file(folder / "quant_6bit_0/last.h5"), done);
    EXPECT_EQ(read_file(folder / "quant_4bit_0/scores.json"), four);
    EXPECT_EQ(read_file(folder / "quant_3bit_0/scores.json"), want);
}

TEST(KfoldQuantization, TheSecondTrainingOfTheLastWidthReplacesTheFirst) {
    const TemporaryFolder folder;
    ASSERT_EQ(kfold(folder.path(), {"--single", "--epochs=1"}).status, 0);
    const std::vector<std::string> flags{"--single", "--epochs=1", "--quantize", "--widths=4,1",
                                         "--reference-second-1bit"};
    ASSERT_EQ(kfold(folder.path(), flags).status, 0);
    EXPECT_TRUE(std::filesystem::exists(folder / "quant_1bit_0_first/scores.json"));
    EXPECT_FALSE(std::filesystem::exists(folder / "quant_1bit_0_second"));
    EXPECT_FALSE(std::filesystem::exists(folder / "quant_4bit_0_first"));
    EXPECT_FALSE(same_weights(folder / "quant_1bit_0_first/quant_1bit_0.h5", folder / "quant_1bit_0/quant_1bit_0.h5"));
    const std::string second = read_file(folder / "quant_1bit_0/scores.json");
    // Cut between the two renames.
    std::filesystem::rename(folder / "quant_1bit_0", folder / "quant_1bit_0_second");
    ASSERT_EQ(run("svhn_kfold", {"--resume", "--quantize", "--out-dir=" + folder.path()}).status, 0);
    EXPECT_EQ(read_file(folder / "quant_1bit_0/scores.json"), second);
}

TEST(KfoldQuantization, LoadedModelsKeepTheirQuantizersOnEveryFold) {
    const TemporaryFolder folder;
    ASSERT_EQ(kfold(folder.path(), {"--single", "--epochs=1"}).status, 0);
    ASSERT_EQ(kfold(folder.path(), {"--single", "--epochs=1", "--quantize", "--widths=4"}).status, 0);
    std::filesystem::create_directory(folder / "found");
    std::filesystem::copy(folder / "quant_4bit_0/model_best.h5", folder / "found/AQ.h5");
    expect_refusal(kfold(folder.path(), {"--loadModel", "--lmodel=found/AQ.h5", "--prune"}), 1,
                   "pruned_AQ_0 starts from");
    ASSERT_EQ(kfold(folder.path(), {"--loadModel", "--lmodel=found/AQ.h5", "--epochs=1"}).status, 0);
    ASSERT_EQ(kfold(folder.path(), {"--loadModel", "--lmodel=found/AQ.h5", "--prune", "--epochs=1"}).status, 0);
    for (const char* name : {"AQ_0", "AQ_1", "pruned_AQ_0", "pruned_AQ_1"})
        EXPECT_THAT(read_file(folder / (std::string(name) + "/compression.json")),
                    HasSubstr("quantized_bits(4,0,0,alpha=1)"))
            << name;
    EXPECT_EQ(sparsity_in(folder / "pruned_AQ_1/pruned_AQ_1.h5").size(), 6u);
    EXPECT_TRUE(std::filesystem::exists(folder / "summaries/AQ/report.html"));
    expect_refusal(kfold(folder.path(), {"--loadModel", "--lmodel=found/AQ.h5", "--quantize"}), 2, "--quantize");
    std::filesystem::copy(folder / "found/AQ.h5", folder / "AQ_0/AQ.h5");
    expect_refusal(kfold(folder.path(), {"--loadModel", "--lmodel=AQ_0/AQ.h5"}), 1, "lies in the folder that fold 0");
}

TEST(KfoldQuantization, RefusesWidthsThatMakeNoScan) {
    const TemporaryFolder folder;
    expect_refusal(kfold(folder.path(), {"--quantize", "--widths=4,8"}), 2,
                   "narrower than the one before, got 8 after 4");
    expect_refusal(kfold(folder.path(), {"--quantize", "--widths=0"}), 2, "--widths");
    expect_refusal(kfold(folder.path(), {"--quantize", "--widths=17"}), 2, "--widths");
    const std::string cfg = folder / "loop.cfg";
    write_file_atomically(cfg, "--epochs=1\n--flagfile=" + cfg + "\n");
    expect_refusal(kfold(folder.path(), {"--flagfile=" + cfg}), 2, "includes itself");
}

std::vector<std::string> tiny_train(const std::string& out_dir, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{
        "--dataset=digits-grey", "--model=lenet5", "--train-size=400", "--test-size=100", "--epochs=2",
        "--optimizer=adam",      "--lr=1e-3",      "--threads=1",      "--batch-size=50", "--out-dir=" + out_dir};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

TEST(TrainScheme, PrunesAnyNetworkAndSaysSo) {
    const TemporaryFolder folder;
    const std::string file = folder / "scheme.json";
    write_file_atomically(file, R"({"granularity": "channel", "final_sparsity": 0.25, "layers": ["conv1", "conv2"]})");
    ASSERT_EQ(run("train", tiny_train(folder / "run", {"--scheme=pruning", "--scheme-config=" + file})).status, 0);
    const Json summary = Json::parse(read_file(folder / "run/summary.json"));
    const Json layers = summary.at("compression").at("pruning").at("layers");
    ASSERT_EQ(layers.size(), 2u);
    EXPECT_EQ(layers[0].at("zeros"), 50);   // rne(4.5) = 4 of 6 filters stay, 25 weights each
    EXPECT_EQ(layers[1].at("zeros"), 600);  // 12 of 16, 150 each
    EXPECT_THAT(read_file(folder / "run/report.html"), HasSubstr("whole channels"));
    const ProcessResult evaluated = run("evaluate", {"--weights=" + (folder / "run/last.h5"), "--dataset=digits-grey",
                                                     "--train-size=400", "--test-size=100", "--json"});
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_EQ(Json::parse(evaluated.out).at("correct"), summary.at("correct"));
    // Pruned weights are a start for another run, with or without schemes.
    EXPECT_EQ(
        run("train", tiny_train(folder / "plain", {"--init-weights=" + (folder / "run/last.h5"), "--epochs=1"})).status,
        0);
}

TEST(TrainScheme, ResumedRunsKeepTheirMasks) {
    const TemporaryFolder folder;
    const auto pruned = [&](const std::string& name, std::vector<std::string> more) {
        more.push_back("--scheme=pruning");
        return run("train", tiny_train(folder / name, more));
    };
    ASSERT_EQ(pruned("whole", {}).status, 0);
    ASSERT_EQ(pruned("cut", {"--max-steps=7"}).status, 0);
    ASSERT_EQ(run("train", {"--resume", "--out-dir=" + (folder / "cut"), "--max-steps=0"}).status, 0);
    const Checkpoint a = load_checkpoint(folder / "whole/last.h5"), b = load_checkpoint(folder / "cut/last.h5");
    ASSERT_EQ(a.buffers.size(), b.buffers.size());
    EXPECT_TRUE(std::any_of(a.buffers.begin(), a.buffers.end(),
                            [](const auto& buffer) { return buffer.first.ends_with(".weight.pruning.mask"); }));
    for (std::size_t i = 0; i < a.buffers.size(); ++i)
        EXPECT_EQ(std::memcmp(a.buffers[i].second.raw(), b.buffers[i].second.raw(), a.buffers[i].second.bytes()), 0)
            << a.buffers[i].first;
    for (std::size_t i = 0; i < a.parameters.size(); ++i)
        EXPECT_EQ(
            std::memcmp(a.parameters[i].second.raw(), b.parameters[i].second.raw(), a.parameters[i].second.bytes()), 0)
            << a.parameters[i].first;
    EXPECT_EQ(a.integers.at("pruning.step"), 16);
    EXPECT_EQ(b.integers.at("pruning.step"), 16);
}

TEST(TrainScheme, RefusesWhatItCannotAttach) {
    const TemporaryFolder folder;
    const std::string file = folder / "scheme.json";
    expect_refusal(run("train", tiny_train(folder / "run", {"--scheme=prunning"})), 2, "unknown scheme 'prunning'");
    expect_refusal(run("train", tiny_train(folder / "run", {"--scheme-config=" + file})), 2, "needs --scheme");
    expect_refusal(run("train", tiny_train(folder / "run", {"--scheme=pruning", "--scheme-config=" + file})), 2,
                   "scheme.json");
    write_file_atomically(file, R"({"layers": ["conv_9"]})");
    expect_refusal(run("train", tiny_train(folder / "run", {"--scheme=pruning", "--scheme-config=" + file})), 2,
                   "no layer 'conv_9'");
}

}  // namespace
}  // namespace bitloom
