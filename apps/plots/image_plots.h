#pragma once
// Feature maps and confusion matrices as pictures (svhn-qkeras.md, sections 2.5 and 6).

#include <cstdint>
#include <string>
#include <vector>

#include "apps/common/gnuplot.h"
#include "apps/plots/layer_values.h"

namespace bitloom {

/// Nine maps a row, each standardised: minus its mean, by its standard deviation, times 64, plus 128, cut to 0..255 and
/// truncated. Places without a map are 0. A map of equal values is 128 throughout. Rows of the picture as `<name>.csv`.
bool plot_feature_maps(FigureFolder& folder, const std::string& name, const FeatureMaps& maps);

/// The confusion matrix as a heat map, from a CSV with named rows and columns.
bool plot_confusion(FigureFolder& folder, const std::string& name, const std::vector<std::int64_t>& counts,
                    int classes);

}  // namespace bitloom
