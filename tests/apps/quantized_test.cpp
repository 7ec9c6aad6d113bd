// train and evaluate with QKeras quantizers: what is trained, recorded and refused.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "quant/checkpoints.h"
#include "quant/qkeras/model_quantize.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::lines;
using test::ProcessResult;
using test::run;
using test::TemporaryFolder;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<std::string> tiny(const std::string& out_dir, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"--dataset=digits", "--model=svhn_cnn", "--train-size=300", "--test-size=100", "--epochs=2",
                                       "--optimizer=keras-amsgrad", "--lr=3e-3", "--threads=1", "--batch-size=50", "--out-dir=" + out_dir};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

ProcessResult evaluate(const std::string& weights, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"--weights=" + weights, "--dataset=digits", "--train-size=300", "--test-size=100", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run("evaluate", arguments);
}

TEST(Quantized, TrainedWeightsCarryTheirQuantizers) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("train", tiny(folder / "run", {"--bits=4,6"})).status, 0);
    const Json summary = Json::parse(read_file(folder / "run/summary.json"));
    const Json layers = summary.at("compression").at("qkeras").at("layers");
    EXPECT_EQ(layers.size(), 11u);
    EXPECT_EQ(layers[0].at("kernel"), "quantized_bits(4,0,0,alpha=1)");
    EXPECT_EQ(layers[1].at("activation"), "quantized_relu(6,0)");
    const ProcessResult evaluated = evaluate(folder / "run/last.h5");
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_EQ(Json::parse(evaluated.out).at("correct"), summary.at("correct"));
    // Latent weights are kept, clipped to the quantizer's range, and no multiples of its step.
    const Checkpoint last = load_checkpoint(folder / "run/last.h5");
    bool latent = false;
    for (const auto& [name, tensor] : last.parameters)
        if (name == "conv_0.weight")
            for (const double v : tensor.values<double>()) {
                EXPECT_LE(std::abs(v), 1);
                latent = latent || v * 8 != std::nearbyint(v * 8);
            }
    EXPECT_TRUE(latent);
    EXPECT_EQ(evaluate(folder / "run/last.h5", {"--bits=2"}).status, 2);
}

TEST(Quantized, ResumedRunsEndInTheSameBits) {
    const TemporaryFolder folder;
    // Stochastic signs and folded batch norms: draws and counters must go on where they stopped.
    const std::string file = folder / "scheme.json";
    write_file_atomically(file, R"j({"QConv2D": {"kernel_quantizer": "stochastic_binary()"}, "QActivation": {"relu": "quantized_relu(4,2,use_stochastic_rounding=1)"}})j");
    const std::vector<std::string> scheme{"--scheme=qkeras", "--scheme-config=" + file};
    const auto train = [&](const std::string& name, std::vector<std::string> more) {
        more.insert(more.end(), scheme.begin(), scheme.end());
        return run("train", tiny(folder / name, more)).status;
    };
    ASSERT_EQ(train("whole", {}), 0);
    ASSERT_EQ(train("cut", {"--max-steps=7"}), 0);
    ASSERT_EQ(run("train", {"--resume", "--out-dir=" + (folder / "cut"), "--max-steps=0"}).status, 0);
    const Checkpoint a = load_checkpoint(folder / "whole/last.h5"), b = load_checkpoint(folder / "cut/last.h5");
    for (std::size_t i = 0; i < a.parameters.size(); ++i)
        EXPECT_EQ(a.parameters[i].second.values<float>(), b.parameters[i].second.values<float>()) << a.parameters[i].first;
}

TEST(Quantized, FloatWeightsAreEvaluatedAtAnyWidth) {
    const TemporaryFolder folder;
    ASSERT_EQ(run("train", tiny(folder / "run", {"--epochs=3"})).status, 0);
    const Json plain = Json::parse(evaluate(folder / "run/last.h5").out);
    const ProcessResult sixteen = evaluate(folder / "run/last.h5", {"--scheme=qkeras", "--bits=16"});
    ASSERT_EQ(sixteen.status, 0) << sixteen.err;
    EXPECT_TRUE(Json::parse(sixteen.out).contains("compression"));
    EXPECT_NE(Json::parse(sixteen.out).at("cross_entropy"), plain.at("cross_entropy"));
    EXPECT_EQ(Json::parse(evaluate(folder / "run/last.h5", {"--bits=1"}).out).at("images"), 100);
}

TEST(Quantized, WrongUsageIsOneLineAndStatusTwo) {
    const TemporaryFolder folder;
    const std::string file = folder / "dictionary.json";
    const auto refused = [&](const std::vector<std::string>& more, const std::string& says) {
        const ProcessResult result = run("train", tiny(folder / "run", more));
        EXPECT_EQ(result.status, 2) << says;
        const std::vector<std::string> said = lines(result.err);
        ASSERT_EQ(said.size(), 2u) << result.err;  // and the hint to --help
        EXPECT_THAT(said[0], HasSubstr(says));
    };
    refused({"--bits=0"}, "--bits: must be at least 1, got 0");
    refused({"--bits=4,4,4"}, "--bits: takes one number");
    refused({"--scheme=qkeras"}, "needs exactly one of bits, dictionary and predefined");
    const std::vector<std::string> with{"--scheme=qkeras", "--scheme-config=" + file};
    for (const auto& [text, says] : std::vector<std::pair<std::string, std::string>>{
             {R"j({"QConv2D": {"kernel_quantizer": "quantised_bits(4)"}})j", "perhaps quantized_bits"},
             {R"j({"QConv2D": {"kernel_quantizer": "quantized_bits(4"}})j", "unbalanced parentheses"},
             {R"j({"QConv2D": {"kernel_quantizer": "quantized_bits(0)"}})j", "bits must be 1 to 32, got 0"},
             {R"j({"conv_3": {"kernel_quantizer": "binary()"}})j", "'conv_3'"},
             {R"j({"QDepthwiseConv2D": {"kernel_quantizer": "binary()"}})j", "matches no layer"},
             {R"j({"predefined": "5bit"})j", "unknown predefined dictionary '5bit'"}}) {
        write_file_atomically(file, text);
        refused(with, says);
    }
}

}  // namespace
}  // namespace bitloom
