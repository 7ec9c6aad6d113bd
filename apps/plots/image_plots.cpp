#include "apps/plots/image_plots.h"

#include <algorithm>
#include <cmath>

#include "apps/common/fold_scores.h"
#include "apps/common/predictions.h"
#include "engine/error.h"

namespace bitloom {
namespace {

constexpr std::int64_t maps_a_row = 9;

/// One map as 0..255, as numpy's uint8 of the clipped values.
std::vector<int> standardised(const FeatureMaps& maps, std::int64_t channel) {
    std::vector<double> values;
    for (std::int64_t i = channel; i < std::ssize(maps.values); i += maps.channels)
        values.push_back(maps.values[static_cast<std::size_t>(i)]);
    const MeanAndDeviation m = mean_and_deviation(values);
    std::vector<int> levels;
    for (const double value : values) {
        const double standard = m.deviation > 0 ? (value - m.mean) / m.deviation : 0;
        levels.push_back(static_cast<int>(std::clamp(standard * 64 + 128, 0.0, 255.0)));
    }
    return levels;
}

}  // namespace

bool plot_feature_maps(FigureFolder& folder, const std::string& name, const FeatureMaps& maps) {
    const std::int64_t rows = (maps.channels + maps_a_row - 1) / maps_a_row, width = maps_a_row * maps.width;
    std::vector<int> canvas(static_cast<std::size_t>(rows * maps.height * width), 0);
    for (std::int64_t c = 0; c < maps.channels; ++c) {
        const std::vector<int> levels = standardised(maps, c);
        for (std::int64_t y = 0; y < maps.height; ++y)
            std::copy_n(levels.begin() + y * maps.width, maps.width,
                        canvas.begin() + (c / maps_a_row * maps.height + y) * width + c % maps_a_row * maps.width);
    }
    std::string csv;
    for (std::size_t i = 0; i < canvas.size(); ++i)
        csv += cat(canvas[i], (i + 1) % static_cast<std::size_t>(width) == 0 ? "\n" : ",");
    folder.write(name + ".csv", csv);
    const double aspect = static_cast<double>(rows * maps.height) / static_cast<double>(width);
    return folder.draw(name,
                       cat("set yrange [*:*] reverse noextend\nset xrange [*:*] noextend\nunset key\nunset tics\n"
                           "unset colorbox\nset cbrange [0:255]\nset palette gray\nset size ratio ",
                           aspect, "\nset title ", gnuplot_string(maps.layer), "\nplot ", gnuplot_string(name + ".csv"),
                           " matrix with image\n"),
                       {900, 90 + static_cast<int>(810 * aspect)});
}

bool plot_confusion(FigureFolder& folder, const std::string& name, const std::vector<std::int64_t>& counts,
                    int classes) {
    folder.write(name + ".csv", confusion_csv(counts, classes));
    const std::string data = gnuplot_string(name + ".csv") + " matrix rowheaders columnheaders";
    return folder.draw(name,
                       cat("set yrange [*:*] reverse noextend\nset xrange [*:*] noextend\nunset key\n"
                           "set xlabel 'Predicted label'\nset ylabel 'True label'\nset cbrange [0:*]\n"
                           "set palette defined (0 '#ffffff', 1 '#184A45')\nset size ratio 1\nset tics scale 0\n",
                           "stats ", data, " using 3 nooutput\n", "plot ", data, " with image pixels, \\\n     ", data,
                           " using 1:2:(sprintf('%d', $3)):($3 > STATS_max/2 ? 0xffffff : 0x000000) with labels "
                           "tc rgb variable font ',10'\n"),
                       {760, 700});
}

}  // namespace bitloom
