#include "apps/plots/box_plot.h"

#include <algorithm>
#include <cmath>

#include "apps/common/fold_scores.h"
#include "apps/common/roc.h"
#include "apps/plots/csv.h"
#include "engine/error.h"

namespace bitloom {
namespace {

std::string csv_of(const BoxPlot& plot) {
    std::string text = "position,label,series,count,mean,std,whisker_low,q1,median,q3,whisker_high\n";
    for (const BoxSeries& series : plot.series)
        for (std::size_t i = 0; i < series.values.size(); ++i) {
            if (series.values[i].empty()) continue;
            const BoxStatistics box = box_statistics(series.values[i]);
            text += cat(i + 1, ",", csv_text(plot.labels[i]), ",", csv_text(series.name), ",", box.count);
            for (const double value : {box.mean, box.deviation, box.whisker_low, box.lower_quartile, box.median,
                                       box.upper_quartile, box.whisker_high})
                text += "," + csv_number(value);
            text += "\n";
        }
    return text;
}

// The least value of all, in steps of 0.05, where it lies below the axis.
double bottom_of(const BoxPlot& plot) {
    double least = plot.least;
    for (const BoxSeries& series : plot.series)
        for (const std::vector<double>& values : series.values)
            for (const double value : values)
                if (value < least) least = std::floor(value * 20 - 0.5) / 20;
    return least;
}

}  // namespace

BoxStatistics box_statistics(const std::vector<double>& values) {
    BoxStatistics box;
    box.count = std::ssize(values);
    box.lower_quartile = quantile(values, 0.25);
    box.median = quantile(values, 0.5);
    box.upper_quartile = quantile(values, 0.75);
    const MeanAndDeviation m = mean_and_deviation(values);
    box.mean = m.mean;
    box.deviation = m.deviation;
    const double reach = 1.5 * (box.upper_quartile - box.lower_quartile);
    box.whisker_low = box.lower_quartile;
    box.whisker_high = box.upper_quartile;
    for (const double value : values) {
        if (value >= box.lower_quartile - reach) box.whisker_low = std::min(box.whisker_low, value);
        if (value <= box.upper_quartile + reach) box.whisker_high = std::max(box.whisker_high, value);
    }
    return box;
}

bool plot_boxes(FigureFolder& folder, const std::string& name, const BoxPlot& plot) {
    folder.write(name + ".csv", csv_of(plot));
    const double bottom = bottom_of(plot), n = static_cast<double>(plot.labels.size());
    std::string body = cat("set xrange [0:", std::max(n + 1, plot.divider.value_or(0) + 1), "]\nset yrange [", bottom,
                           ":", plot.most, "]\nset ylabel ", gnuplot_string(plot.y_label), "\nset xlabel ",
                           gnuplot_string(plot.x_label), "\nset xtics scale 0 rotate by 30 right (");
    for (std::size_t i = 0; i < plot.labels.size(); ++i)
        body += cat(i ? ", " : "", gnuplot_string(plot.labels[i]), " ", i + 1);
    body +=
        ")\nset grid ytics lc rgb '#dddddd'\nset key top center\nset style fill solid 0.75 border lt -1\n"
        "set boxwidth 0.5\n";
    if (plot.divider)
        body += cat("set arrow 1 from ", *plot.divider, ", graph 0 to ", *plot.divider,
                    ", graph 1 nohead lc rgb 'black'\n");
    for (std::size_t i = 0; i < plot.words.size(); ++i)
        body += cat("set label ", i + 1, " ", gnuplot_string(plot.words[i]), " at graph 0.03, graph ",
                    0.95 - 0.05 * static_cast<double>(i), " left\n");
    const char* separator = "plot ";
    for (const BoxSeries& series : plot.series) {
        const std::string rows = cat(gnuplot_string(name + ".csv"), " skip 1 using (strcol(3) eq ",
                                     gnuplot_string(series.name), " ? $1 : NaN)");
        body += cat(separator, rows, ":8:7:11:10 with candlesticks whiskerbars 0.5 lc rgb ",
                    gnuplot_string(series.colour), " title ", gnuplot_string(series.name), ", \\\n     ", rows,
                    ":9:9:9:9 with candlesticks lt -1 lw 2 notitle");
        separator = ", \\\n     ";
    }
    return folder.draw(name, body + "\n", {1000, 560});
}

}  // namespace bitloom
