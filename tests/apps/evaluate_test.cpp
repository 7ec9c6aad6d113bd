// evaluate, run as a user runs it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "engine/io/checkpoint.h"
#include "engine/io/hdf5.h"
#include "models/registry.h"
#include "tests/apps/process.h"

namespace bitloom::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using Json = nlohmann::json;

class Evaluate : public testing::Test {
   protected:
    Evaluate() { weights = save({.name = "svhn_cnn"}, "svhn.h5", R"({"normalize": "unit"})"); }

    std::string save(const ModelOptions& options, const std::string& name, const std::string& config) const {
        Checkpoint checkpoint;
        checkpoint.model = describe(options);
        checkpoint.config = config;
        const auto network = make_model(options, 5);
        gather(*network, checkpoint);
        save_checkpoint(folder / name, checkpoint);
        return folder / name;
    }
    ProcessResult evaluate(std::vector<std::string> more) const {
        std::vector<std::string> arguments{"--dataset=digits", "--test-size=50", "--train-size=30", "--threads=1"};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run("evaluate", arguments);
    }
    void expect_refusal(const std::vector<std::string>& more, int status, const std::string& message) const {
        const ProcessResult result = evaluate(more);
        test::expect_refusal(result, status, message);
        EXPECT_THAT(result.err, StartsWith("evaluate: "));
    }

    TemporaryFolder folder;
    std::string weights;
};

TEST_F(Evaluate, PrintsWhatTheLogitsSay) {
    const std::string logits_path = folder / "logits.h5", confusion_path = folder / "confusion.csv";
    const ProcessResult result = evaluate({"--weights=" + weights, "--top-k=3", "--logits=" + logits_path,
                                           "--confusion=" + confusion_path, "--batch=7", "--per-class"});
    ASSERT_EQ(result.status, 0) << result.err;

    const hdf5::File file = hdf5::File::open(logits_path);
    ASSERT_EQ(file.shape("logits"), (Shape{50, 10}));
    const std::vector<float> logits = file.read("logits").values<float>();
    const std::vector<std::int64_t> labels = file.read_i64("labels");
    int correct = 0, among_three = 0;
    double loss = 0;
    std::vector<int> confusion(100, 0);
    for (std::size_t i = 0; i < 50; ++i) {
        const float* row = logits.data() + 10 * i;
        const auto label = static_cast<std::size_t>(labels[i]);
        const std::ptrdiff_t above = std::count_if(row, row + 10, [&](float z) { return z > row[label]; });
        correct += above == 0;
        among_three += above < 3;
        double sum = 0;
        for (int c = 0; c < 10; ++c) sum += std::exp(static_cast<double>(row[c]));
        loss += std::log(sum) - row[label];
        ++confusion[label * 10 + static_cast<std::size_t>(std::max_element(row, row + 10) - row)];
    }
    const std::vector<std::string> printed = lines(result.out);
    ASSERT_EQ(printed.size(), 15u) << result.out;
    EXPECT_EQ(printed[0], cat("correct: ", correct, "/50"));
    EXPECT_NEAR(std::stod(printed[1].substr(6)), 2.0 * correct, 1e-9);
    EXPECT_THAT(printed[2], StartsWith("cross_entropy: "));
    EXPECT_NEAR(std::stod(printed[2].substr(15)), loss / 50, 2e-6);
    EXPECT_EQ(printed[3], cat("top3_correct: ", among_three, "/50"));
    EXPECT_THAT(printed[5], StartsWith("class 0: images "));

    std::ifstream csv(confusion_path);
    std::string line;
    std::getline(csv, line);
    EXPECT_EQ(line, "label,0,1,2,3,4,5,6,7,8,9");
    for (int label = 0; label < 10; ++label) {
        std::string expected = std::to_string(label);
        for (int p = 0; p < 10; ++p) expected += cat(",", confusion[static_cast<std::size_t>(label * 10 + p)]);
        std::getline(csv, line);
        EXPECT_EQ(line, expected);
    }
}

TEST_F(Evaluate, JsonHoldsTheSameAndTheReferenceDeviceAgrees) {
    const ProcessResult fast = evaluate({"--weights", weights, "--json"});
    ASSERT_EQ(fast.status, 0) << fast.err;
    const ProcessResult slow = evaluate({"--weights", weights, "--json", "--device=reference", "--dtype=f64"});
    ASSERT_EQ(slow.status, 0) << slow.err;
    const Json a = Json::parse(fast.out), b = Json::parse(slow.out);
    EXPECT_EQ(a["model"]["name"], "svhn_cnn");
    EXPECT_EQ(a["images"], 50);
    EXPECT_EQ(a["correct"], b["correct"]);
    EXPECT_NEAR(a["cross_entropy"].get<double>(), b["cross_entropy"].get<double>(), 1e-5);
    EXPECT_NE(a["cross_entropy"], b["cross_entropy"]) << "single and double precision should not agree to the last bit";
}

TEST_F(Evaluate, FoldedBatchNormsGiveTheSameUpToRounding) {
    const ProcessResult plain = evaluate({"--weights", weights, "--json", "--batch=7"});
    const ProcessResult folded = evaluate({"--weights", weights, "--json", "--batch=7", "--fold-batch-norm"});
    ASSERT_EQ(folded.status, 0) << folded.err;
    const Json a = Json::parse(plain.out), b = Json::parse(folded.out);
    EXPECT_EQ(a["correct"], b["correct"]);
    EXPECT_NEAR(a["cross_entropy"].get<double>(), b["cross_entropy"].get<double>(), 1e-5);
    const ProcessResult text = evaluate({"--weights", weights, "--fold-batch-norm"});
    EXPECT_THAT(text.out, HasSubstr("batch norms folded: 5/6\n"
                                    "kept batch_normalization: it is on the network's input\n"));
}

TEST_F(Evaluate, NormalizationComesFromTheFlagOrTheRecord) {
    const auto loss = [&](std::vector<std::string> more) {
        more.insert(more.end(), {"--weights=" + weights, "--json"});
        const ProcessResult result = evaluate(more);
        EXPECT_EQ(result.status, 0) << result.err;
        return Json::parse(result.out)["cross_entropy"].get<double>();
    };
    EXPECT_EQ(loss({}), loss({"--normalize=unit"}));
    EXPECT_NE(loss({}), loss({"--normalize=none"}));
    EXPECT_NE(loss({}), loss({"--normalize=per-channel"}));
    expect_refusal({"--weights=" + save({.name = "svhn_cnn"}, "silent.h5", "{}")}, 2, "--normalize");
}

TEST_F(Evaluate, ResizesWhereItIsTold) {
    const std::string lenet = save({.name = "lenet5"}, "lenet5.h5", R"({"normalize": "unit"})");
    expect_refusal({"--weights=" + lenet}, 1, "digits has images [32, 32, 3], the network takes [28, 28, 1]");
    const std::string wide = save({.name = "svhn_cnn", .input = {40, 40, 3}}, "wide.h5", R"({"normalize": "unit"})");
    expect_refusal({"--weights=" + wide}, 1, "--resize");
    EXPECT_EQ(evaluate({"--weights=" + wide, "--resize"}).status, 0);
    const ProcessResult limited = evaluate({"--weights=" + lenet, "--dataset=digits-grey", "--limit=20"});
    EXPECT_EQ(limited.status, 0) << limited.err;
    EXPECT_THAT(limited.out, HasSubstr("/20\n"));
}

TEST_F(Evaluate, LeavesARecordThatCanBeRepeated) {
    const std::string out = folder / "results";
    const ProcessResult first = evaluate({"--weights=" + weights, "--out-dir=" + out});
    ASSERT_EQ(first.status, 0) << first.err;
    const ProcessResult again = run("evaluate", {"--resume", "--out-dir", out});
    EXPECT_EQ(again.status, 0) << again.err;
    EXPECT_EQ(again.out, first.out);
    std::ifstream file(out + "/metrics.json");
    EXPECT_EQ(Json::parse(file)["images"], 50);
}

TEST_F(Evaluate, RefusesInOneLine) {
    expect_refusal({}, 2, "--weights is missing");
    expect_refusal({"--weights=" + weights, "--modle=lenet5"}, 2, "modle");
    expect_refusal({"--weights=" + weights, "--model=lenet6"}, 2, "lenet6");
    expect_refusal({"--weights=" + weights, "--model=lenet5"}, 1, "checkpoint of 'svhn_cnn', not of 'lenet5'");
    expect_refusal({"--weights=" + (folder / "missing.h5")}, 1, "missing.h5");
    expect_refusal({"--weights=" + weights, "--dtype=f64"}, 2, "--device=reference");
    expect_refusal({"--weights=" + weights, "--dataset=cifar10", "--data-dir=" + folder.path()}, 1, "cifar10");
    expect_refusal({"--resume"}, 2, "--out-dir");
    std::ofstream(folder / "text.h5") << "these are no weights";
    expect_refusal({"--weights=" + (folder / "text.h5")}, 1, "not an HDF5 file");
}

}  // namespace
}  // namespace bitloom::test
