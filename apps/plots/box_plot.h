#pragma once
// Box plots as matplotlib draws them (svhn-qkeras.md, section 6).

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "apps/common/gnuplot.h"

namespace bitloom {

/// Quartiles are linear between neighbours; whiskers end at the last value within 1.5 interquartile ranges of the box.
struct BoxStatistics {
    std::int64_t count = 0;
    double mean = 0, deviation = 0;  ///< population
    double whisker_low = 0, lower_quartile = 0, median = 0, upper_quartile = 0, whisker_high = 0;
};
/// Throws Error for no values.
BoxStatistics box_statistics(const std::vector<double>& values);

struct BoxSeries {
    std::string name;    ///< in the legend
    std::string colour;  ///< "#rrggbb"
    /// By position; an empty one draws nothing there.
    std::vector<std::vector<double>> values;
};

struct BoxPlot {
    std::vector<std::string> labels;  ///< of the positions 1, 2, ...
    std::vector<BoxSeries> series;    ///< drawn over each other at the same positions
    std::string x_label, y_label;
    double least = 0, most = 1;      ///< of the vertical axis; values below widen it
    std::optional<double> divider;   ///< position of a vertical line
    std::vector<std::string> words;  ///< lines within the plot
};

/// Draws the figure `name`, with `<name>.csv`: a row a box. Boxes are 0.5 wide, medians black, outliers left out.
bool plot_boxes(FigureFolder& folder, const std::string& name, const BoxPlot& plot);

}  // namespace bitloom
