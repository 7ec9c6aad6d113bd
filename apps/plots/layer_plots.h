#pragma once
// Weights and activations, layer by layer, drawn (svhn-qkeras.md, section 6).

#include <cstdint>
#include <string>
#include <vector>

#include "apps/common/gnuplot.h"
#include "apps/plots/layer_values.h"

namespace bitloom {

/// Values of a layer for plots and tables.
struct LayerValues {
    std::string name;
    std::vector<float> values;
};

/// Stacked filled histograms of the layers with 49 bins from -1.5 to 1.5, in reverse alphabetical order of their names
/// from the bottom up. `<name>.csv` has a row a bin and a column a layer in that order.
bool plot_weights(FigureFolder& folder, const std::string& name, std::vector<LayerValues> layers);

/// A horizontal box a profile on a logarithmic axis to the base 2, the first at the top: box between the quartiles,
/// whiskers to the least and the largest magnitude. `<name>.csv` has a row a profile; a layer of zeros only has no box.
bool plot_profiles(FigureFolder& folder, const std::string& name, const std::vector<Profile>& profiles,
                   const std::string& x_label);

}  // namespace bitloom
