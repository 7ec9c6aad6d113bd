#pragma once
// Drawings by gnuplot.

#include <string>

namespace bitloom {

/// Writes `<folder>/<name>.gp` and has gnuplot run it there; it is to draw `<name>.svg`. True where it did. Without gnuplot, or
/// where it fails, one line on stderr says that there is no `what`: drawings are no reason to lose a run. Throws Error where the
/// folder cannot be written.
bool run_gnuplot(const std::string& folder, const std::string& name, const std::string& script, const std::string& what);

}  // namespace bitloom
