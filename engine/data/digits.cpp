#include "engine/data/digits.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>
#include <thread>
#include <vector>

#include "engine/data/digit_glyphs.h"
#include "engine/random.h"
#include "engine/threads.h"

namespace bitloom {

namespace {

constexpr int grid = 32;  // rows of the working planes; a 28x28 image uses their upper left corner
using Plane = std::array<float, grid * grid>;
using Colour = std::array<float, 3>;

float clamp_unit(float x) { return std::clamp(x, 0.0f, 1.0f); }

/// Draws in single precision, and a bell-shaped one that never strays.
struct Draws {
    Rng& rng;
    float uniform(float low, float high) { return static_cast<float>(rng.uniform(low, high)); }
    float bell(float deviation) { return std::clamp(static_cast<float>(rng.normal()), -2.5f, 2.5f) * deviation; }
    bool chance(double probability) { return rng.coin(probability); }
    int below(int bound) { return static_cast<int>(rng.below(static_cast<std::uint64_t>(bound))); }
};

/// Glyph coordinates of the whole number -> pixels: slant, rotation, perspective, shift.
struct View {
    float cosine, sine, slant, lean_x, lean_y, centre_x, centre_y;
    Point operator()(Point p) const {
        const float x = p.x - slant * p.y, y = p.y;
        const float u = cosine * x - sine * y, v = sine * x + cosine * y;
        const float depth = 1 + lean_x * u + lean_y * v;
        return {centre_x + u / depth, centre_y + v / depth};
    }
};

/// One thread's working memory.
struct Canvas {
    std::vector<Point> points;
    std::vector<Segment> segments;
    Plane distance;  // to the skeleton, in pixels of the pen
    std::array<Plane, 3> colour;
    Plane scratch;
};

struct Style {
    int side, face;
    float height, width, gap, jitter, pen_radius, pen_squeeze;
};

/// Appends one digit to the segments, its ink beginning at `edge` and reaching on towards `direction` (-1 left, 1
/// right, 0 to both sides alike), in pixels from the middle of the number; returns half its ink width.
float place_digit(Draws& draws, const Style& style, int digit, float edge, int direction, Canvas& canvas,
                  const View& view) {
    const Glyph& shape = glyph(digit, style.face);
    canvas.points = shape.points;
    float low = 1e9f, high = -1e9f;
    for (Point& p : canvas.points) {
        p = {(p.x - 0.5f) * style.width, (p.y - 0.5f) * style.height};
        low = std::min(low, p.x);
        high = std::max(high, p.x);
        p.x += draws.bell(style.jitter * style.height);
        p.y += draws.bell(style.jitter * style.height);
    }
    const float half = (high - low) / 2;
    const float centre = edge + static_cast<float>(direction) * half;
    for (Point& p : canvas.points) p = view({p.x - (low + high) / 2 + centre, p.y});
    constexpr int curve_steps = 4;
    flatten(shape, canvas.points, curve_steps, canvas.segments);
    return half;
}

/// Distance of every pixel centre to the nearest segment, as far as the pen reaches.
void draw_distance(const Style& style, float reach, Canvas& canvas) {
    constexpr float far = 1e6f;
    canvas.distance.fill(far);
    for (const Segment& s : canvas.segments) {
        const float ax = s.from.x * style.pen_squeeze, ay = s.from.y;
        const float dx = s.to.x * style.pen_squeeze - ax, dy = s.to.y - ay;
        const float inverse = 1.0f / std::max(dx * dx + dy * dy, 1e-6f);
        const int first = std::max(0, static_cast<int>(std::floor(std::min(ay, s.to.y) - reach)));
        const int last = std::min(style.side - 1, static_cast<int>(std::ceil(std::max(ay, s.to.y) + reach)));
        for (int y = first; y <= last; ++y) {
            float* row = canvas.distance.data() + y * grid;
            const float py = static_cast<float>(y) + 0.5f - ay;
            for (int x = 0; x < grid; ++x) {
                const float px = (static_cast<float>(x) + 0.5f) * style.pen_squeeze - ax;
                const float t = std::min(std::max((px * dx + py * dy) * inverse, 0.0f), 1.0f);
                const float ex = px - t * dx, ey = py - t * dy;
                row[x] = std::min(row[x], ex * ex + ey * ey);
            }
        }
    }
    for (float& d : canvas.distance) d = std::sqrt(d);
}

Colour near_grey(Draws& draws, float luminance, float chroma) {
    Colour c;
    for (float& channel : c) channel = std::clamp(luminance + draws.bell(chroma), 0.0f, 255.0f);
    return c;
}

void blend(Canvas& canvas, const Colour& colour, const Plane& weight) {
    for (std::size_t k = 0; k < 3; ++k)
        for (std::size_t i = 0; i < weight.size(); ++i)
            canvas.colour[k][i] += weight[i] * (colour[k] - canvas.colour[k][i]);
}

/// Wall or plate: one colour, blotches, clapboard lines, and the plate's edges above and below the number.
void paint_background(Draws& draws, const Style& style, const View& view, const Colour& base, Canvas& canvas) {
    constexpr int knots = 5;
    std::array<float, knots * knots> blotch;
    const float amplitude = draws.uniform(0, 16);
    for (float& b : blotch) b = draws.uniform(-amplitude, amplitude);
    const float stripe = draws.chance(0.2) ? draws.uniform(4, 14) : 0.0f;
    const float pitch = draws.uniform(0.7f, 1.6f), phase = draws.uniform(0, 6.28f);
    const float scale = static_cast<float>(knots - 1) / static_cast<float>(grid);
    for (int y = 0; y < grid; ++y) {
        const float gy = static_cast<float>(y) * scale;
        const int ky = static_cast<int>(gy);
        const float wy = gy - static_cast<float>(ky);
        const float line = stripe * std::sin(phase + pitch * static_cast<float>(y));
        for (int x = 0; x < grid; ++x) {
            const float gx = static_cast<float>(x) * scale;
            const int kx = static_cast<int>(gx);
            const float wx = gx - static_cast<float>(kx);
            const float* b = blotch.data() + ky * knots + kx;
            const float upper = b[0] + wx * (b[1] - b[0]), lower = b[knots] + wx * (b[knots + 1] - b[knots]);
            const float value = upper + wy * (lower - upper) + line;
            for (std::size_t k = 0; k < 3; ++k)
                canvas.colour[k][static_cast<std::size_t>(y * grid + x)] = base[k] + value;
        }
    }
    for (const float direction : {-1.0f, 1.0f}) {
        if (!draws.chance(0.3)) continue;
        const Colour beyond = near_grey(draws, draws.uniform(20, 235), 15);
        const float offset = style.height / 2 + style.pen_radius + draws.uniform(1, 5);
        Plane& weight = canvas.scratch;
        for (int y = 0; y < grid; ++y)
            for (int x = 0; x < grid; ++x) {
                const float u = static_cast<float>(x) + 0.5f - view.centre_x,
                            v = static_cast<float>(y) + 0.5f - view.centre_y;
                const float along = direction * (view.cosine * v - view.sine * u);
                weight[static_cast<std::size_t>(y * grid + x)] = clamp_unit(along - offset + 0.5f);
            }
        blend(canvas, beyond, weight);
    }
}

/// Lays the strokes over the background, now and then with a cast shadow or an outline.
void paint_strokes(Draws& draws, const Style& style, const Colour& ink, Canvas& canvas) {
    Plane& weight = canvas.scratch;
    if (draws.chance(0.3)) {
        const int dx = draws.below(3) - 1, dy = 1;
        const float strength = draws.uniform(0.25f, 0.6f);
        weight.fill(0);
        for (int y = dy; y < grid; ++y)
            for (int x = std::max(0, dx); x < std::min(grid, grid + dx); ++x)
                weight[static_cast<std::size_t>(y * grid + x)] =
                    strength * clamp_unit(style.pen_radius + 0.5f -
                                          canvas.distance[static_cast<std::size_t>((y - dy) * grid + x - dx)]);
        blend(canvas, {10, 10, 12}, weight);
    } else if (draws.chance(0.15)) {
        const Colour edge = near_grey(draws, ink[1] > 127 ? 20.0f : 235.0f, 8);
        for (std::size_t i = 0; i < weight.size(); ++i)
            weight[i] = 0.6f * clamp_unit(style.pen_radius + 1.4f - canvas.distance[i]);
        blend(canvas, edge, weight);
    }
    for (std::size_t i = 0; i < weight.size(); ++i)
        weight[i] = clamp_unit(style.pen_radius + 0.5f - canvas.distance[i]);
    blend(canvas, ink, weight);
}

/// Light falling off across the picture.
void shade(Draws& draws, Canvas& canvas) {
    const float strength = draws.uniform(0, 0.35f), angle = draws.uniform(0, 6.2832f);
    const float gx = strength * std::cos(angle) / grid, gy = strength * std::sin(angle) / grid;
    for (Plane& plane : canvas.colour)
        for (int y = 0; y < grid; ++y)
            for (int x = 0; x < grid; ++x)
                plane[static_cast<std::size_t>(y * grid + x)] *=
                    1 + gx * (static_cast<float>(x) - grid / 2) + gy * (static_cast<float>(y) - grid / 2);
}

/// A pass of the kernel (a, 1 - 2a, a) along each axis, edges repeated.
void blur(float a, Canvas& canvas) {
    const float middle = 1 - 2 * a;
    for (Plane& plane : canvas.colour) {
        Plane& rows = canvas.scratch;
        for (int y = 0; y < grid; ++y) {
            const float *here = plane.data() + y * grid, *above = y > 0 ? here - grid : here,
                        *below = y + 1 < grid ? here + grid : here;
            float* out = rows.data() + y * grid;
            for (int x = 0; x < grid; ++x) out[x] = middle * here[x] + a * (above[x] + below[x]);
        }
        for (int y = 0; y < grid; ++y) {
            const float* in = rows.data() + y * grid;
            float* out = plane.data() + y * grid;
            out[0] = middle * in[0] + a * (in[0] + in[1]);
            for (int x = 1; x + 1 < grid; ++x) out[x] = middle * in[x] + a * (in[x - 1] + in[x + 1]);
            out[grid - 1] = middle * in[grid - 1] + a * (in[grid - 2] + in[grid - 1]);
        }
    }
}

std::uint8_t to_byte(float value) { return static_cast<std::uint8_t>(std::clamp(value + 0.5f, 0.0f, 255.0f)); }

/// Adds sensor noise, partly common to the channels, and writes the bytes.
void develop(Rng& noise, float strength, const Style& style, bool grey, const Canvas& canvas, std::uint8_t* out) {
    const auto centred = [](std::uint32_t word, int shift) {
        return static_cast<float>((word >> shift) & 255u) / 127.5f - 1;
    };
    for (int y = 0; y < style.side; ++y)
        for (int x = 0; x < style.side; ++x) {
            const auto i = static_cast<std::size_t>(y * grid + x);
            const std::uint32_t word = noise.next_u32();
            const float common = 0.8f * centred(word, 24);
            Colour value;
            for (std::size_t k = 0; k < 3; ++k)
                value[k] = canvas.colour[k][i] + strength * (common + 0.6f * centred(word, static_cast<int>(8 * k)));
            if (grey) {
                *out++ = to_byte(0.299f * value[0] + 0.587f * value[1] + 0.114f * value[2]);
                continue;
            }
            for (const float v : value) *out++ = to_byte(v);
        }
}

/// Draws one image, everything but its sensor noise from `rng`; returns its label.
int draw_image(Rng& rng, Rng& noise, bool grey, Canvas& canvas, std::uint8_t* out) {
    Draws draws{rng};
    Style style;
    style.side = grey ? 28 : 32;
    const float side = static_cast<float>(style.side);
    style.face = draws.below(glyph_faces);
    style.height = side * draws.uniform(0.52f, 0.84f);
    style.width = style.height * draws.uniform(0.36f, 0.72f);
    style.gap = style.height * draws.uniform(0.08f, 0.34f);
    style.jitter = 0.034f;
    style.pen_radius = std::max(0.7f, style.height * draws.uniform(0.03f, 0.11f));
    style.pen_squeeze = draws.chance(0.3) ? draws.uniform(0.65f, 1) : 1.0f;

    View view;
    const float angle = draws.bell(0.13f);
    view.cosine = std::cos(angle);
    view.sine = std::sin(angle);
    view.slant = draws.bell(0.15f);
    view.lean_x = draws.bell(0.006f);
    view.lean_y = draws.bell(0.006f);
    view.centre_x = side / 2 + draws.bell(0.05f * side);
    view.centre_y = side / 2 + draws.bell(0.05f * side);

    const int label = draws.below(10);
    canvas.segments.clear();
    const float half = place_digit(draws, style, label, 0, 0, canvas, view);
    const float next_edge = half + style.gap + 2 * style.pen_radius / style.pen_squeeze;
    for (const int direction : {-1, 1})
        if (draws.chance(0.65))
            place_digit(draws, style, draws.below(10), static_cast<float>(direction) * next_edge, direction, canvas,
                        view);
    draw_distance(style, style.pen_radius + 2, canvas);

    const float paper = draws.uniform(25, 230);
    const float contrast = draws.uniform(0, 1);
    const float difference = 26 + 150 * contrast * contrast;
    // The darker or lighter side by chance, the other one where there is no room.
    const bool lighter = paper + difference > 248 ? false : paper - difference < 7 ? true : draws.chance(0.5);
    const Colour background = near_grey(draws, paper, 16);
    Colour ink;
    for (std::size_t k = 0; k < 3; ++k)
        ink[k] = std::clamp(background[k] + (lighter ? difference : -difference) + draws.bell(12), 0.0f, 255.0f);
    paint_background(draws, style, view, background, canvas);
    paint_strokes(draws, style, ink, canvas);
    shade(draws, canvas);
    const int passes = draws.below(3);
    const float softness = draws.uniform(0.1f, 0.25f);
    for (int i = 0; i < passes; ++i) blur(softness, canvas);
    develop(noise, draws.uniform(1, 17), style, grey, canvas, out);
    return label;
}

const char* split_name(DigitsSplit split) {
    switch (split) {
        case DigitsSplit::train:
            return "train";
        case DigitsSplit::test:
            return "test";
        case DigitsSplit::extra:
            return "extra";
    }
    return "?";
}

}  // namespace

std::shared_ptr<MemoryDataset> generate_digits(const DigitsOptions& options) {
    constexpr std::int64_t most = std::int64_t{1} << 32;
    require(options.size > 0 && options.size <= most, "digits: ", options.size, " images asked for");
    const std::int64_t side = options.grey ? 28 : 32, channels = options.grey ? 1 : 3, bytes = side * side * channels;
    Tensor images = Tensor::empty({options.size, side, side, channels}, DType::u8);
    std::vector<std::int32_t> labels(static_cast<std::size_t>(options.size));
    const std::string name = std::string(options.grey ? "digits-grey/" : "digits/") + split_name(options.split);
    const std::uint64_t scene_key = stream_key(options.seed, name),
                        noise_key = stream_key(options.seed, name + "/noise");
    std::uint8_t* pixels = images.write<std::uint8_t>();

    const auto work = [&](std::int64_t first, std::int64_t last) {
        Canvas canvas;
        for (std::int64_t i = first; i < last; ++i) {
            Rng scene(PhiloxStream{scene_key, static_cast<std::uint64_t>(i)});
            Rng noise(PhiloxStream{noise_key, static_cast<std::uint64_t>(i)});
            labels[static_cast<std::size_t>(i)] = draw_image(scene, noise, options.grey, canvas, pixels + i * bytes);
        }
    };
    const std::int64_t wanted = options.threads > 0 ? options.threads : thread_count();
    const std::int64_t threads = std::clamp<std::int64_t>(options.size / 256, 1, wanted);
    std::vector<std::thread> helpers;
    for (std::int64_t t = 1; t < threads; ++t)
        helpers.emplace_back(work, options.size * t / threads, options.size * (t + 1) / threads);
    work(0, options.size / threads);
    for (std::thread& helper : helpers) helper.join();
    return std::make_shared<MemoryDataset>(std::move(images), std::move(labels), 10);
}

}  // namespace bitloom
