#pragma once
// Cells of comma-separated tables.

#include <string>

namespace bitloom {

/// The shortest text that reads back as the same number; empty for NaN.
std::string csv_number(double value);
/// Text that holds commas, quotes or line ends in double quotes, other text as it is.
std::string csv_text(const std::string& text);

}  // namespace bitloom
