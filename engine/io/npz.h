#pragma once
// NumPy's .npz archives, for tools that read results with numpy.load.

#include <string>
#include <utility>
#include <vector>

namespace bitloom {

/// Writes one-dimensional float64 arrays by name ("arr_0"), atomically. Throws Error naming the path.
void write_npz(const std::string& path, const std::vector<std::pair<std::string, std::vector<double>>>& arrays);

}  // namespace bitloom
