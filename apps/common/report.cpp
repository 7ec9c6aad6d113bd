#include "apps/common/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "engine/error.h"
#include "engine/io/atomic_file.h"

namespace bitloom {
namespace {

constexpr const char* style = R"(
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1e21; background: #fff; }
body { max-width: 62em; margin: 2em auto; padding: 0 1.5em; }
h1 { font-size: 1.6em; margin-bottom: .2em; } h2 { font-size: 1.15em; margin-top: 2em; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25em .8em; text-align: right; border-bottom: 1px solid #e3e5e8; }
th:first-child, td:first-child { text-align: left; }
thead th { border-bottom: 2px solid #9aa0a6; } tfoot td { border-top: 2px solid #9aa0a6; font-weight: 600; }
.settings td { text-align: left; font-family: ui-monospace, monospace; font-size: .9em; }
.confusion td, .confusion th { padding: .2em .5em; text-align: right; border: 1px solid #fff; min-width: 2.4em; }
pre { background: #f4f5f7; padding: .8em 1em; overflow-x: auto; white-space: pre-wrap; }
svg { max-width: 100%; height: auto; }
)";

std::string heading_of(const std::string& text) { return "<h2>" + escape_html(text) + "</h2>\n"; }

std::string row_of(const std::vector<std::string>& cells, const char* tag) {
    std::string row = "<tr>";
    for (const std::string& cell : cells) row += cat("<", tag, ">", escape_html(cell), "</", tag, ">");
    return row + "</tr>\n";
}

}  // namespace

std::string escape_html(const std::string& text) {
    std::string escaped;
    for (const char c : text) {
        switch (c) {
            case '&':
                escaped += "&amp;";
                break;
            case '<':
                escaped += "&lt;";
                break;
            case '>':
                escaped += "&gt;";
                break;
            case '"':
                escaped += "&quot;";
                break;
            default:
                escaped += c;
        }
    }
    return escaped;
}

void Report::paragraph(const std::string& text) { body_ += "<p>" + escape_html(text) + "</p>\n"; }

void Report::preformatted(const std::string& heading, const std::string& text) {
    body_ += heading_of(heading) + "<pre>" + escape_html(text) + "</pre>\n";
}

void Report::table(const std::string& heading, const ReportTable& table) {
    body_ += heading_of(heading) + "<table>\n<thead>" + row_of(table.header, "th") + "</thead>\n<tbody>\n";
    for (const auto& row : table.rows) body_ += row_of(row, "td");
    body_ += "</tbody>\n";
    if (!table.footer.empty()) {
        body_ += "<tfoot>\n";
        for (const auto& row : table.footer) body_ += row_of(row, "td");
        body_ += "</tfoot>\n";
    }
    body_ += "</table>\n";
}

void Report::settings(const std::string& heading, const std::vector<std::pair<std::string, std::string>>& values) {
    body_ += heading_of(heading) + "<table class=\"settings\">\n";
    for (const auto& [name, value] : values) body_ += row_of({name, value}, "td");
    body_ += "</table>\n";
}

void Report::figure(const std::string& heading, const std::string& svg_path) {
    body_ += heading_of(heading);
    std::string svg = std::filesystem::exists(svg_path) ? read_file(svg_path) : std::string();
    // An XML declaration and a document type have no place inside HTML.
    const std::size_t begin = svg.find("<svg");
    if (begin == std::string::npos)
        body_ += "<p>None: no epoch was finished, or gnuplot was not available.</p>\n";
    else
        body_ += "<figure>" + svg.substr(begin) + "</figure>\n";
}

void Report::confusion(const std::string& heading, const std::vector<std::int64_t>& counts, int classes) {
    require(classes > 0 && counts.size() == static_cast<std::size_t>(classes) * static_cast<std::size_t>(classes),
            "report: confusion matrix of ", counts.size(), " counts, expected ", classes, " x ", classes);
    std::ostringstream out;
    out << heading_of(heading) << "<table class=\"confusion\">\n<tr><th>true \\ predicted</th>";
    for (int c = 0; c < classes; ++c) out << "<th>" << c << "</th>";
    out << "</tr>\n";
    for (int t = 0; t < classes; ++t) {
        const auto row = counts.begin() + static_cast<std::ptrdiff_t>(t) * classes;
        std::int64_t total = 0;
        for (int c = 0; c < classes; ++c) total += row[c];
        out << "<tr><th>" << t << "</th>";
        for (int c = 0; c < classes; ++c) {
            const double share = total > 0 ? static_cast<double>(row[c]) / static_cast<double>(total) : 0;
            // The square root lets the rare confusions be seen beside the diagonal.
            out << "<td style=\"background: rgba(" << (c == t ? "24,74,69" : "180,60,30") << ','
                << std::round(std::sqrt(share) * 700) / 1000 << ")\">" << row[c] << "</td>";
        }
        out << "</tr>\n";
    }
    out << "</table>\n";
    body_ += out.str();
}

std::string Report::html() const {
    return cat("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>", escape_html(title_),
               "</title>\n<style>", style, "</style>\n</head>\n<body>\n<h1>", escape_html(title_), "</h1>\n", body_,
               "</body>\n</html>\n");
}

void Report::write(const std::string& path) const { write_file_atomically(path, html()); }

}  // namespace bitloom
