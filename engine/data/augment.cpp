#include "engine/data/augment.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <numbers>
#include <string_view>

#include "engine/io/flag_values.h"

namespace bitloom {

namespace {

std::size_t bytes_of(const Shape& shape) { return static_cast<std::size_t>(shape.numel()) * sizeof(float); }

class RandomCrop final : public Augmentation {
   public:
    explicit RandomCrop(int padding) : padding_(padding) {}
    std::string name() const override { return cat("crop", padding_); }
    std::optional<AugmentStep> device_step() const override {
        return AugmentStep{AugmentStep::Kind::crop, static_cast<double>(padding_)};
    }
    void apply(float* image, const Shape& shape, float* scratch, Rng& rng) const override {
        const auto choices = static_cast<std::uint64_t>(2 * padding_ + 1);
        const std::int64_t dy = static_cast<std::int64_t>(rng.below(choices)) - padding_;
        const std::int64_t dx = static_cast<std::int64_t>(rng.below(choices)) - padding_;
        if (dy == 0 && dx == 0) return;
        const std::int64_t height = shape[0], width = shape[1], channels = shape[2], stride = width * channels;
        std::memcpy(scratch, image, bytes_of(shape));
        std::memset(image, 0, bytes_of(shape));
        const std::int64_t first = std::max<std::int64_t>(0, -dx), last = std::min(width, width - dx);
        if (first >= last) return;
        for (std::int64_t y = std::max<std::int64_t>(0, -dy); y < std::min(height, height - dy); ++y)
            std::memcpy(image + y * stride + first * channels, scratch + (y + dy) * stride + (first + dx) * channels,
                        static_cast<std::size_t>((last - first) * channels) * sizeof(float));
    }

   private:
    int padding_;
};

class Flip final : public Augmentation {
   public:
    std::string name() const override { return "flip"; }
    std::optional<AugmentStep> device_step() const override {
        return AugmentStep{AugmentStep::Kind::flip, 0};
    }
    void apply(float* image, const Shape& shape, float*, Rng& rng) const override {
        if (!rng.coin()) return;
        const std::int64_t width = shape[1], channels = shape[2];
        for (std::int64_t y = 0; y < shape[0]; ++y) {
            float* row = image + y * width * channels;
            for (std::int64_t left = 0, right = width - 1; left < right; ++left, --right)
                std::swap_ranges(row + left * channels, row + (left + 1) * channels, row + right * channels);
        }
    }
};

/// The two source positions about i + offset, kept within [0, extent), and the weight of the second.
struct Sample {
    std::int64_t low, high;
    float weight;
};
Sample sample_at(double position, std::int64_t extent) {
    const double p = std::clamp(position, 0.0, static_cast<double>(extent - 1));
    const auto low = static_cast<std::int64_t>(p);
    return {low, std::min(low + 1, extent - 1), static_cast<float>(p - static_cast<double>(low))};
}

/// Keras' ImageDataGenerator (scipy's affine_transform of order 1, mode nearest): output(r, c) = input(r + ty, c + tx).
class RandomShift final : public Augmentation {
   public:
    explicit RandomShift(double fraction) : fraction_(fraction) {}
    std::string name() const override { return cat("shift", fraction_); }
    std::optional<AugmentStep> device_step() const override {
        return AugmentStep{AugmentStep::Kind::shift, fraction_};
    }
    void apply(float* image, const Shape& shape, float* scratch, Rng& rng) const override {
        const std::int64_t height = shape[0], width = shape[1], channels = shape[2], stride = width * channels;
        const double ty = rng.uniform(-fraction_, fraction_) * static_cast<double>(height);
        const double tx = rng.uniform(-fraction_, fraction_) * static_cast<double>(width);
        for (std::int64_t y = 0; y < height; ++y) {
            const Sample s = sample_at(static_cast<double>(y) + ty, height);
            const float *a = image + s.low * stride, *b = image + s.high * stride;
            float* out = scratch + y * stride;
            for (std::int64_t i = 0; i < stride; ++i) out[i] = (1 - s.weight) * a[i] + s.weight * b[i];
        }
        for (std::int64_t x = 0; x < width; ++x) {
            const Sample s = sample_at(static_cast<double>(x) + tx, width);
            for (std::int64_t y = 0; y < height; ++y) {
                const float* row = scratch + y * stride;
                for (std::int64_t c = 0; c < channels; ++c)
                    image[y * stride + x * channels + c] =
                        (1 - s.weight) * row[s.low * channels + c] + s.weight * row[s.high * channels + c];
            }
        }
    }

   private:
    double fraction_;
};

/// About the image's centre, bilinear, nearest edge; positive angles turn the picture counter-clockwise.
class RandomRotation final : public Augmentation {
   public:
    explicit RandomRotation(double degrees) : degrees_(degrees) {}
    std::string name() const override { return cat("rotate", degrees_); }
    void apply(float* image, const Shape& shape, float* scratch, Rng& rng) const override {
        const std::int64_t height = shape[0], width = shape[1], channels = shape[2], stride = width * channels;
        const double angle = rng.uniform(-degrees_, degrees_) * std::numbers::pi / 180.0;
        const double cosine = std::cos(angle), sine = std::sin(angle);
        const double cy = static_cast<double>(height - 1) / 2, cx = static_cast<double>(width - 1) / 2;
        std::memcpy(scratch, image, bytes_of(shape));
        for (std::int64_t y = 0; y < height; ++y)
            for (std::int64_t x = 0; x < width; ++x) {
                const double dy = static_cast<double>(y) - cy, dx = static_cast<double>(x) - cx;
                const Sample row = sample_at(cy + cosine * dy + sine * dx, height);
                const Sample column = sample_at(cx + cosine * dx - sine * dy, width);
                const float *top = scratch + row.low * stride, *bottom = scratch + row.high * stride;
                for (std::int64_t c = 0; c < channels; ++c) {
                    const std::int64_t left = column.low * channels + c, right = column.high * channels + c;
                    const float upper = (1 - column.weight) * top[left] + column.weight * top[right];
                    const float lower = (1 - column.weight) * bottom[left] + column.weight * bottom[right];
                    image[y * stride + x * channels + c] = (1 - row.weight) * upper + row.weight * lower;
                }
            }
    }

   private:
    double degrees_;
};

/// One hole of side 2 * (length / 2), clipped at the border (ec2t-micronet.md, 3).
class Cutout final : public Augmentation {
   public:
    explicit Cutout(int length) : length_(length) {}
    std::string name() const override { return cat("cutout", length_); }
    bool after_normalization() const override { return true; }
    std::optional<AugmentStep> device_step() const override {
        return AugmentStep{AugmentStep::Kind::cutout, static_cast<double>(length_)};
    }
    void apply(float* image, const Shape& shape, float*, Rng& rng) const override {
        const std::int64_t height = shape[0], width = shape[1], channels = shape[2], half = length_ / 2;
        const auto y = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(height)));
        const auto x = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(width)));
        const std::int64_t first = std::max<std::int64_t>(0, x - half), last = std::min(width, x + half);
        for (std::int64_t row = std::max<std::int64_t>(0, y - half); row < std::min(height, y + half); ++row)
            std::fill(image + (row * width + first) * channels, image + (row * width + last) * channels, 0.0f);
    }

   private:
    int length_;
};

/// The number behind a name, all of it, within [low, high].
template <class T>
T parse_number(std::string_view text, std::string_view whole, T low, T high) {
    T value{};
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (code != std::errc{} || end != text.data() + text.size() || !(value >= low && value <= high))
        throw UsageError(
            cat("augmentation ", in_quotes(whole), ": expected a number in ", low, "..", high, " behind the name"));
    return value;
}

std::shared_ptr<const Augmentation> parse_one(std::string_view text) {
    const std::size_t digit = std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz"), text.size());
    const std::string_view name = text.substr(0, digit), number = text.substr(digit);
    if (text == "flip") return std::make_shared<Flip>();
    if (name == "crop") return std::make_shared<RandomCrop>(parse_number<int>(number, text, 0, 4096));
    if (name == "shift") return std::make_shared<RandomShift>(parse_number<double>(number, text, 0, 1));
    if (name == "rotate") return std::make_shared<RandomRotation>(parse_number<double>(number, text, 0, 180));
    if (name == "cutout") return std::make_shared<Cutout>(parse_number<int>(number, text, 0, 4096));
    throw UsageError(cat("augmentation ", in_quotes(text),
                         " is unknown; known: crop<pixels>, flip, shift<fraction>, rotate<degrees>, "
                         "cutout<side>"));
}

}  // namespace

AugmentationPipeline parse_augmentations(const std::string& text) {
    AugmentationPipeline pipeline;
    if (text.empty() || text == "none") return pipeline;
    std::string_view rest = text;
    while (true) {
        const std::size_t comma = rest.find(',');
        pipeline.push_back(parse_one(rest.substr(0, comma)));
        if (comma == std::string_view::npos) return pipeline;
        rest.remove_prefix(comma + 1);
    }
}

}  // namespace bitloom
