#pragma once
// Skeletons of the ten digits in several type faces, as Bezier paths in a box of 1 x 1 (x right, y down).

#include <cstdint>
#include <vector>

namespace bitloom {

struct Point {
    float x = 0, y = 0;
};

/// A stroke runs from point `a` to point `d`: straight, or a cubic Bezier with the control points `b` and `c`.
struct GlyphPiece {
    std::uint8_t a = 0, b = 0, c = 0, d = 0;
    bool curved = false;
};

/// Points are shared between pieces, so that moving one keeps the strokes joined.
struct Glyph {
    std::vector<Point> points;
    std::vector<GlyphPiece> pieces;
};

inline constexpr int glyph_faces = 3;

/// The skeleton of `digit` (0..9) in `face` (0..glyph_faces - 1).
const Glyph& glyph(int digit, int face);

/// One straight piece of a flattened stroke.
struct Segment {
    Point from, to;
};

/// Appends the glyph's strokes with its points moved to `points`, curves cut into `steps` straight pieces.
void flatten(const Glyph& glyph, const std::vector<Point>& points, int steps, std::vector<Segment>& segments);

}  // namespace bitloom
