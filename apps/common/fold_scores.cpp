#include "apps/common/fold_scores.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "apps/common/text.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/json_values.h"

namespace bitloom {
namespace {

using Json = nlohmann::ordered_json;

struct Column {
    const char* name;
    double FoldScore::*value;
};
constexpr Column columns[] = {{"val_loss", &FoldScore::val_loss},
                              {"val_accuracy", &FoldScore::val_accuracy},
                              {"test_loss", &FoldScore::test_loss},
                              {"test_accuracy", &FoldScore::test_accuracy}};

std::vector<double> column_of(const std::vector<FoldScore>& scores, double FoldScore::*value) {
    std::vector<double> values;
    for (const FoldScore& score : scores) values.push_back(score.*value);
    return values;
}

Json json_of(const FoldScore& score) {
    Json json{{"fold", score.fold}};
    for (const Column& column : columns) json[column.name] = score.*column.value;
    json["epochs"] = score.epochs;
    json["tested_epoch"] = score.tested_epoch;
    json["stop_reason"] = score.stop_reason;
    json["classes"] = score.classes;
    json["confusion"] = score.confusion;
    json["zeros"] = std::isnan(score.zeros) ? Json() : Json(score.zeros);
    return json;
}

bool any_pruned(const std::vector<FoldScore>& scores) {
    return std::any_of(scores.begin(), scores.end(), [](const FoldScore& score) { return !std::isnan(score.zeros); });
}

Json summary_of(const std::vector<FoldScore>& scores) {
    Json json{{"folds", Json::array()}, {"standard_deviation", "population (ddof 0)"}};
    for (const FoldScore& score : scores) json["folds"].push_back(json_of(score));
    for (const Column& column : columns) {
        const MeanAndDeviation m = mean_and_deviation(column_of(scores, column.value));
        json["mean"][column.name] = m.mean;
        json["std"][column.name] = m.deviation;
    }
    return json;
}

}  // namespace

MeanAndDeviation mean_and_deviation(const std::vector<double>& values) {
    MeanAndDeviation result;
    if (values.empty()) return result;
    const double n = static_cast<double>(values.size());
    for (const double v : values) result.mean += v / n;
    double squares = 0;
    for (const double v : values) squares += (v - result.mean) * (v - result.mean);
    result.deviation = std::sqrt(squares / n);
    return result;
}

void write_score(const std::string& path, const FoldScore& score) {
    write_file_atomically(path, json_of(score).dump(2) + "\n");
}

namespace {
int small_integer(const Json& json) {
    const std::int64_t value = integer_from_json(json);
    require(value >= 0 && value <= 1 << 20, "needs an integer from 0 to ", 1 << 20, ", got ", value);
    return static_cast<int>(value);
}
}  // namespace

FoldScore read_score(const std::string& path) {
    FoldScore score;
    try {
        const Json json = json_from_text<Json>(read_file(path));
        score.fold = small_integer(json.at("fold"));
        for (const Column& column : columns) json.at(column.name).get_to(score.*column.value);
        score.epochs = integer_from_json(json.at("epochs"));
        score.tested_epoch = integer_from_json(json.at("tested_epoch"));
        json.at("stop_reason").get_to(score.stop_reason);
        score.classes = small_integer(json.at("classes"));
        score.confusion = integers_from_json(json.at("confusion"));
        if (json.contains("zeros") && !json["zeros"].is_null()) json["zeros"].get_to(score.zeros);
    } catch (const std::exception& error) {
        fail(path, ": not the scores of a fold: ", error.what());
    }
    const auto classes = static_cast<std::size_t>(score.classes);
    require(score.confusion.size() == classes * classes, path, ": not the scores of a fold: ", score.classes,
            " classes, but a confusion matrix of ", score.confusion.size(), " entries");
    return score;
}

ReportTable fold_table(const std::vector<FoldScore>& scores) {
    ReportTable table;
    table.header = {"fold", "val loss", "val accuracy", "test loss", "test accuracy", "epochs"};
    const bool pruned = any_pruned(scores);
    if (pruned) table.header.push_back("zeros");
    for (const FoldScore& s : scores) {
        table.rows.push_back({cat(s.fold), fixed(s.val_loss, 4), fixed(s.val_accuracy, 4), fixed(s.test_loss, 4),
                              fixed(s.test_accuracy, 4), cat(s.epochs)});
        if (pruned) table.rows.back().push_back(fixed(s.zeros, 4));
    }
    std::vector<std::string> mean{"mean"}, deviation{"std"};
    for (const Column& column : columns) {
        const MeanAndDeviation m = mean_and_deviation(column_of(scores, column.value));
        mean.push_back(fixed(m.mean, 4));
        deviation.push_back(fixed(m.deviation, 4));
    }
    mean.emplace_back();
    deviation.emplace_back();
    if (pruned) {
        const MeanAndDeviation m = mean_and_deviation(column_of(scores, &FoldScore::zeros));
        mean.push_back(fixed(m.mean, 4));
        deviation.push_back(fixed(m.deviation, 4));
    }
    table.footer = {mean, deviation};
    return table;
}

std::string to_text(const ReportTable& table) {
    std::vector<std::size_t> widths(table.header.size(), 0);
    const auto measure = [&](const std::vector<std::string>& row) {
        for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    };
    measure(table.header);
    for (const auto& row : table.rows) measure(row);
    for (const auto& row : table.footer) measure(row);
    std::string text;
    const auto print = [&](const std::vector<std::string>& row) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i)
            line += std::string(i == 0 ? 0 : 2, ' ') + std::string(widths[i] - row[i].size(), ' ') + row[i];
        line.erase(line.find_last_not_of(' ') + 1);
        text += line + "\n";
    };
    print(table.header);
    for (const auto& row : table.rows) print(row);
    for (const auto& row : table.footer) print(row);
    return text;
}

std::string fold_csv(const std::vector<FoldScore>& scores) {
    std::ostringstream out;
    out.precision(17);
    out << "fold";
    for (const Column& column : columns) out << ',' << column.name;
    out << ",epochs,tested_epoch,stop_reason,zeros\n";
    for (const FoldScore& score : scores) {
        out << score.fold;
        for (const Column& column : columns) out << ',' << score.*column.value;
        out << ',' << score.epochs << ',' << score.tested_epoch << ",\"" << score.stop_reason << "\",";
        if (!std::isnan(score.zeros)) out << score.zeros;
        out << '\n';
    }
    return out.str();
}

std::string fold_summary_json(const std::vector<FoldScore>& scores) { return summary_of(scores).dump(2) + "\n"; }

std::string headline(const std::vector<FoldScore>& scores) {
    const MeanAndDeviation m = mean_and_deviation(column_of(scores, &FoldScore::test_accuracy));
    return cat("test accuracy: ", fixed(100 * m.mean, 2), " ± ", fixed(100 * m.deviation, 2),
               " % (mean ± population standard deviation over ", scores.size(),
               scores.size() == 1 ? " fold)" : " folds)");
}

ReportTable model_table(const std::vector<ModelScores>& models) {
    ReportTable table;
    table.header = {"model", "folds", "val accuracy", "std", "test accuracy", "std", "test loss", "std", "epochs"};
    const bool pruned = std::any_of(models.begin(), models.end(), [](const auto& m) { return any_pruned(m.scores); });
    if (pruned) table.header.push_back("zeros");
    for (const ModelScores& model : models) {
        std::vector<std::string> row{model.name, cat(model.scores.size())};
        for (const auto value : {&FoldScore::val_accuracy, &FoldScore::test_accuracy, &FoldScore::test_loss}) {
            const MeanAndDeviation m = mean_and_deviation(column_of(model.scores, value));
            row.push_back(fixed(m.mean, 4));
            row.push_back(fixed(m.deviation, 4));
        }
        double epochs = 0;
        for (const FoldScore& score : model.scores)
            epochs += static_cast<double>(score.epochs) / static_cast<double>(model.scores.size());
        row.push_back(fixed(epochs, 1));
        if (pruned) row.push_back(fixed(mean_and_deviation(column_of(model.scores, &FoldScore::zeros)).mean, 4));
        table.rows.push_back(std::move(row));
    }
    return table;
}

std::string model_csv(const std::vector<ModelScores>& models) {
    std::string text;
    for (const ModelScores& model : models) {
        std::istringstream lines(fold_csv(model.scores));
        std::string line;
        for (bool header = true; std::getline(lines, line); header = false)
            if (!header || text.empty()) text += (header ? "model" : model.name) + "," + line + "\n";
    }
    return text;
}

std::string model_summary_json(const std::vector<ModelScores>& models) {
    Json json{{"models", Json::object()}};
    for (const ModelScores& model : models) json["models"][model.name] = summary_of(model.scores);
    return json.dump(2) + "\n";
}

}  // namespace bitloom
