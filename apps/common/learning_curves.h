#pragma once
// Learning curves of one or several runs as an SVG, drawn by gnuplot.

#include <string>
#include <vector>

namespace bitloom {

/// What one run (one fold) measured, epoch by epoch. The validation series are empty where there was no validation set.
struct LearningCurve {
    std::string name;  ///< in the legend, and of its data file: letters, digits, '_' and '-'
    std::vector<double> loss, accuracy, val_loss, val_accuracy;
};

/// Draws two stacked panels with logarithmic y, loss and 1 - accuracy over epochs, training solid and validation
/// dashed, one colour a run (svhn-qkeras.md, section 6). Writes `<folder>/learning_curves.svg`, and beside it the
/// script `learning_curves.gp` and one `curve_<name>.dat` a run, from which `gnuplot learning_curves.gp` draws it
/// again. True where the SVG was written. Without gnuplot, or where it fails, one line on stderr says so: curves are no
/// reason to lose a run. Throws Error where the folder cannot be written.
bool plot_learning_curves(const std::string& folder, const std::vector<LearningCurve>& curves);

}  // namespace bitloom
