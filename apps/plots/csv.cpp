#include "apps/plots/csv.h"

#include <cmath>

#include "engine/io/flag_values.h"

namespace bitloom {

std::string csv_number(double value) { return std::isnan(value) ? "" : to_text(FlagValue(value)); }

std::string csv_text(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string quoted = "\"";
    for (const char c : text) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + "\"";
}

}  // namespace bitloom
