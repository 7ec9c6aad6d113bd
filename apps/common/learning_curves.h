#pragma once
// Learning curves of one or several runs, drawn by gnuplot.

#include <string>
#include <vector>

#include "apps/common/gnuplot.h"

namespace bitloom {

/// What one run (one fold) measured, epoch by epoch. The validation series are empty where there was no validation set.
struct LearningCurve {
    std::string name;  ///< in the legend, and of its data file: letters, digits, '_' and '-'
    std::vector<double> loss, accuracy, val_loss, val_accuracy;
};

/// Draws two stacked panels with logarithmic y, loss and 1 - accuracy over epochs, training solid and validation
/// dashed, one colour a run (svhn-qkeras.md, section 6): the figure `name` (apps/common/gnuplot.h) and one
/// `curve_<run>.dat` a run. True where it was drawn, false where there is nothing to draw or no gnuplot: curves are no
/// reason to lose a run. Throws Error where the folder cannot be written.
bool plot_learning_curves(FigureFolder& folder, const std::string& name, const std::vector<LearningCurve>& curves);
/// The same as `learning_curves` of a run's folder.
bool plot_learning_curves(const std::string& folder, const std::vector<LearningCurve>& curves);

}  // namespace bitloom
