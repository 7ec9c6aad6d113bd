#pragma once
// What k-fold cross-validation measured: a score a fold, their mean and spread, in the forms a run leaves behind.

#include <cstdint>
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

}  // namespace bitloom
