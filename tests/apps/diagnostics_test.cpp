// svhn_diagnostics and svhn_compare on a tiny run of svhn_kfold: their files are there, and their numbers are those
// that other programs and the tests themselves compute.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "apps/common/fold_scores.h"
#include "engine/io/atomic_file.h"
#include "engine/io/hdf5.h"
#include "quant/checkpoints.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::expect_refusal;
using test::lines;
using test::ProcessResult;
using test::run;
using test::TemporaryFolder;
using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::json;

constexpr int test_images = 150;

bool have_gnuplot() { return std::system("gnuplot --version > /dev/null 2>&1") == 0; }

std::vector<std::string> cells(const std::string& line) {
    std::vector<std::string> result(1);
    for (const char c : line)
        if (c == ',')
            result.emplace_back();
        else
            result.back() += c;
    return result;
}

std::vector<std::vector<std::string>> table(const std::string& path) {
    std::vector<std::vector<std::string>> rows;
    for (const std::string& line : lines(read_file(path))) rows.push_back(cells(line));
    return rows;
}

void expect_figure(const std::string& path) {
    EXPECT_TRUE(std::filesystem::exists(path + ".gp")) << path;
    if (!have_gnuplot()) return;
    ASSERT_TRUE(std::filesystem::exists(path + ".svg")) << path;
    EXPECT_TRUE(read_file(path + ".pdf").starts_with("%PDF")) << path;
    EXPECT_FALSE(std::filesystem::exists(path + ".log")) << path;
}

void expect_self_contained(const std::string& html) {
    for (const char* outside : {"src=", "<script", "@import", "href='http", "href=\"http", "<link"})
        EXPECT_THAT(html, Not(HasSubstr(outside)));
}

/// Two folds of the float network, pruned, and quantized to 4 bits; once for all tests.
class Diagnostics : public ::testing::Test {
   protected:
    static void SetUpTestSuite() {
        folder_ = std::make_unique<TemporaryFolder>();
        for (const char* more : {"--epochs=2", "--prune", "--quantize"}) {
            const ProcessResult trained =
                run("svhn_kfold", {"--dataset=digits", "--train-size=400", "--test-size=" + std::to_string(test_images),
                                   "--folds=2", "--epochs=2", "--batchsize=40", "--threads=1", "--jobs=2", "--widths=4",
                                   "--out-dir=" + folder_->path(), more});
            ASSERT_EQ(trained.status, 0) << trained.err;
        }
    }
    static void TearDownTestSuite() { folder_.reset(); }

    static std::string model(const std::string& name) { return *folder_ / name; }
    static FoldScore score(const std::string& name) { return read_score(*folder_ / (name + "/scores.json")); }

    TemporaryFolder out_;
    static std::unique_ptr<TemporaryFolder> folder_;
};
std::unique_ptr<TemporaryFolder> Diagnostics::folder_;

TEST_F(Diagnostics, BoxesOverFoldsFullAndPruned) {
    const ProcessResult result = run("svhn_diagnostics", {"-m", model("quant_4bit") + ";" + model("full"), "-k2", "-o",
                                                          out_.path(), "-p", "tiny", "--pruned", "-e", "a test"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    // The accuracies are those that the training measured on the same images.
    const auto rows = table(out_ / "tiny_accuracies.csv");
    ASSERT_EQ(rows.size(), 1u + 6u);
    for (std::size_t i = 1; i < rows.size(); ++i) {
        const FoldScore expected = score(rows[i][3]);
        EXPECT_EQ(std::stod(rows[i][4]), expected.test_accuracy) << rows[i][3];
        EXPECT_NEAR(std::stod(rows[i][5]), expected.test_loss, 1e-5) << rows[i][3];
    }
    EXPECT_EQ(rows[1][3], "quant_4bit_0");
    EXPECT_EQ(rows[3], (std::vector<std::string>{"2", "BF/BP", "0", "full_0", rows[3][4], rows[3][5]}));
    EXPECT_EQ(rows[5][3], "pruned_full_0");
    EXPECT_EQ(rows[5][2], "1");
    const auto boxes = table(out_ / "tiny_performance_summary_COMBO.csv");
    ASSERT_EQ(boxes.size(), 1u + 3u);
    const double a = score("pruned_full_0").test_accuracy, b = score("pruned_full_1").test_accuracy;
    EXPECT_EQ(boxes[3][2], "Pruned (50%)");
    EXPECT_EQ(boxes[3][0], "2");
    EXPECT_NEAR(std::stod(boxes[3][4]), (a + b) / 2, 1e-12);
    EXPECT_NEAR(std::stod(boxes[3][5]), std::abs(a - b) / 2, 1e-12);
    EXPECT_NEAR(std::stod(boxes[3][7]), std::min(a, b) + std::abs(a - b) / 4, 1e-12);
    const std::string script = read_file(out_ / "tiny_performance_summary_COMBO.gp");
    for (const char* words : {"'2-fold cross-validation'", "'a test'", "'4 bit' 1", "#FC766A", "#184A45", "'Accuracy'"})
        EXPECT_THAT(script, HasSubstr(words));
    // Confusion summed over the folds.
    const auto confusion = table(out_ / "tiny_confusion_full.csv");
    ASSERT_EQ(confusion.size(), 11u);
    std::int64_t images = 0;
    for (int t = 0; t < 10; ++t)
        for (int p = 0; p < 10; ++p) {
            const auto at = static_cast<std::size_t>(10 * t + p);
            const std::int64_t count = std::stoll(confusion[t + 1u][p + 1u]);
            EXPECT_EQ(count, score("full_0").confusion[at] + score("full_1").confusion[at]);
            images += count;
        }
    EXPECT_EQ(images, 2 * test_images);
    for (const char* figure : {"tiny_performance_summary_COMBO", "tiny_confusion_full", "tiny_learning_curves_full",
                               "tiny_learning_curves_pruned_full", "tiny_learning_curves_quant_4bit"})
        expect_figure(out_ / figure);
    const std::string html = read_file(out_ / "tiny_report.html");
    expect_self_contained(html);
    EXPECT_THAT(html, HasSubstr("Confusion of pruned_full on the test set, summed over the folds"));
    EXPECT_THAT(result.out, HasSubstr("pruned_full"));
}

TEST_F(Diagnostics, SingleFoldersAndMissingFolds) {
    ProcessResult result = run("svhn_diagnostics", {"--kfolds=0", "--models=" + model("full_0") + ";" + model("full_1"),
                                                    "--names=first;second", "--outdir=" + out_.path()});
    ASSERT_EQ(result.status, 0) << result.err;
    const auto boxes = table(out_ / "all_performance_summary_COMBO.csv");
    ASSERT_EQ(boxes.size(), 3u);
    EXPECT_EQ(boxes[1][1], "first");
    EXPECT_EQ(std::stod(boxes[2][8]), score("full_1").test_accuracy);
    expect_figure(out_ / "all_learning_curves");
    // Ten folds are the default; what is not there is said.
    result = run("svhn_diagnostics", {"-m", model("full"), "-o", out_.path()});
    ASSERT_EQ(result.status, 0) << result.err;
    ASSERT_EQ(lines(result.err).size(), 2u);
    EXPECT_THAT(result.err, HasSubstr("left out: full_2, full_3"));
    EXPECT_EQ(table(out_ / "all_performance_summary_COMBO.csv")[1][3], "2");
    // The flags of a run are on record.
    result = run("svhn_diagnostics", {"--resume", "-o", out_.path()});
    EXPECT_EQ(result.status, 0) << result.err;
}

/// Share of the pairs of a sample of class c and another one that the scores order, half for ties.
double pair_area(const std::vector<float>& logits, const std::vector<std::int64_t>& labels, int c) {
    std::vector<double> scores;
    for (std::size_t i = 0; i < labels.size(); ++i) {
        double sum = 0;
        for (std::size_t j = 0; j < 10; ++j) sum += std::exp(static_cast<double>(logits[10 * i + j]));
        scores.push_back(std::exp(static_cast<double>(logits[10 * i + static_cast<std::size_t>(c)])) / sum);
    }
    double ordered = 0, pairs = 0;
    for (std::size_t i = 0; i < labels.size(); ++i)
        for (std::size_t j = 0; j < labels.size(); ++j) {
            if (labels[i] != c || labels[j] == c) continue;
            ++pairs;
            ordered += scores[i] > scores[j] ? 1 : scores[i] == scores[j] ? 0.5 : 0;
        }
    return ordered / pairs;
}

TEST_F(Diagnostics, CompareDrawsEverythingThatIsAskedFor) {
    // The pruned network first: it must not switch the operations of the next one off.
    const ProcessResult result =
        run("svhn_compare", {"-m", model("pruned_full_0") + ";" + model("full_0"), "-n", "BP;BF", "--kFold",
                             "--folds=2", "-wPORF", "-o" + out_.path(), "-p", "1"});
    ASSERT_EQ(result.status, 0) << result.err;
    EXPECT_EQ(result.err, "");
    for (const char* words : {"BP: pruned, no operations are counted", "BF: operations", "total: 0.001681674 GFLOPS",
                              "over 2 folds, quartiles", "Conv 0 (Pruned)"})
        EXPECT_THAT(result.out, HasSubstr(words));

    // Areas under the curves against a count of pairs, from the logits that evaluate writes.
    const auto areas = table(out_ / "full_0_kfold_AUC.csv");
    const std::string logits_file = out_ / "logits.h5";
    for (int fold = 0; fold < 2; ++fold) {
        const ProcessResult evaluated = run(
            "evaluate", {"--weights=" + model("full_" + std::to_string(fold)) + "/model_best.h5", "--dataset=digits",
                         "--train-size=400", "--test-size=" + std::to_string(test_images), "--logits=" + logits_file});
        ASSERT_EQ(evaluated.status, 0) << evaluated.err;
        const hdf5::File file = hdf5::File::open(logits_file);
        const std::vector<float> logits = file.read("logits").values<float>();
        const std::vector<std::int64_t> labels = file.read_i64("labels");
        for (std::size_t row = 1; row < areas.size(); ++row)
            EXPECT_NEAR(std::stod(areas[row][static_cast<std::size_t>(3 + fold)]),
                        pair_area(logits, labels, std::stoi(areas[row][0])), 1e-3)
                << "class " << areas[row][0] << " fold " << fold;
    }
    EXPECT_EQ(areas.size(), 11u);
    EXPECT_NEAR(std::stod(areas[1][1]), (std::stod(areas[1][3]) + std::stod(areas[1][4])) / 2, 1e-12);
    const auto bands = table(out_ / "full_0_kfold_ROC.csv");
    ASSERT_EQ(bands.size(), 51u);
    EXPECT_NEAR(std::stod(bands[1][0]), 0.0005, 1e-12);
    EXPECT_NEAR(std::stod(bands[50][0]), 1, 1e-12);
    for (std::size_t i = 1; i < bands.size(); ++i) {
        const double mean = std::stod(bands[i][1]), deviation = std::stod(bands[i][2]);
        EXPECT_NEAR(std::stod(bands[i][3]), std::max(0.0, mean - deviation), 1e-12);
        EXPECT_NEAR(std::stod(bands[i][4]), std::min(1.0, mean + deviation), 1e-12);
    }
    EXPECT_THAT(read_file(out_ / "full_0_kfold_ROC.gp"), HasSubstr("'full'"));
    EXPECT_EQ(std::stod(table(out_ / "full_0_kfold_accuracy.csv")[2][1]), score("full_1").test_accuracy);

    // Operations of section 5.11; biases once a channel.
    const std::vector<std::vector<std::string>> operations{{"layer", "flops", "weights"},  {"conv_0", "777600", "432"},
                                                           {"conv_1", "778752", "2304"},   {"conv_2", "110592", "3456"},
                                                           {"dense_0", "8064", "4032"},    {"dense_1", "5376", "2688"},
                                                           {"output_dense", "1290", "650"}};
    EXPECT_EQ(table(out_ / "full_0_flops.csv"), operations);
    EXPECT_FALSE(std::filesystem::exists(out_ / "pruned_full_0_flops.csv"));

    // Half of each pruned kernel is zero; the histogram has the weights between its ends.
    const auto zeros = table(out_ / "pruned_full_0_zeros.csv");
    ASSERT_EQ(zeros.size(), 7u);
    for (std::size_t i = 1; i < zeros.size(); ++i) EXPECT_EQ(std::stod(zeros[i][2]), 0.5) << zeros[i][0];
    const auto network = quant::load_compressed({.name = ""}, model("full_0") + "/model_best.h5").network;
    std::vector<float> conv;
    for (auto& [name, parameter] : network->named_parameters())
        if (name == "conv_1.weight") conv = parameter->value.values<float>();
    const auto histogram = table(out_ / "full_0_weights.csv");
    ASSERT_EQ(histogram[0][6], "Conv 1");
    std::int64_t counted = 0, below_zero = 0;
    for (std::size_t i = 1; i < histogram.size(); ++i) {
        counted += std::stoll(histogram[i][6]);
        if (i <= 24) below_zero += std::stoll(histogram[i][6]);
    }
    EXPECT_EQ(counted, 2304);  // a LeCun uniform start lies within +-1.5
    EXPECT_EQ(below_zero, std::count_if(conv.begin(), conv.end(), [](float w) { return w < -1.5 + 24 * 3.0 / 49; }));

    const auto profile = table(out_ / "full_0_activation_profile.csv");
    EXPECT_EQ(profile[1][0], "input");
    EXPECT_EQ(std::stoll(profile[1][1]), test_images * 32 * 32 * 3);
    const auto maps = table(out_ / "full_0_conv_0_maps.csv");
    EXPECT_EQ(maps.size(), 60u);  // two rows of 9 maps, 30 x 30
    EXPECT_EQ(maps[0].size(), 270u);
    EXPECT_EQ(maps[59][269], "0");  // the 18th place is empty: there are 16 maps
    for (const char* name : {"kfold_ROC", "ROC", "weights", "weight_profile", "activation_profile", "conv_0_maps",
                             "conv_1_maps", "conv_2_maps", "confusion", "learning_curves"})
        for (const char* stem : {"full_0_", "pruned_full_0_"}) expect_figure(out_ / (std::string(stem) + name));
    const std::string html = read_file(out_ / "compare_report.html");
    expect_self_contained(html);
    if (have_gnuplot()) {
        std::size_t figures = 0;
        for (std::size_t at = html.find("<figure>"); at != std::string::npos; at = html.find("<figure>", at + 1))
            ++figures;
        EXPECT_EQ(figures, 19u);  // nine each (confusion is a table), and the pruned one's weights as computed with
    }
}

TEST_F(Diagnostics, NetworksOfOneNameKeepTheirFiles) {
    const TemporaryFolder other;
    std::filesystem::copy(model("full_1"), other / "full_0", std::filesystem::copy_options::recursive);
    const ProcessResult result =
        run("svhn_compare", {"-R", "-m", model("full_0") + ";" + (other / "full_0"), "-o", out_.path()});
    ASSERT_EQ(result.status, 0) << result.err;
    expect_figure(out_ / "full_0_ROC");
    expect_figure(out_ / "full_0_2_ROC");
    EXPECT_NE(read_file(out_ / "full_0_ROC.csv"), read_file(out_ / "full_0_2_ROC.csv"));
}

TEST_F(Diagnostics, BadInputIsOneLine) {
    const auto diagnostics = [&](std::vector<std::string> arguments) {
        arguments.push_back("--outdir=" + out_.path());
        return run("svhn_diagnostics", arguments);
    };
    const auto compare = [&](std::vector<std::string> arguments) {
        arguments.push_back("--outdir=" + out_.path());
        return run("svhn_compare", arguments);
    };
    expect_refusal(diagnostics({"-m", model("none")}), 1, "none_0: no trained network (model_best.h5) is there");
    expect_refusal(diagnostics({"-k", "0", "-m", model("none")}), 1, "none: no trained network");
    expect_refusal(diagnostics({"-m", model("full"), "-n", "a;b"}), 2, "--names has 2 entries, --models 1");
    expect_refusal(diagnostics({"-m", ";"}), 2, "--models names no network");
    expect_refusal(diagnostics({"-k", "-1"}), 2, "--kfolds");
    expect_refusal(diagnostics({"-p", "a/b"}), 2, "--prefix");
    expect_refusal(diagnostics({"-x"}), 2, "unknown flag");
    expect_refusal(diagnostics({"-m", model("full"), "-k2", "--dataset=mnist", "--data-dir=" + out_.path()}), 1, "");
    expect_refusal(compare({"-m", model("full")}), 1, "full: no trained network");
    expect_refusal(compare({"-m", *folder_ / ".", "--kFold"}), 2, "needs a name with \"_0\"");
    expect_refusal(compare({"-m", model("full_0"), "-n", "a;b"}), 2, "--names has 2 entries, --models 1");
    expect_refusal(compare({"-F", "-m", model("full_0"), "--image=100000"}), 1, "--image=100000: digits has 400");
    const TemporaryFolder broken;
    std::filesystem::create_directories(broken / "full_0");
    write_file_atomically(broken / "full_0/model_best.h5", "no HDF5");
    expect_refusal(diagnostics({"-k1", "-m", broken / "full"}), 1, "full_0/model_best.h5");
    // Networks of other images are not tested on the first one's.
    ASSERT_EQ(run("svhn_kfold", {"--dataset=digits", "--train-size=300", "--test-size=100", "--single", "--epochs=1",
                                 "--threads=1", "--out-dir=" + broken.path()})
                  .status,
              0);
    expect_refusal(compare({"-m", model("full_0") + ";" + (broken / "full_0")}), 1,
                   "full_0 was trained on digits (train-size 300, data-seed 1)");
    EXPECT_EQ(
        compare({"-m", model("full_0") + ";" + (broken / "full_0"), "--dataset=digits", "--train-size=300"}).status, 0);
}

}  // namespace
}  // namespace bitloom
