#include "apps/common/history.h"

#include <charconv>
#include <cmath>
#include <sstream>

#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/flag_values.h"

namespace bitloom {
namespace {

std::vector<std::string> cells_of(const std::string& line) {
    std::vector<std::string> cells(1);
    for (const char c : line) {
        if (c == ',')
            cells.emplace_back();
        else if (c != '\r')
            cells.back() += c;
    }
    return cells;
}

}  // namespace

LearningCurve read_history(const std::string& path, const std::string& name) {
    LearningCurve curve;
    curve.name = name;
    std::istringstream in(read_file(path));
    std::string line;
    std::getline(in, line);
    std::vector<std::vector<double>*> series;
    for (const std::string& column : cells_of(line)) {
        series.push_back(column == "loss"           ? &curve.loss
                         : column == "accuracy"     ? &curve.accuracy
                         : column == "val_loss"     ? &curve.val_loss
                         : column == "val_accuracy" ? &curve.val_accuracy
                                                    : nullptr);
    }
    for (int row = 2; std::getline(in, line); ++row) {
        const std::vector<std::string> cells = cells_of(line);
        require(cells.size() == series.size(), path, ":", row, ": ", cells.size(), " values, expected ", series.size());
        for (std::size_t i = 0; i < cells.size(); ++i) {
            if (!series[i] || cells[i].empty()) continue;
            double value = 0;
            const char* end = cells[i].data() + cells[i].size();
            const auto [stop, error] = std::from_chars(cells[i].data(), end, value);
            require(error == std::errc() && stop == end, path, ":", row, ": ", in_quotes(cells[i]), " is no number");
            series[i]->push_back(value);
        }
    }
    return curve;
}

}  // namespace bitloom
