#include "engine/data/normalize.h"

#include <charconv>
#include <cmath>
#include <string_view>
#include <utility>

#include "engine/io/flag_values.h"

namespace bitloom {

namespace {

template <class Pixel, bool has_mean, bool has_std>
void normalize_run(const Pixel* in, float divisor, const float* mean, const float* std, std::int64_t count,
                   float* out) {
    for (std::int64_t i = 0; i < count; ++i) {
        float y = static_cast<float>(in[i]) / divisor;
        if constexpr (has_mean) y -= mean[i];
        if constexpr (has_std) y /= std[i];
        out[i] = y;
    }
}

template <class Pixel>
void normalize_run(const Pixel* in, float divisor, const float* mean, const float* std, std::int64_t count,
                   float* out) {
    if (mean && std)
        normalize_run<Pixel, true, true>(in, divisor, mean, std, count, out);
    else if (mean)
        normalize_run<Pixel, true, false>(in, divisor, mean, std, count, out);
    else if (std)
        normalize_run<Pixel, false, true>(in, divisor, mean, std, count, out);
    else
        normalize_run<Pixel, false, false>(in, divisor, mean, std, count, out);
}

void check_size(const std::vector<float>& values, const char* what, std::int64_t pixels, std::int64_t channels) {
    const auto n = static_cast<std::int64_t>(values.size());
    require(n == 0 || n == channels || n == pixels, "normalization: ", n, " values of ", what, " for images of ",
            channels, " channels and ", pixels, " values");
}

template <class Pixel>
void apply_to(const Normalization& norm, const Pixel* image, const Shape& shape, float* out) {
    const std::int64_t pixels = shape.numel(), channels = shape[-1];
    check_size(norm.mean, "mean", pixels, channels);
    check_size(norm.std, "std", pixels, channels);
    const auto by_channel = [&](const std::vector<float>& v) {
        return !v.empty() && static_cast<std::int64_t>(v.size()) != pixels;
    };
    const float* mean = norm.mean.empty() ? nullptr : norm.mean.data();
    const float* std = norm.std.empty() ? nullptr : norm.std.data();
    if (!by_channel(norm.mean) && !by_channel(norm.std)) {
        normalize_run(image, norm.divisor, mean, std, pixels, out);
        return;
    }
    for (std::int64_t first = 0; first < pixels; first += channels) {
        const float* m = !mean ? nullptr : by_channel(norm.mean) ? mean : mean + first;
        const float* s = !std ? nullptr : by_channel(norm.std) ? std : std + first;
        normalize_run(image + first, norm.divisor, m, s, channels, out + first);
    }
}

/// Mean and population deviation of x/255 from exact sums of n values x and x*x.
std::pair<float, float> moments(std::uint64_t sum, std::uint64_t squares, std::uint64_t n) {
    using Wide = unsigned __int128;
    const Wide spread = static_cast<Wide>(n) * squares - static_cast<Wide>(sum) * sum;  // n^2 variance, exact
    const double count = static_cast<double>(n);
    const double mean = static_cast<double>(sum) / count / 255.0;
    const double std = std::sqrt(static_cast<double>(spread)) / count / 255.0;
    return {static_cast<float>(mean), spread == 0 ? 1.0f : static_cast<float>(std)};
}

struct Sums {
    std::vector<std::uint64_t> values, squares;  // of every pixel and channel
};

Sums pixel_sums(const Dataset& dataset) {
    require(dataset.size() > 0, "normalization: the data set is empty");
    const auto pixels = static_cast<std::size_t>(dataset.image_shape().numel());
    Sums sums{std::vector<std::uint64_t>(pixels), std::vector<std::uint64_t>(pixels)};
    std::vector<std::uint32_t> values(pixels), squares(pixels);
    std::vector<std::uint8_t> image(pixels);
    constexpr std::int64_t flush_every = 60000;  // 255^2 times this is below 2^32
    for (std::int64_t n = 0; n < dataset.size(); ++n) {
        dataset.read(n, image.data());
        for (std::size_t i = 0; i < pixels; ++i) {
            const std::uint32_t x = image[i];
            values[i] += x;
            squares[i] += x * x;
        }
        if ((n + 1) % flush_every != 0 && n + 1 != dataset.size()) continue;
        for (std::size_t i = 0; i < pixels; ++i) {
            sums.values[i] += values[i];
            sums.squares[i] += squares[i];
            values[i] = squares[i] = 0;
        }
    }
    return sums;
}

std::vector<float> parse_numbers(std::string_view text, const std::string& whole) {
    std::vector<float> numbers;
    while (true) {
        const std::size_t comma = text.find(',');
        const std::string_view part = text.substr(0, comma);
        float value = 0;
        const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), value);
        if (code != std::errc{} || end != part.data() + part.size() || !std::isfinite(value))
            throw UsageError(
                cat("normalization ", in_quotes(whole),
                    " is unknown; known: none, unit, cifar-bsq, cifar-ec2t, mnist-ec2t, per-pixel, per-channel, "
                    "or means/deviations such as 0.5,0.5,0.5/0.2,0.2,0.2"));
        numbers.push_back(value);
        if (comma == std::string_view::npos) return numbers;
        text.remove_prefix(comma + 1);
    }
}

}  // namespace

void Normalization::apply(const std::uint8_t* image, const Shape& image_shape, float* out) const {
    apply_to(*this, image, image_shape, out);
}

void Normalization::apply(const float* image, const Shape& image_shape, float* out) const {
    apply_to(*this, image, image_shape, out);
}

Normalization Normalization::per_pixel(const Shape& image_shape) const {
    const auto pixels = static_cast<std::size_t>(image_shape.numel());
    Normalization full{divisor, mean, std};
    check_size(mean, "mean", image_shape.numel(), image_shape[-1]);
    check_size(std, "std", image_shape.numel(), image_shape[-1]);
    for (std::vector<float>* values : {&full.mean, &full.std}) {
        const std::size_t channels = values->size();
        if (channels == 0) continue;
        values->resize(pixels);
        for (std::size_t i = channels; i < pixels; ++i) (*values)[i] = (*values)[i - channels];
    }
    return full;
}

Normalization per_pixel_standardization(const Dataset& dataset) {
    const Sums sums = pixel_sums(dataset);
    Normalization norm;
    for (std::size_t i = 0; i < sums.values.size(); ++i) {
        const auto [mean, std] = moments(sums.values[i], sums.squares[i], static_cast<std::uint64_t>(dataset.size()));
        norm.mean.push_back(mean);
        norm.std.push_back(std);
    }
    return norm;
}

Normalization per_channel_standardization(const Dataset& dataset) {
    const Sums sums = pixel_sums(dataset);
    const auto channels = static_cast<std::size_t>(dataset.image_shape()[2]);
    Normalization norm;
    for (std::size_t c = 0; c < channels; ++c) {
        std::uint64_t sum = 0, squares = 0;
        for (std::size_t i = c; i < sums.values.size(); i += channels) {
            sum += sums.values[i];
            squares += sums.squares[i];
        }
        const std::uint64_t count = static_cast<std::uint64_t>(dataset.size()) * (sums.values.size() / channels);
        const auto [mean, std] = moments(sum, squares, count);
        norm.mean.push_back(mean);
        norm.std.push_back(std);
    }
    return norm;
}

Normalization normalization_by_name(const std::string& name, const Dataset& train) {
    Normalization norm;
    if (name == "per-pixel") return per_pixel_standardization(train);
    if (name == "per-channel") return per_channel_standardization(train);
    if (name == "none") {
        norm.divisor = 1.0f;
    } else if (name == "cifar-bsq") {
        norm.mean = {0.4914f, 0.4822f, 0.4465f};
        norm.std = {0.2023f, 0.1994f, 0.2010f};
    } else if (name == "cifar-ec2t") {
        norm.mean = {125.3f / 255, 123.0f / 255, 113.9f / 255};
        norm.std = {63.0f / 255, 62.1f / 255, 66.7f / 255};
    } else if (name == "mnist-ec2t") {
        norm.mean = {0.1307f};
        norm.std = {0.3081f};
    } else if (name != "unit") {
        const std::size_t slash = name.find('/');
        norm.mean = parse_numbers(std::string_view(name).substr(0, slash), name);
        if (slash != std::string::npos) norm.std = parse_numbers(std::string_view(name).substr(slash + 1), name);
        for (const float s : norm.std)
            if (s <= 0)
                throw UsageError(cat("normalization ", in_quotes(name), ": a deviation must be greater than 0"));
    }
    const auto channels = static_cast<std::size_t>(train.image_shape()[2]);
    for (const auto* values : {&norm.mean, &norm.std})
        if (!values->empty() && values->size() != channels)
            throw UsageError(cat("normalization ", in_quotes(name), " has ", values->size(), " values for images of ",
                                 channels, " channels"));
    return norm;
}

}  // namespace bitloom
