#include "quant/bsq/bit_tensor.h"

#include <algorithm>
#include <cmath>

#include "quant/bsq/kernels.h"

namespace bitloom::bsq {

namespace {

Shape planes_shape(const Shape& shape, int bits) {
    Shape planes{bits, 2};
    for (const std::int64_t extent : shape.extents()) planes.append(extent);
    return planes;
}

void require_bits(int bits) {
    require(bits >= 0 && bits <= max_bits, "bit planes: a precision of ", bits, " bits is not in 0..", max_bits);
}

float largest_magnitude(const Tensor& values) {
    const float* v = values.read<float>();
    float largest = 0;
    for (std::int64_t i = 0; i < values.numel(); ++i) largest = std::max(largest, std::abs(v[i]));
    return largest;
}

/// Planes of float codes: R minus what the bits before took, floor(R / 2^(n-1-b)) a plane.
Tensor planes_of(const std::vector<float>& codes, const Shape& shape, int bits) {
    Tensor planes = Tensor::zeros(planes_shape(shape, bits));
    const auto count = static_cast<std::int64_t>(codes.size());
    float* out = planes.write<float>();
    for (std::int64_t i = 0; i < count; ++i) {
        // Magnitudes are whole numbers below 2^17.
        const auto magnitude = static_cast<std::uint32_t>(std::abs(codes[static_cast<std::size_t>(i)]));
        const int sign = codes[static_cast<std::size_t>(i)] > 0 ? 0 : 1;
        for (int b = 0; b < bits; ++b)
            out[(2 * b + sign) * count + i] = static_cast<float>(magnitude >> (bits - 1 - b) & 1u);
    }
    return planes;
}

BitTensor all_zero_tensor(const Shape& shape, int bits, float scale, bool flagged) {
    return {Tensor::zeros(planes_shape(shape, bits)), scale, flagged};
}

/// round(t (2^n - 1)) as floats.
std::vector<float> float_codes(const Tensor& t, int bits) {
    const float top = top_code(bits);
    std::vector<float> result(static_cast<std::size_t>(t.numel()));
    const float* values = t.read<float>();
    for (std::size_t i = 0; i < result.size(); ++i) result[i] = std::nearbyint(values[i] * top);
    return result;
}

/// Planes [first, first + count) of the leading axis, copied.
Tensor run_of(const Tensor& planes, int first, int count) { return planes.rows(first, count).clone(); }

/// Planes [first, n) plus plane first - 1, at most 1.
Tensor folded(const Tensor& planes, int first) {
    const auto rest = static_cast<int>(planes.dim(0)) - first;
    Tensor result = run_of(planes, first, rest);
    const Tensor carried = planes.rows(first - 1, 1);
    const float* add = carried.read<float>();
    float* out = result.write<float>();
    const std::int64_t width = carried.numel();
    for (std::int64_t i = 0; i < result.numel(); ++i) {
        out[i] = std::min(out[i] + add[i % width], 1.0f);
    }
    return result;
}

double levels(int bits) { return static_cast<double>((std::int64_t{1} << bits) - 1); }

}  // namespace

Shape BitTensor::shape() const {
    Shape shape;
    for (int axis = 2; axis < planes.rank(); ++axis) shape.append(planes.dim(axis));
    return shape;
}

BitTensor to_bits(const Tensor& values, int bits) {
    require_bits(bits);
    if (bits == 0) return all_zero_tensor(values.shape(), 1, 0, true);
    const float largest = largest_magnitude(values);
    if (largest == 0) return all_zero_tensor(values.shape(), bits, 0, false);
    const float top = top_code(bits);
    const float* v = values.read<float>();
    std::vector<float> codes(static_cast<std::size_t>(values.numel()));
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = std::nearbyint(v[i] * top / largest);
    return {planes_of(codes, values.shape(), bits), largest, false};
}

BitTensor normalized_to_bits(const Tensor& values, float scale, int bits) {
    require_bits(bits);
    if (bits == 0) return all_zero_tensor(values.shape(), 1, scale, true);
    const float top = top_code(bits);
    const float* v = values.read<float>();
    std::vector<float> codes(static_cast<std::size_t>(values.numel()));
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = std::nearbyint(std::clamp(v[i], -1.0f, 1.0f) * top);
    return {planes_of(codes, values.shape(), bits), scale, false};
}

BitTensor from_codes(const std::vector<std::int64_t>& codes, const Shape& shape, float scale, int bits) {
    require(bits >= 1 && bits <= max_bits, "bit planes: codes of ", bits, " bits");
    require(static_cast<std::int64_t>(codes.size()) == shape.numel(), "bit planes: ", codes.size(), " codes for ", shape);
    std::vector<float> values(codes.size());
    for (std::size_t i = 0; i < codes.size(); ++i) {
        require(std::abs(codes[i]) < std::int64_t{1} << bits, "bit planes: code ", codes[i], " needs more than ", bits,
                " bits");
        values[i] = static_cast<float>(codes[i]);
    }
    return {planes_of(values, shape, bits), scale, false};
}

Tensor normalized(const BitTensor& tensor) {
    const int bits = tensor.bits();
    Tensor t = Tensor::zeros(tensor.shape());
    const float* p = tensor.planes.read<float>();
    float* out = t.write<float>();
    const std::int64_t count = t.numel();
    for (int b = 0; b < bits; ++b) {
        const float factor = plane_factor(b, bits);
        for (std::int64_t i = 0; i < count; ++i) out[i] += factor * (p[2 * b * count + i] - p[(2 * b + 1) * count + i]);
    }
    return t;
}

Tensor to_values(const BitTensor& tensor) {
    Tensor values = normalized(tensor);
    float* v = values.write<float>();
    for (std::int64_t i = 0; i < values.numel(); ++i) v[i] *= tensor.scale;
    return values;
}

std::vector<std::int64_t> codes(const BitTensor& tensor) {
    const std::vector<float> rounded = float_codes(normalized(tensor), tensor.bits());
    return {rounded.begin(), rounded.end()};
}

BitTensor requantize(const BitTensor& tensor, int max_bits, bool grow) {
    BitTensor result = requantize(normalized(tensor), tensor.scale, tensor.bits(), max_bits, grow);
    result.zero = tensor.zero;
    return result;
}

BitTensor requantize(const Tensor& normalized, float scale, int bits, int max_bits, bool grow) {
    std::vector<float> rounded = float_codes(normalized, bits);
    const float top = top_code(bits);
    const bool overflow = std::any_of(rounded.begin(), rounded.end(), [=](float c) { return std::abs(c) > top; });
    if (overflow && grow && bits < max_bits) {
        ++bits;
        scale = static_cast<float>(static_cast<double>(scale) * levels(bits) / levels(bits - 1));
    }
    // Planes are at most 2, so that one more bit holds every code; planes read from a file may be larger.
    const float limit = top_code(bits);
    for (float& code : rounded) code = std::clamp(code, -limit, limit);
    return {planes_of(rounded, normalized.shape(), bits), scale, false};
}

BitTensor strip(const BitTensor& tensor, double threshold) {
    const int before = tensor.bits();
    if (before <= 1) return tensor;
    BitTensor result = tensor;
    int bits = before;
    std::vector<double> percent = nonzero_percentages(tensor);
    for (int b = 0; b < before && bits > 1; ++b) {
        const double share = percent[static_cast<std::size_t>(b)];
        if (share != 0 && share >= threshold) break;
        --bits;
        // Both forms start from the original planes.
        result.planes = share == 0 ? run_of(tensor.planes, b + 1, bits) : folded(tensor.planes, b + 1);
    }
    percent = nonzero_percentages(result);
    double factor = 1;
    const int kept_top = bits;
    for (int b = kept_top - 1; b >= 0 && bits > 1; --b) {
        if (percent[static_cast<std::size_t>(b)] > threshold) break;
        --bits;
        factor *= 2;
    }
    if (bits < kept_top) result.planes = run_of(result.planes, 0, bits);
    result.scale = static_cast<float>(static_cast<double>(tensor.scale) * factor * levels(bits) / levels(before));
    return result;
}

BitTensor first_planes(const BitTensor& tensor, int bits) {
    require(bits >= 1 && bits <= tensor.bits(), "bit planes: ", tensor.bits(), " planes cannot be cut to ", bits);
    return {run_of(tensor.planes, 0, bits), tensor.scale, tensor.zero};
}

std::vector<double> nonzero_percentages(const BitTensor& tensor) {
    const std::int64_t count = tensor.count();
    const float* p = tensor.planes.read<float>();
    std::vector<double> percent;
    for (int b = 0; b < tensor.bits(); ++b) {
        std::int64_t nonzero = 0;
        for (std::int64_t i = 0; i < count; ++i) nonzero += p[2 * b * count + i] != p[(2 * b + 1) * count + i];
        percent.push_back(100.0 * static_cast<double>(nonzero) / static_cast<double>(count));
    }
    return percent;
}

bool all_zero(const BitTensor& tensor) {
    const std::vector<double> percent = nonzero_percentages(tensor);
    return std::all_of(percent.begin(), percent.end(), [](double p) { return p == 0; });
}

Tensor quantize_dynamically(const Tensor& values, int bits) {
    Tensor result = Tensor::zeros(values.shape());
    if (bits == 0) return result;
    kernel(cpu_device, "activation_forward", &BsqKernels::activation_forward)(
        {ActivationKind::identity, bits}, values, nullptr, result);
    return result;
}

}  // namespace bitloom::bsq
