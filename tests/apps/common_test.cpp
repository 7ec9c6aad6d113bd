// What the programs share: reports, curves, scores, jobs side by side.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include "apps/common/fold_scores.h"
#include "apps/common/history.h"
#include "apps/common/kfold_plan.h"
#include "apps/common/learning_curves.h"
#include "apps/common/report.h"
#include "apps/common/roc.h"
#include "apps/common/run_folder.h"
#include "apps/common/side_by_side.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "models/registry.h"
#include "tests/message_of.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

FoldScore score(int fold, double accuracy) {
    FoldScore s;
    s.fold = fold;
    s.val_loss = 0.25 + fold;
    s.val_accuracy = accuracy - 0.01;
    s.test_loss = 1.0 / 3;
    s.test_accuracy = accuracy;
    s.epochs = 12;
    s.tested_epoch = 7;
    s.stop_reason = "early stopping";
    s.classes = 2;
    s.confusion = {5, 1, 2, 4};
    return s;
}

TEST(KfoldPlan, WarnsOfIdentitiesAndOfKernelsThatSynthesisCannotTake) {
    const ModelOptions published = resolve({.name = "svhn_cnn"});
    EXPECT_TRUE(network_warnings(published).empty());
    ModelOptions other = published;
    other.pooling = {2, 1, 2};
    other.dense_units = {64, 64};  // 4096 weights, and not one more; dense_0 has as many inputs as conv_2 leaves values
    const std::vector<std::string> lines = network_warnings(other);
    ASSERT_EQ(lines.size(), 2U);
    EXPECT_THAT(lines[0], testing::StartsWith("the pooling of 1 behind conv_1"));
    EXPECT_THAT(lines[1], testing::StartsWith("dense_0 has 38400 weights"));
}

TEST(FoldScores, StandardDeviationIsThePopulations) {
    const MeanAndDeviation m = mean_and_deviation({1, 3});
    EXPECT_DOUBLE_EQ(m.mean, 2);
    EXPECT_DOUBLE_EQ(m.deviation, 1);  // divided by n, not n - 1
    EXPECT_EQ(mean_and_deviation({}).mean, 0);
}

TEST(FoldScores, SurviveTheirFileExactly) {
    const TemporaryFolder folder;
    const std::string path = folder / "scores.json";
    const FoldScore written = score(3, 0.9417);
    write_score(path, written);
    const FoldScore read = read_score(path);
    EXPECT_EQ(read.fold, 3);
    EXPECT_EQ(read.test_loss, written.test_loss);
    EXPECT_EQ(read.test_accuracy, written.test_accuracy);
    EXPECT_EQ(read.val_loss, written.val_loss);
    EXPECT_EQ(read.tested_epoch, 7);
    EXPECT_EQ(read.stop_reason, "early stopping");
    EXPECT_EQ(read.confusion, written.confusion);
    write_file_atomically(path, "{\"fold\": 1");
    EXPECT_THAT(message_of([&] { read_score(path); }), HasSubstr("not the scores of a fold"));
    // A report of three classes would read behind a matrix of four entries.
    FoldScore wrong = written;
    wrong.classes = 3;
    write_score(path, wrong);
    EXPECT_THAT(message_of([&] { read_score(path); }), HasSubstr("3 classes, but a confusion matrix of 4 entries"));
    wrong.classes = -2;
    write_score(path, wrong);
    EXPECT_THAT(message_of([&] { read_score(path); }), HasSubstr("needs an integer from 0"));
}

TEST(FoldScores, TableAndHeadline) {
    const std::vector<FoldScore> scores{score(0, 0.90), score(1, 0.94)};
    const std::vector<std::string> text = test::lines(to_text(fold_table(scores)));
    ASSERT_EQ(text.size(), 5u);
    EXPECT_THAT(text[1], HasSubstr("0.9000"));
    EXPECT_THAT(text[3], HasSubstr("mean"));
    EXPECT_THAT(text[3], HasSubstr("0.9200"));
    EXPECT_THAT(text[4], HasSubstr("0.0200"));
    EXPECT_THAT(headline(scores), HasSubstr("92.00 ± 2.00 %"));
    EXPECT_THAT(test::lines(fold_csv(scores))[0],
                HasSubstr("fold,val_loss,val_accuracy,test_loss,test_accuracy,epochs"));
    EXPECT_THAT(fold_summary_json(scores), HasSubstr("\"mean\""));
}

TEST(History, ReadsWhatIsThereAndNamesWhatIsWrong) {
    const TemporaryFolder folder;
    const std::string path = folder / "history.csv";
    write_file_atomically(path, "loss,accuracy,val_loss,val_accuracy,lr\n1.5,0.25,,,0.1\n0.5,0.75,,,0.1\n");
    const LearningCurve curve = read_history(path, "run");
    EXPECT_THAT(curve.loss, ElementsAre(1.5, 0.5));
    EXPECT_THAT(curve.accuracy, ElementsAre(0.25, 0.75));
    EXPECT_TRUE(curve.val_loss.empty());
    write_file_atomically(path, "loss,accuracy\n1.5,0.25\n0.5\n");
    EXPECT_THAT(message_of([&] { read_history(path, "run"); }), HasSubstr("history.csv:3: 1 values, expected 2"));
    write_file_atomically(path, "loss\n1.5x\n");
    EXPECT_THAT(message_of([&] { read_history(path, "run"); }), HasSubstr("'1.5x' is no number"));
}

// By hand: scores .9+ .8- .7+ .7- .2-; one positive at .9, one tied with a negative at .7.
TEST(Roc, StepsTiesAreaAndInterpolation) {
    const std::vector<float> scores{0.7F, 0.9F, 0.2F, 0.8F, 0.7F};
    const std::vector<std::uint8_t> positive{1, 1, 0, 0, 0};
    const RocCurve curve = roc_curve(scores, positive);
    EXPECT_THAT(curve.tpr, ElementsAre(0, 0.5, 0.5, 1, 1));
    EXPECT_THAT(curve.fpr, ElementsAre(0, 0, testing::DoubleEq(1. / 3), testing::DoubleEq(2. / 3), 1));
    EXPECT_NEAR(area_under(curve), 0.5 / 3 + 0.75 / 3 + 1. / 3, 1e-15);
    EXPECT_EQ(tpr_at(curve, 0), 0.5);  // the upper end of the jump
    EXPECT_NEAR(tpr_at(curve, 0.5), 0.75, 1e-15);
    EXPECT_EQ(tpr_at(curve, 1), 1);
    EXPECT_THROW(roc_curve(scores, std::vector<std::uint8_t>(5, 1)), Error);
    EXPECT_THROW(roc_curve(scores, std::vector<std::uint8_t>(4, 1)), Error);
}

TEST(Roc, PointsBetweenTheirNeighboursAreDropped) {
    const std::vector<float> scores{5, 4, 3, 2, 1};
    const RocCurve curve = roc_curve(scores, std::vector<std::uint8_t>{1, 1, 1, 0, 0});
    EXPECT_THAT(curve.fpr, ElementsAre(0, 0, 0, 1));  // the first score stays, as scikit-learn keeps it
    EXPECT_THAT(curve.tpr, ElementsAre(0, testing::DoubleEq(1. / 3), 1, 1));
    EXPECT_EQ(area_under(curve), 1);
}

TEST(Roc, BandOverFoldsIsCutAtOne) {
    const RocCurve perfect{{0, 0, 1}, {0, 1, 1}}, diagonal{{0, 1}, {0, 1}};
    const RocBand band = roc_band({perfect, diagonal});
    ASSERT_EQ(band.fpr.size(), 50u);
    EXPECT_NEAR(band.fpr.front(), 0.0005, 1e-15);
    EXPECT_EQ(band.fpr.back(), 1);
    for (std::size_t i = 0; i < 50; ++i) {
        EXPECT_NEAR(band.mean[i], (1 + band.fpr[i]) / 2, 1e-12);
        EXPECT_NEAR(band.deviation[i], (1 - band.fpr[i]) / 2, 1e-12);
        EXPECT_NEAR(band.upper[i], 1, 1e-12);
        EXPECT_LE(band.upper[i], 1);
        EXPECT_NEAR(band.lower[i], band.fpr[i], 1e-12);
    }
    EXPECT_EQ(quantile({4, 1, 3, 2}, 0.25), 1.75);
    EXPECT_EQ(quantile({4, 1, 3, 2}, 1), 4);
    EXPECT_EQ(quantile({7}, 0.5), 7);
}

TEST(Curves, ScriptDataAndSvg) {
    const TemporaryFolder folder;
    const std::vector<LearningCurve> curves{{"full_0", {1.2, 0.4}, {0.5, 1.0}, {1.3, 0.6}, {0.4, 0.8}},
                                            {"full_1", {1.1}, {0.6}, {}, {}}};
    const bool drawn = plot_learning_curves(folder.path(), curves);
    EXPECT_THAT(read_file(folder / "curve_full_0.dat"), HasSubstr("2 0.4 0 0.6 0.2"));
    EXPECT_THAT(read_file(folder / "learning_curves.gp"), HasSubstr("curve_full_1.dat"));
    if (!drawn) GTEST_SKIP() << "gnuplot is not installed: the SVG is not checked";
    const std::string svg = read_file(folder / "learning_curves.svg");
    EXPECT_THAT(svg, HasSubstr("<svg"));
    EXPECT_THAT(svg, HasSubstr("full_1"));
    EXPECT_THAT(svg, HasSubstr("</svg>"));
    EXPECT_FALSE(std::filesystem::exists(folder / "learning_curves.log"));
}

TEST(Curves, WithoutGnuplotTheRunGoesOn) {
    const TemporaryFolder folder;
    const std::string path = std::getenv("PATH");
    setenv("PATH", folder.path().c_str(), 1);
    testing::internal::CaptureStderr();
    const bool drawn = plot_learning_curves(folder.path(), {{"run", {1.0}, {0.5}, {}, {}}});
    const std::string said = testing::internal::GetCapturedStderr();
    setenv("PATH", path.c_str(), 1);
    EXPECT_FALSE(drawn);
    EXPECT_EQ(test::lines(said).size(), 1u);
    EXPECT_THAT(said, HasSubstr("gnuplot not found"));
}

TEST(Report, IsOneEscapedPageWithoutOutsideResources) {
    const TemporaryFolder folder;
    write_file_atomically(folder / "x.svg", "<?xml version=\"1.0\"?>\n<svg viewBox=\"0 0 1 1\"></svg>\n");
    Report report("a < b");
    report.settings("Settings", {{"outdir", "<here>"}});
    report.table("Folds", fold_table({score(0, 0.5)}));
    report.figure("Curves", folder / "x.svg");
    report.figure("Missing", folder / "none.svg");
    report.confusion("Confusion", {5, 1, 2, 4}, 2);
    report.preformatted("Command", "train --x 'a&b'");
    const std::string html = report.html();
    EXPECT_THAT(html, HasSubstr("<title>a &lt; b</title>"));
    EXPECT_THAT(html, HasSubstr("&lt;here&gt;"));
    EXPECT_THAT(html, HasSubstr("a&amp;b"));
    EXPECT_THAT(html, HasSubstr("<svg viewBox"));
    EXPECT_THAT(html, Not(HasSubstr("<?xml")));
    EXPECT_THAT(html, HasSubstr("gnuplot was not available"));
    for (const char* outside : {"src=", "href=", "<script", "@import", "url("})
        EXPECT_THAT(html, Not(HasSubstr(outside)));
    EXPECT_THAT(message_of([&] { report.confusion("Confusion", {1, 2, 3}, 2); }), HasSubstr("3 counts"));
}

TEST(RunFolder, SaysWhyItCannotBeUsed) {
    const TemporaryFolder folder;
    make_folder(folder / "a/b");
    EXPECT_TRUE(std::filesystem::is_directory(folder / "a/b"));
    write_file_atomically(folder / "file", "");
    EXPECT_THAT(message_of([&] { make_folder(folder / "file"); }), HasSubstr("file"));
    EXPECT_THAT(message_of([&] { make_folder(folder / "file/below"); }), HasSubstr("cannot create the folder"));
    if (geteuid() == 0) return;  // root writes anywhere
    std::filesystem::permissions(folder / "a", std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec);
    EXPECT_THAT(message_of([&] { make_folder(folder / "a"); }), HasSubstr("Permission denied"));
    std::filesystem::permissions(folder / "a", std::filesystem::perms::owner_all);
}

TEST(SideBySide, RunsEachJobOnceAndAtMostSoManyAtATime) {
    std::mutex mutex;
    std::condition_variable changed;
    int running = 0, most = 0, done = 0;
    std::vector<Job> jobs;
    for (int i = 0; i < 7; ++i) {
        jobs.push_back({"job", [&] {
                            std::unique_lock lock(mutex);
                            most = std::max(most, ++running);
                            changed.notify_all();
                            // The first jobs stay until there are three of them; the limit ends a test that fails.
                            changed.wait_for(lock, std::chrono::minutes(5), [&] { return most >= 3; });
                            --running;
                            ++done;
                        }});
    }
    run_side_by_side(jobs, 3);
    EXPECT_EQ(done, 7);
    EXPECT_EQ(running, 0);
    EXPECT_EQ(most, 3);
}

TEST(SideBySide, TheFirstFailureInTheListIsReportedAndNoFurtherJobBegins) {
    std::atomic<int> begun{0};
    const auto failing = [&](const char* why) { return [&begun, why] { ++begun, fail(why); }; };
    std::vector<Job> jobs{{"full_0", failing("no space")}, {"full_1", [&] { ++begun; }}};
    EXPECT_EQ(message_of([&] { run_side_by_side(jobs, 1); }), "full_0: no space");
    EXPECT_EQ(begun, 1);
}

}  // namespace
}  // namespace bitloom
