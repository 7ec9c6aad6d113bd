#pragma once
// Receiver operating characteristics of the ten digits, one against the rest (svhn-qkeras.md, section 6).

#include <string>
#include <vector>

#include "apps/common/fold_scores.h"
#include "apps/common/gnuplot.h"
#include "apps/common/predictions.h"
#include "apps/common/roc.h"

namespace bitloom {

/// One class against the rest, over the folds.
struct ClassRoc {
    int label = 0;
    std::vector<RocCurve> curves;  ///< a fold each
    std::vector<double> areas;     ///< a fold each
    RocBand band;
    MeanAndDeviation area() const { return mean_and_deviation(areas); }
};
/// The classes of which there are samples and of which not all samples are. Throws Error where folds have other images.
std::vector<ClassRoc> class_rocs(const std::vector<Predictions>& folds);

/// Mean curves with bands of a standard deviation over the folds: `<name>.csv` has mean, std, lower and upper of every
/// class at the 50 false positive rates. `words` are lines in the plot.
bool plot_roc_bands(FigureFolder& folder, const std::string& name, const std::vector<ClassRoc>& classes,
                    const std::vector<std::string>& words);
/// The curves of the first fold, false over true positive rate: `<name>.csv` has a row a point.
bool plot_roc_curves(FigureFolder& folder, const std::string& name, const std::vector<ClassRoc>& classes);

/// A row a class: mean area, its standard deviation, the folds' areas.
std::string areas_csv(const std::vector<ClassRoc>& classes);

}  // namespace bitloom
