#include "apps/plots/layer_plots.h"

#include <algorithm>

#include "apps/plots/csv.h"
#include "engine/error.h"

namespace bitloom {

bool plot_weights(FigureFolder& folder, const std::string& name, std::vector<LayerValues> layers) {
    std::sort(layers.begin(), layers.end(), [](const auto& a, const auto& b) { return a.name > b.name; });
    const std::vector<double> edges = linspace(-1.5, 1.5, 50);
    std::vector<std::vector<std::int64_t>> counts;
    std::string csv = "from,to";
    for (const LayerValues& layer : layers) {
        csv += "," + csv_text(layer.name);
        counts.push_back(histogram(layer.values, edges));
    }
    csv += "\n";
    for (std::size_t bin = 0; bin + 1 < edges.size(); ++bin) {
        csv += csv_number(edges[bin]) + "," + csv_number(edges[bin + 1]);
        for (const auto& layer : counts) csv += cat(",", layer[bin]);
        csv += "\n";
    }
    folder.write(name + ".csv", csv);
    std::string body =
        "set xrange [-1.5:1.5]\nset yrange [0:*]\nset xlabel 'Weights'\nset ylabel 'Number of Weights'\n"
        "set style fill solid 1 noborder\nset boxwidth 3.0/49\nset key top right\nset colorsequence podo\n";
    // The highest stack first; each lower one is drawn over it.
    const char* separator = "plot ";
    for (std::size_t top = layers.size(); top > 0; --top) {
        std::string sum;
        for (std::size_t i = 0; i < top; ++i) sum += cat(i ? "+" : "", "$", 3 + i);
        body += cat(separator, gnuplot_string(name + ".csv"), " skip 1 using (($1+$2)/2):(", sum, ") with boxes lc ",
                    top, " title ", gnuplot_string(layers[top - 1].name));
        separator = ", \\\n     ";
    }
    return folder.draw(name, body + "\n", {900, 600});
}

bool plot_profiles(FigureFolder& folder, const std::string& name, const std::vector<Profile>& profiles,
                   const std::string& x_label) {
    std::string csv = "layer,count,zeros,least,q1,median,q3,largest\n";
    std::string tics;
    for (std::size_t i = 0; i < profiles.size(); ++i) {
        const Profile& p = profiles[i];
        csv += cat(csv_text(p.name), ",", p.count, ",", p.zeros);
        for (const double value : {p.least, p.lower_quartile, p.median, p.upper_quartile, p.largest})
            csv += "," + (p.largest > 0 ? csv_number(value) : "");
        csv += "\n";
        tics += cat(i ? ", " : "", gnuplot_string(p.name), " ", i + 1);
    }
    folder.write(name + ".csv", csv);
    const std::string data = gnuplot_string(name + ".csv") + " skip 1 using ";
    const int height = 140 + 26 * static_cast<int>(profiles.size());
    return folder.draw(
        name,
        cat("set logscale x 2\nset format x '2^{%L}'\nset termoption enhanced\n"
            "set yrange [",
            profiles.size() + 1, ":0]\nset ytics scale 0 noenhanced (", tics, ")\nset xlabel ", gnuplot_string(x_label),
            "\nset grid xtics lc rgb '#dddddd'\nunset key\n",
            // Whiskers, the box between the quartiles, the median.
            "plot ", data, "4:($0+1):($8-$4):(0) with vectors nohead lc rgb '#184A45', \\\n     ", data,
            "5:($0+1):5:7:($0+0.7):($0+1.3) with boxxyerror fc rgb '#FC766A' fs solid 0.75 border lc rgb 'black', \\\n",
            "     ", data, "6:($0+0.7):(0):(0.6) with vectors nohead lc rgb 'black' lw 2\n"),
        {900, height});
}

}  // namespace bitloom
