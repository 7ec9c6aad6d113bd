#pragma once
// Figures drawn by gnuplot. A figure NAME leaves its script NAME.gp and its data beside NAME.svg and NAME.pdf, so that
// it can be drawn again in another dress.

#include <string>

namespace bitloom {

/// Of the SVG in pixels; 100 of them are an inch of the PDF.
struct FigureSize {
    int width = 900, height = 600;
};

/// The folder in which a program draws.
class FigureFolder {
   public:
    /// `path`: an existing folder.
    explicit FigureFolder(std::string path) : path_(std::move(path)) {}
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

    /// Writes a file of data, of which scripts know the name only. Throws Error.
    void write(const std::string& name, const std::string& text) const;
    /// Writes the script and runs it. `body`: plot commands; terminal, output, encoding and the comma between data
    /// columns are set before it, and strings are taken literally (noenhanced). True where both files were drawn.
    /// Without gnuplot one line on stderr says so, once a folder; where gnuplot fails, one line a figure, its messages
    /// in NAME.log. Throws Error where the folder cannot be written.
    bool draw(const std::string& name, const std::string& body, FigureSize size = {});

   private:
    std::string path_;
    bool gnuplot_is_missing_ = false;
};

/// A string of gnuplot, in its single quotes.
std::string gnuplot_string(const std::string& text);

}  // namespace bitloom
