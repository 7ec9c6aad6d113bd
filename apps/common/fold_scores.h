#pragma once
// What k-fold cross-validation measured: a score a fold, their mean and spread, in the forms a run leaves behind.

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "apps/common/report.h"

namespace bitloom {

/// Accuracies are fractions of 1, losses natural-log cross-entropies.
struct FoldScore {
    int fold = 0;
    double val_loss = 0, val_accuracy = 0;  ///< of the weights that were tested
    double test_loss = 0, test_accuracy = 0;
    std::int64_t epochs = 0;        ///< run
    std::int64_t tested_epoch = 0;  ///< whose weights were tested, from 1
    std::string stop_reason;        ///< empty where all epochs ran
    /// Share of zeros among the weights of pruned layers, as the network computes with them; NaN where none is pruned.
    double zeros = std::numeric_limits<double>::quiet_NaN();
    int classes = 0;
    std::vector<std::int64_t> confusion;  ///< on the test set, [true class, predicted class]
};

/// Mean and population standard deviation (divided by n, as the published figures are).
struct MeanAndDeviation {
    double mean = 0, deviation = 0;
};
MeanAndDeviation mean_and_deviation(const std::vector<double>& values);

/// scores.json of a fold. `read_score` throws Error in one line for a file that is not one.
void write_score(const std::string& path, const FoldScore& score);
FoldScore read_score(const std::string& path);

/// One row a fold, and the rows mean and std.
ReportTable fold_table(const std::vector<FoldScore>& scores);
/// The table in aligned columns, for the terminal.
std::string to_text(const ReportTable& table);
/// folds.csv: the scores in full precision, one row a fold.
std::string fold_csv(const std::vector<FoldScore>& scores);
/// summary.json: scores, mean and standard deviation of each column.
std::string fold_summary_json(const std::vector<FoldScore>& scores);
/// "test accuracy: 94.12 ± 0.31 % (mean ± population standard deviation over 10 folds)"
std::string headline(const std::vector<FoldScore>& scores);

/// The folds of one of several models (bit widths).
struct ModelScores {
    std::string name;
    std::vector<FoldScore> scores;
};
/// One row a model: means and standard deviations over its folds.
ReportTable model_table(const std::vector<ModelScores>& models);
/// fold_csv with the model's name in front of every row.
std::string model_csv(const std::vector<ModelScores>& models);
/// {"models": {name: what fold_summary_json writes}}
std::string model_summary_json(const std::vector<ModelScores>& models);

}  // namespace bitloom
