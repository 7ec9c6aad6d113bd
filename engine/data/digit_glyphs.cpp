#include "engine/data/digit_glyphs.h"

#include <array>
#include <charconv>
#include <string_view>

#include "engine/error.h"

namespace bitloom {

namespace {

// M: move, L: line, C: cubic Bezier, with absolute coordinates, as in SVG. A nine is a six turned half about.
constexpr std::array<std::array<std::string_view, glyph_faces>, 9> paths{{
    {"M .5 0 C .85 0 1 .2 1 .5 C 1 .8 .85 1 .5 1 C .15 1 0 .8 0 .5 C 0 .2 .15 0 .5 0",
     "M .3 0 L .7 0 C .9 0 1 .1 1 .28 L 1 .72 C 1 .9 .9 1 .7 1 L .3 1 C .1 1 0 .9 0 .72 L 0 .28 C 0 .1 .1 0 .3 0",
     "M .5 0 C .75 0 .92 .25 .92 .5 C .92 .75 .75 1 .5 1 C .25 1 .08 .75 .08 .5 C .08 .25 .25 0 .5 0"},
    {"M .22 .2 L .55 0 L .55 1", "M .5 0 L .5 1", "M .2 .22 L .52 0 L .52 1 M .2 1 L .84 1"},
    {"M .05 .28 C .08 .08 .28 0 .5 0 C .8 0 .96 .12 .96 .3 C .96 .5 .7 .65 .4 .8 C .2 .9 .06 .95 .03 1 L 1 1",
     "M .05 .3 C .03 .08 .15 0 .4 0 L .6 0 C .87 0 .97 .08 .97 .28 C .97 .55 .03 .66 .03 1 L .98 1",
     "M .06 .25 C .1 -.05 .9 -.1 .92 .28 C .93 .5 .5 .7 .04 .98 C .3 .86 .6 1.02 .98 .95"},
    {"M .05 .22 C .1 .06 .28 0 .48 0 C .78 0 .92 .1 .92 .25 C .92 .4 .75 .47 .42 .47 C .8 .47 1 .56 1 .74 "
     "C 1 .9 .8 1 .48 1 C .22 1 .04 .92 0 .74",
     "M .06 0 L .92 0 L .46 .4 C .8 .4 1 .5 1 .7 C 1 .9 .8 1 .48 1 C .22 1 .06 .93 0 .78",
     "M .04 .2 C .04 .06 .15 0 .32 0 L .65 0 C .87 0 .95 .08 .95 .24 C .95 .42 .85 .48 .65 .48 L .35 .48 "
     "M .65 .48 C .9 .48 1 .56 1 .74 C 1 .92 .9 1 .68 1 L .3 1 C .12 1 0 .94 0 .8"},
    {"M .72 1 L .72 0 L 0 .7 L 1 .7", "M .18 0 L .02 .6 L 1 .6 M .74 .28 L .74 1",
     "M .66 1 L .66 0 L 0 .62 L 0 .72 L 1 .72"},
    {"M .9 0 L .18 0 L .08 .45 C .2 .36 .35 .33 .5 .33 C .82 .33 1 .47 1 .66 C 1 .88 .8 1 .48 1 C .22 1 .05 .92 0 .76",
     "M .95 0 L .06 0 L .06 .44 L .6 .44 C .88 .44 .98 .54 .98 .72 C .98 .92 .88 1 .64 1 L .3 1 C .12 1 .02 .94 .02 "
     ".82",
     "M .94 -.02 C .7 .04 .4 .06 .14 0 L .12 .46 C .4 .3 .95 .34 .95 .68 C .95 1.05 .25 1.1 .03 .85"},
    {"M .9 .18 C .84 .06 .7 0 .52 0 C .18 0 0 .25 0 .62 C 0 .85 .2 1 .5 1 C .8 1 .98 .87 .98 .68 "
     "C .98 .5 .8 .38 .52 .38 C .25 .38 .05 .48 0 .62",
     "M .95 .16 C .93 .05 .84 0 .66 0 L .36 0 C .12 0 .02 .09 .02 .28 L .02 .66 C .02 .92 .12 1 .34 1 L .66 1 "
     "C .88 1 .98 .92 .98 .71 C .98 .5 .88 .43 .66 .43 L .34 .43 C .12 .43 .02 .52 .02 .66",
     "M .68 0 C .4 .15 .02 .42 .02 .68 C .02 .88 .2 1 .5 1 C .8 1 .98 .87 .98 .68 C .98 .5 .78 .38 .5 .38 "
     "C .25 .38 .02 .5 .02 .68"},
    {"M 0 0 L 1 0 C .7 .3 .42 .6 .36 1", "M .02 0 L .98 0 L .35 1",
     "M .02 .16 L .02 0 L .98 0 L .4 1 M .25 .52 L .85 .52"},
    {"M .5 0 C .78 0 .92 .1 .92 .24 C .92 .38 .76 .47 .5 .47 C .24 .47 .08 .38 .08 .24 C .08 .1 .22 0 .5 0 "
     "M .5 .47 C .82 .47 1 .57 1 .74 C 1 .9 .82 1 .5 1 C .18 1 0 .9 0 .74 C 0 .57 .18 .47 .5 .47",
     "M .35 0 L .65 0 C .87 0 .95 .08 .95 .24 C .95 .4 .85 .47 .65 .47 L .35 .47 C .15 .47 .05 .4 .05 .24 C .05 .08 "
     ".13 0 .35 0 "
     "M .35 .47 C .12 .47 .02 .56 .02 .74 C .02 .92 .12 1 .35 1 L .65 1 C .88 1 .98 .92 .98 .74 C .98 .56 .88 .47 .65 "
     ".47",
     "M .5 .47 C .1 .36 .06 .22 .1 .14 C .2 -.05 .8 -.05 .9 .14 C .96 .26 .8 .38 .5 .47 C .1 .6 -.05 .75 .06 .88 "
     "C .2 1.05 .8 1.05 .94 .88 C 1.05 .74 .9 .6 .5 .47"},
}};

/// Reads the words of a path one by one.
class PathReader {
   public:
    explicit PathReader(std::string_view text) : text_(text) {}
    bool done() {
        while (!text_.empty() && text_.front() == ' ') text_.remove_prefix(1);
        return text_.empty();
    }
    bool at_command() { return !done() && text_.front() >= 'A' && text_.front() <= 'Z'; }
    char command() {
        const char c = text_.front();
        text_.remove_prefix(1);
        return c;
    }
    float number() {
        require(!done(), "glyph: a path ends within a command");
        float value = 0;
        const auto [end, code] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
        require(code == std::errc{}, "glyph: no number at '", text_, "'");
        text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
        return value;
    }

   private:
    std::string_view text_;
};

/// The index of a point among the glyph's points; equal points are one.
std::uint8_t point_index(Glyph& glyph, Point p) {
    for (std::size_t i = 0; i < glyph.points.size(); ++i)
        if (glyph.points[i].x == p.x && glyph.points[i].y == p.y) return static_cast<std::uint8_t>(i);
    glyph.points.push_back(p);
    return static_cast<std::uint8_t>(glyph.points.size() - 1);
}

Glyph parse(std::string_view path) {
    Glyph glyph;
    PathReader reader(path);
    std::uint8_t current = 0;
    const auto point = [&] {
        const float x = reader.number();
        return point_index(glyph, {x, reader.number()});
    };
    while (!reader.done()) {
        require(reader.at_command(), "glyph: a command was expected in '", path, "'");
        GlyphPiece piece;
        switch (const char command = reader.command()) {
            case 'M':
                current = point();
                continue;
            case 'L':
                break;
            case 'C':
                piece.curved = true;
                piece.b = point();
                piece.c = point();
                break;
            default:
                fail("glyph: unknown command ", command);
        }
        piece.a = current;
        piece.d = current = point();
        glyph.pieces.push_back(piece);
    }
    return glyph;
}

using GlyphTable = std::array<std::array<Glyph, glyph_faces>, 10>;

GlyphTable make_table() {
    GlyphTable table;
    for (std::size_t digit = 0; digit < paths.size(); ++digit)
        for (std::size_t face = 0; face < glyph_faces; ++face) table[digit][face] = parse(paths[digit][face]);
    table[9] = table[6];
    for (Glyph& nine : table[9])
        for (Point& p : nine.points) p = {1 - p.x, 1 - p.y};
    return table;
}

}  // namespace

const Glyph& glyph(int digit, int face) {
    static const GlyphTable table = make_table();
    return table.at(static_cast<std::size_t>(digit)).at(static_cast<std::size_t>(face));
}

void flatten(const Glyph& glyph, const std::vector<Point>& points, int steps, std::vector<Segment>& segments) {
    for (const GlyphPiece& piece : glyph.pieces) {
        const Point a = points[piece.a], d = points[piece.d];
        if (!piece.curved) {
            segments.push_back({a, d});
            continue;
        }
        const Point b = points[piece.b], c = points[piece.c];
        Point last = a;
        for (int i = 1; i <= steps; ++i) {
            const float t = static_cast<float>(i) / static_cast<float>(steps), s = 1 - t;
            const float wa = s * s * s, wb = 3 * s * s * t, wc = 3 * s * t * t, wd = t * t * t;
            const Point next{wa * a.x + wb * b.x + wc * c.x + wd * d.x, wa * a.y + wb * b.y + wc * c.y + wd * d.y};
            segments.push_back({last, next});
            last = next;
        }
    }
}

}  // namespace bitloom
