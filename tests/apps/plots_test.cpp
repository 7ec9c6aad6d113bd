// What plots and tables are made of: boxes, histograms, profiles, feature maps, ROC over folds, command lines of
// optparse.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "apps/common/gnuplot.h"
#include "apps/common/optparse.h"
#include "apps/common/trained_folder.h"
#include "apps/plots/box_plot.h"
#include "apps/plots/csv.h"
#include "apps/plots/image_plots.h"
#include "apps/plots/layer_plots.h"
#include "apps/plots/roc_plot.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "models/registry.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::lines;
using test::TemporaryFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

bool have_gnuplot() { return std::system("gnuplot --version > /dev/null 2>&1") == 0; }

TEST(Optparse, TakesBundlesApart) {
    const auto expand = [](std::vector<const char*> words) {
        words.insert(words.begin(), "program");
        std::vector<std::string> result =
            expand_short_options(static_cast<int>(words.size()), words.data(), "wPh", "om");
        result.erase(result.begin());
        return result;
    };
    EXPECT_THAT(expand({"-wP", "-o", "x"}), ElementsAre("-w", "-P", "-o", "x"));
    EXPECT_THAT(expand({"-wox", "-ma;b"}), ElementsAre("-w", "-o", "x", "-m", "a;b"));
    EXPECT_THAT(expand({"-w", "--outdir=x", "-wPx", "-o=x"}), ElementsAre("-w", "--outdir=x", "-wPx", "-o=x"));
    // A value that looks like a bundle, and words after the end of the options.
    EXPECT_THAT(expand({"-o", "-wP", "-wo", "-Pw", "--", "-wP"}),
                ElementsAre("-o", "-wP", "-w", "-o", "-Pw", "--", "-wP"));
}

TEST(Optparse, SplitsAtSemicolons) {
    EXPECT_THAT(split_semicolons("a;b c ; d"), ElementsAre("a", "b c", "d"));
    EXPECT_THAT(split_semicolons("a;;b;"), ElementsAre("a", "b"));
    EXPECT_TRUE(split_semicolons(" ; ").empty());
}

TEST(TrainedFolders, NamesOfFoldsAndPrunedNetworks) {
    EXPECT_EQ(folder_name("runs/a_0/full_0/"), "full_0");
    EXPECT_EQ(fold_folder("runs/full/", 3), "runs/full_3");
    EXPECT_EQ(pruned_folder("models/quant_8bit"), "models/pruned_quant_8bit");
    EXPECT_EQ(pruned_folder("full"), "pruned_full");
    EXPECT_EQ(other_fold("runs_0/quant_10bit_0", 7), "runs_0/quant_10bit_7");
    EXPECT_EQ(other_fold("a_0_b_0", 12), "a_12_b_12");
    EXPECT_THROW(other_fold("runs_0/full", 1), UsageError);
}

TEST(Csv, CellsReadBackEqual) {
    EXPECT_EQ(csv_number(0.1), "0.1");
    EXPECT_EQ(csv_number(std::nan("")), "");
    EXPECT_EQ(csv_text("plain"), "plain");
    EXPECT_EQ(csv_text("a,\"b\""), "\"a,\"\"b\"\"\"");
}

TEST(Boxes, QuartilesAndWhiskersAsMatplotlibs) {
    // Quartiles 2.25, 4.5, 6.75: whiskers reach at most to -4.5 and 13.5, so 30 is an outlier.
    const BoxStatistics box = box_statistics({0, 1, 2, 3, 4, 5, 6, 7, 8, 30});
    EXPECT_EQ(box.count, 10);
    EXPECT_DOUBLE_EQ(box.lower_quartile, 2.25);
    EXPECT_DOUBLE_EQ(box.median, 4.5);
    EXPECT_DOUBLE_EQ(box.upper_quartile, 6.75);
    EXPECT_DOUBLE_EQ(box.whisker_low, 0);
    EXPECT_DOUBLE_EQ(box.whisker_high, 8);
    EXPECT_DOUBLE_EQ(box.mean, 6.6);
    EXPECT_NEAR(box.deviation, std::sqrt(110.4 - 6.6 * 6.6), 1e-12);
    EXPECT_DOUBLE_EQ(box_statistics({3}).whisker_low, 3);
    EXPECT_THROW(box_statistics({}), Error);
}

TEST(Boxes, ScriptAndRows) {
    const TemporaryFolder folder;
    FigureFolder figures(folder.path());
    BoxPlot plot;
    plot.labels = {"4 bit", "it's"};
    plot.series = {{"Full", "#FC766A", {{0.9, 0.8}, {0.7}}}, {"Pruned (50%)", "#184A45", {{0.31}, {}}}};
    plot.y_label = "Accuracy";
    plot.least = 0.55, plot.most = 1.1;
    plot.divider = 10.5;
    const bool drawn = plot_boxes(figures, "boxes", plot);
    EXPECT_THAT(lines(read_file(folder / "boxes.csv")),
                ElementsAre("position,label,series,count,mean,std,whisker_low,q1,median,q3,whisker_high",
                            HasSubstr("1,4 bit,Full,2,0.85"), "2,it's,Full,1,0.7,0,0.7,0.7,0.7,0.7,0.7",
                            "1,4 bit,Pruned (50%),1,0.31,0,0.31,0.31,0.31,0.31,0.31"));
    const std::string script = read_file(folder / "boxes.gp");
    EXPECT_THAT(script, HasSubstr("set yrange [0.25:1.1]"));  // a value below the axis widens it
    EXPECT_THAT(script, HasSubstr("'it''s' 2"));
    EXPECT_THAT(script, HasSubstr("from 10.5, graph 0"));
    EXPECT_EQ(drawn, have_gnuplot());
    if (!drawn) GTEST_SKIP() << "gnuplot is not installed: the figure is not checked";
    EXPECT_THAT(read_file(folder / "boxes.svg"), HasSubstr("</svg>"));
    EXPECT_TRUE(read_file(folder / "boxes.pdf").starts_with("%PDF"));
}

TEST(Figures, AFailureIsOneLineAndLeavesNoOldFigure) {
    if (!have_gnuplot()) GTEST_SKIP() << "gnuplot is not installed";
    const TemporaryFolder folder;
    FigureFolder figures(folder.path());
    ASSERT_TRUE(figures.draw("x", "plot sin(x)\n"));
    testing::internal::CaptureStderr();
    EXPECT_FALSE(figures.draw("x", "plot nonsense(\n"));
    EXPECT_EQ(lines(testing::internal::GetCapturedStderr()).size(), 1u);
    EXPECT_FALSE(std::filesystem::exists(folder / "x.svg"));
    EXPECT_FALSE(std::filesystem::exists(folder / "x.pdf"));
    EXPECT_TRUE(std::filesystem::exists(folder / "x.log"));
}

TEST(Histograms, CountAsNumpyDoes) {
    const std::vector<double> edges = linspace(-1.5, 1.5, 50);
    ASSERT_EQ(edges.size(), 50u);
    EXPECT_EQ(edges.front(), -1.5);
    EXPECT_EQ(edges.back(), 1.5);
    const std::vector<std::int64_t> counts = histogram({-1.6f, -1.5f, 0.0f, 1.5f, 1.6f, std::nanf("")}, edges);
    ASSERT_EQ(counts.size(), 49u);
    EXPECT_EQ(counts[0], 1);
    EXPECT_EQ(counts[24], 1);  // the middle bin
    EXPECT_EQ(counts[48], 1);  // both edges of the last bin belong to it
    std::int64_t sum = 0;
    for (const std::int64_t count : counts) sum += count;
    EXPECT_EQ(sum, 3);
    EXPECT_THAT(histogram({0, 1, 1, 2}, {0, 1, 2}), ElementsAre(1, 3));
}

TEST(Weights, LayersInReverseOrderOfTheirNames) {
    EXPECT_EQ(prettified("conv_0", false), "Conv 0");
    EXPECT_EQ(prettified("output_dense", true), "Output Dense (Pruned)");
    ModelOptions options;
    options.name = "svhn_cnn";
    const auto network = make_model(options, 3);
    const std::vector<LayerWeights> layers = first_weights(*network);
    ASSERT_EQ(layers.size(), 6u);  // no batch norm, no activation
    std::vector<LayerValues> values;
    std::size_t weights = 0;
    for (const LayerWeights& layer : layers) {
        EXPECT_EQ(layer.stored, layer.effective);
        values.push_back({layer.title, layer.stored});
        weights += layer.stored.size();
    }
    EXPECT_EQ(weights, 13552u);  // 13 562 with the output's bias
    const TemporaryFolder folder;
    FigureFolder figures(folder.path());
    plot_weights(figures, "weights", values);
    const std::vector<std::string> rows = lines(read_file(folder / "weights.csv"));
    EXPECT_EQ(rows[0], "from,to,Output Dense,Dense 1,Dense 0,Conv 2,Conv 1,Conv 0");
    EXPECT_EQ(rows.size(), 50u);
    EXPECT_EQ(share_of_zeros({0, 1, -0.0f, 2}), 0.5);
}

TEST(Profiles, MagnitudesWithoutZeros) {
    const Profile p = profile_of("x", {0, -4, 1, 0, 2, 3, -5});
    EXPECT_EQ(p.count, 7);
    EXPECT_EQ(p.zeros, 2);
    EXPECT_EQ(p.least, 1);
    EXPECT_EQ(p.lower_quartile, 2);
    EXPECT_EQ(p.median, 3);
    EXPECT_EQ(p.upper_quartile, 4);
    EXPECT_EQ(p.largest, 5);
    EXPECT_DOUBLE_EQ(profile_of("x", {1, 2}).median, 1.5);
    const Profile zeros = profile_of("x", {0, 0});
    EXPECT_EQ(zeros.zeros, 2);
    EXPECT_EQ(zeros.largest, 0);
    const TemporaryFolder folder;
    FigureFolder figures(folder.path());
    EXPECT_EQ(plot_profiles(figures, "p", {p, zeros}, "|x|"), have_gnuplot());
    EXPECT_THAT(lines(read_file(folder / "p.csv")),
                ElementsAre("layer,count,zeros,least,q1,median,q3,largest", "x,7,2,1,2,3,4,5", "x,2,2,,,,,"));
}

TEST(Profiles, ActivationsOfEveryLayerWhateverTheBatches) {
    ModelOptions options;
    options.name = "svhn_cnn";
    const auto network = make_model(options, 3);
    std::vector<float> pixels(5 * 32 * 32 * 3);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(static_cast<float>(i));
    const Tensor images = Tensor::from({5, 32, 32, 3}, pixels);
    const std::vector<Profile> whole = activation_profiles(*network, images),
                               parts = activation_profiles(*network, images, 2);
    ASSERT_EQ(whole.size(), 22u);  // the input and 21 layers (the softmax is none of the engine's)
    EXPECT_EQ(whole[0].name, "input");
    ASSERT_EQ(parts.size(), whole.size());
    for (std::size_t i = 0; i < whole.size(); ++i) {
        EXPECT_EQ(parts[i].name, whole[i].name);
        EXPECT_EQ(parts[i].count, whole[i].count);
        EXPECT_NEAR(parts[i].median, whole[i].median, 1e-5) << whole[i].name;
    }
    const auto conv = std::find_if(whole.begin(), whole.end(), [](const Profile& p) { return p.name == "conv_1"; });
    EXPECT_EQ(conv->count, 5 * 13 * 13 * 16);
    // A ReLU's zeros are those of the values that are not positive.
    const auto relu =
        std::find_if(whole.begin(), whole.end(), [](const Profile& p) { return p.name == "dense_act_0"; });
    EXPECT_GT(relu->zeros, 0);
    EXPECT_LT(relu->zeros, relu->count);
    EXPECT_EQ(weight_profiles(*network).size(), 6u + 1u + 6u * 2u);
}

TEST(FeatureMapPictures, StandardisedNineARow) {
    FeatureMaps maps;
    maps.layer = "conv_0";
    maps.height = 1, maps.width = 2, maps.channels = 10;
    maps.values.assign(20, 7.0f);                // equal values: 128
    maps.values[0] = 1, maps.values[10] = 3;     // channel 0: -1 and +1 deviations
    maps.values[9] = 0, maps.values[19] = 1e6f;  // channel 9, in the second row
    const TemporaryFolder folder;
    FigureFolder figures(folder.path());
    EXPECT_EQ(plot_feature_maps(figures, "maps", maps), have_gnuplot());
    EXPECT_THAT(lines(read_file(folder / "maps.csv")),
                ElementsAre("64,192,128,128,128,128,128,128,128,128,128,128,128,128,128,128,128,128",
                            "64,192,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0"));
}

/// Predictions of a class among two, with these scores for class 1.
Predictions two_classes(const std::vector<float>& scores, const std::vector<std::int32_t>& labels) {
    Predictions p;
    std::vector<float> logits;
    for (const float score : scores) {
        p.probabilities.insert(p.probabilities.end(), {1 - score, score});
        logits.insert(logits.end(), {1 - score, score});
    }
    p.labels = labels;
    const auto n = static_cast<std::int64_t>(labels.size());
    p.metrics.add(Tensor::from({n, 2}, logits), Tensor::from({n}, labels));
    return p;
}

TEST(FoldRocs, AreasAndBands) {
    const std::vector<std::int32_t> labels{0, 0, 1, 1};
    // Of the four pairs the first fold orders 3, the second all.
    const std::vector<ClassRoc> classes =
        class_rocs({two_classes({0.1f, 0.4f, 0.35f, 0.8f}, labels), two_classes({0.1f, 0.2f, 0.7f, 0.8f}, labels)});
    ASSERT_EQ(classes.size(), 2u);
    for (const ClassRoc& c : classes) {
        EXPECT_THAT(c.areas, ElementsAre(0.75, 1.0));
        EXPECT_DOUBLE_EQ(c.area().mean, 0.875);
        EXPECT_DOUBLE_EQ(c.area().deviation, 0.125);
        EXPECT_EQ(c.band.fpr.size(), 50u);
    }
    // At a rate of 0.0005 the first fold finds half of class 1, the second all.
    EXPECT_NEAR(classes[1].band.mean[0], 0.75, 1e-12);
    EXPECT_NEAR(classes[1].band.deviation[0], 0.25, 1e-12);
    EXPECT_EQ(areas_csv(classes), "class,mean,std,auc_0,auc_1\n0,0.875,0.125,0.75,1\n1,0.875,0.125,0.75,1\n");
    EXPECT_THROW(class_rocs({two_classes({0.1f, 0.2f}, {0, 1}), two_classes({0.1f, 0.2f}, {1, 0})}), Error);
    EXPECT_THROW(class_rocs({two_classes({0.1f, 0.2f}, {1, 1})}), Error);
    EXPECT_THROW(class_rocs({two_classes({0.1f, std::nanf("")}, {0, 1})}), Error);
}

TEST(Confusion, NamedRowsAndColumns) {
    EXPECT_EQ(confusion_csv({5, 1, 2, 4}, 2), "label,0,1\n0,5,1\n1,2,4\n");
    const TemporaryFolder folder;
    FigureFolder figures(folder.path());
    EXPECT_EQ(plot_confusion(figures, "c", {5, 1, 2, 4}, 2), have_gnuplot());
}

}  // namespace
}  // namespace bitloom
