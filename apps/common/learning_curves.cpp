#include "apps/common/learning_curves.h"

#include <algorithm>
#include <cmath>
#include <sstream>

namespace bitloom {
namespace {

// Zero has no place on a logarithmic axis: smaller values are drawn here.
constexpr double floor_of_axis = 1e-4;

std::string data_file(const LearningCurve& curve) { return "curve_" + curve.name + ".dat"; }

double value_or_nan(const std::vector<double>& series, std::size_t i) {
    return i < series.size() ? series[i] : std::nan("");
}

std::string data_of(const LearningCurve& curve) {
    std::ostringstream out;
    out.precision(9);
    out << "# epoch loss 1-accuracy val_loss 1-val_accuracy\n";
    for (std::size_t i = 0; i < curve.loss.size(); ++i) {
        out << i + 1 << ' ' << curve.loss[i] << ' ' << 1 - value_or_nan(curve.accuracy, i) << ' '
            << value_or_nan(curve.val_loss, i) << ' ' << 1 - value_or_nan(curve.val_accuracy, i) << '\n';
    }
    return out.str();
}

// The plot clauses of one panel: column `column` of every run, and column + 2 for validation where there is one.
std::string clauses(const std::vector<LearningCurve>& curves, int column, bool legend) {
    std::ostringstream out;
    const char* separator = "plot ";
    int colour = 1;
    for (const LearningCurve& curve : curves) {
        const auto clause = [&](int c, const char* dash, const std::string& title) {
            out << separator << gnuplot_string(data_file(curve)) << " using 1:(max2($" << c << ")) with linespoints lc "
                << colour << " dt " << dash << " pt 7 ps 0.4 " << title;
            separator = ", \\\n     ";
        };
        clause(column, "1", legend ? "title " + gnuplot_string(curve.name) : "notitle");
        if (!curve.val_loss.empty()) clause(column + 2, "2", "notitle");
        ++colour;
    }
    out << '\n';
    return out.str();
}

std::string script_of(const std::vector<LearningCurve>& curves) {
    std::size_t epochs = 1, longest_name = 6;
    for (const LearningCurve& curve : curves) {
        epochs = std::max(epochs, curve.loss.size());
        longest_name = std::max(longest_name, curve.name.size());
    }
    std::ostringstream out;
    out << "set datafile separator whitespace\nset colorsequence podo\n"
        << "max2(x) = x > " << floor_of_axis << " ? x : " << floor_of_axis << "\n"
        << "set xrange [0.5:" << static_cast<double>(epochs) + 0.5 << "]\n"
        << "set xtics 1," << (epochs + 9) / 10 << "\n"
        << "set logscale y\nset grid xtics ytics mytics lc rgb '#cccccc', lc rgb '#e8e8e8'\n"
        << "set lmargin 11\nset rmargin " << longest_name + 8 << "\nset key outside right top\n"
        << "set multiplot layout 2,1\n"
        << "set ylabel 'loss (cross-entropy)'\n"
        << clauses(curves, 2, true)
        << "set ylabel '1 - accuracy'\nset xlabel 'epoch (solid: training, dashed: validation)'\n"
        << clauses(curves, 3, false) << "unset multiplot\n";
    return out.str();
}

}  // namespace

bool plot_learning_curves(FigureFolder& folder, const std::string& name, const std::vector<LearningCurve>& curves) {
    std::vector<LearningCurve> drawn;
    for (const LearningCurve& curve : curves)
        if (!curve.loss.empty()) drawn.push_back(curve);
    if (drawn.empty()) return false;
    for (const LearningCurve& curve : drawn) folder.write(data_file(curve), data_of(curve));
    return folder.draw(name, script_of(drawn), {900, 760});
}

bool plot_learning_curves(const std::string& folder, const std::vector<LearningCurve>& curves) {
    FigureFolder figures(folder);
    return plot_learning_curves(figures, "learning_curves", curves);
}

}  // namespace bitloom
