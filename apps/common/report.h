#pragma once
// One self-contained HTML page a run: no scripts, no outside resources.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace bitloom {

struct ReportTable {
    std::vector<std::string> header;
    std::vector<std::vector<std::string>> rows;
    std::vector<std::vector<std::string>> footer;  ///< mean, standard deviation, ...
};

/// Collects sections in order and writes them as one page.
class Report {
   public:
    explicit Report(std::string title) : title_(std::move(title)) {}

    void paragraph(const std::string& text);
    /// The command line, a log: set in a fixed-width font.
    void preformatted(const std::string& heading, const std::string& text);
    void table(const std::string& heading, const ReportTable& table);
    /// Two columns, such as the settings of a run.
    void settings(const std::string& heading, const std::vector<std::pair<std::string, std::string>>& values);
    /// The SVG file is copied into the page; a missing file leaves a line that says so.
    void figure(const std::string& heading, const std::string& svg_path);
    /// counts[true class * classes + predicted class]; each row is shaded by its share. Throws Error where the size is
    /// off.
    void confusion(const std::string& heading, const std::vector<std::int64_t>& counts, int classes);

    /// Throws Error where the file cannot be written.
    void write(const std::string& path) const;
    std::string html() const;

   private:
    std::string title_;
    std::string body_;
};

/// Text for HTML: & < > " escaped.
std::string escape_html(const std::string& text);

}  // namespace bitloom
