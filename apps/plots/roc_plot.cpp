#include "apps/plots/roc_plot.h"

#include <algorithm>
#include <array>

#include "apps/common/text.h"
#include "apps/plots/csv.h"
#include "engine/error.h"

namespace bitloom {
namespace {

constexpr std::array<const char*, 10> digit_colours = {"#67001f", "#b2182b", "#d6604d", "#f4a582", "#fddbc7",
                                                       "#d1e5f0", "#92c5de", "#4393c3", "#2166ac", "#053061"};

std::string colour_of(const ClassRoc& c) {
    return gnuplot_string(digit_colours[static_cast<std::size_t>(c.label) % digit_colours.size()]);
}

std::string bands_csv(const std::vector<ClassRoc>& classes) {
    std::string text = "fpr";
    for (const ClassRoc& c : classes)
        for (const char* column : {"mean", "std", "lower", "upper"}) text += cat(",", column, "_", c.label);
    text += "\n";
    for (std::size_t i = 0; i < classes.front().band.fpr.size(); ++i) {
        text += csv_number(classes.front().band.fpr[i]);
        for (const ClassRoc& c : classes)
            for (const auto& column : {c.band.mean, c.band.deviation, c.band.lower, c.band.upper})
                text += "," + csv_number(column[i]);
        text += "\n";
    }
    return text;
}

}  // namespace

std::vector<ClassRoc> class_rocs(const std::vector<Predictions>& folds) {
    require(!folds.empty(), "roc: no predictions");
    std::vector<ClassRoc> classes;
    for (const Predictions& fold : folds)
        require(fold.labels == folds.front().labels && fold.classes() == folds.front().classes(),
                "roc: the folds were tested on different images");
    for (int label = 0; label < folds.front().classes(); ++label) {
        const std::vector<std::uint8_t> positive = folds.front().is_class(label);
        const auto samples = std::count(positive.begin(), positive.end(), 1);
        if (samples == 0 || samples == std::ssize(positive)) continue;
        ClassRoc c;
        c.label = label;
        for (const Predictions& fold : folds) {
            c.curves.push_back(roc_curve(fold.scores(label), positive));
            c.areas.push_back(area_under(c.curves.back()));
        }
        c.band = roc_band(c.curves);
        classes.push_back(std::move(c));
    }
    require(!classes.empty(), "roc: the test images are all of one class");
    return classes;
}

bool plot_roc_bands(FigureFolder& folder, const std::string& name, const std::vector<ClassRoc>& classes,
                    const std::vector<std::string>& words) {
    folder.write(name + ".csv", bands_csv(classes));
    std::string body =
        "set logscale x\nset xrange [0.0005:1]\nset yrange [0.2:1.2]\nset xlabel 'False positive rate'\n"
        "set ylabel 'True positive rate'\nset grid lc rgb '#dddddd'\nset key bottom right\n";
    for (std::size_t i = 0; i < words.size(); ++i)
        body += cat("set label ", i + 1, " ", gnuplot_string(words[i]), " at graph 0.03, graph ",
                    0.95 - 0.055 * static_cast<double>(i), " left\n");
    const std::string data = gnuplot_string(name + ".csv");
    const char* separator = "plot ";
    for (std::size_t i = 0; i < classes.size(); ++i) {
        const std::size_t mean = 2 + 4 * i;
        body += cat(separator, data, " skip 1 using 1:", mean + 2, ":", mean + 3, " with filledcurves fc rgb ",
                    colour_of(classes[i]), " fs transparent solid 0.3 noborder notitle");
        separator = ", \\\n     ";
    }
    for (std::size_t i = 0; i < classes.size(); ++i) {
        const MeanAndDeviation area = classes[i].area();
        body += cat(separator, data, " skip 1 using 1:", 2 + 4 * i, " with lines lw 1.5 lc rgb ", colour_of(classes[i]),
                    " title ",
                    gnuplot_string(
                        cat(classes[i].label, " (AUC = ", fixed(area.mean, 4), " ± ", fixed(area.deviation, 4), ")")));
    }
    return folder.draw(name, body + "\n", {900, 640});
}

bool plot_roc_curves(FigureFolder& folder, const std::string& name, const std::vector<ClassRoc>& classes) {
    std::string csv = "class,fpr,tpr\n";
    for (const ClassRoc& c : classes)
        for (std::size_t i = 0; i < c.curves.front().fpr.size(); ++i)
            csv +=
                cat(c.label, ",", csv_number(c.curves.front().fpr[i]), ",", csv_number(c.curves.front().tpr[i]), "\n");
    folder.write(name + ".csv", csv);
    std::string body =
        "set logscale y\nset xrange [0.2:1]\nset yrange [0.0005:1]\nset xlabel 'True positive rate'\n"
        "set ylabel 'False positive rate'\nset grid lc rgb '#dddddd'\nset key top left\n";
    const char* separator = "plot ";
    for (const ClassRoc& c : classes) {
        // Rates of 0 have no place on the axis; their line comes from below it.
        body += cat(separator, gnuplot_string(name + ".csv"), " skip 1 using ($1 == ", c.label,
                    " ? $3 : NaN):($2 > 1e-6 ? $2 : 1e-6) with lines lw 1.5 lc rgb ", colour_of(c), " title ",
                    gnuplot_string(cat(c.label, " (AUC = ", fixed(100 * c.areas.front(), 2), " %)")));
        separator = ", \\\n     ";
    }
    return folder.draw(name, body + "\n", {900, 640});
}

std::string areas_csv(const std::vector<ClassRoc>& classes) {
    std::string text = "class,mean,std";
    for (std::size_t fold = 0; fold < classes.front().areas.size(); ++fold) text += cat(",auc_", fold);
    for (const ClassRoc& c : classes) {
        text += cat("\n", c.label, ",", csv_number(c.area().mean), ",", csv_number(c.area().deviation));
        for (const double area : c.areas) text += "," + csv_number(area);
    }
    return text + "\n";
}

}  // namespace bitloom
