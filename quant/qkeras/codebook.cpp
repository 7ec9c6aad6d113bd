#include "quant/qkeras/codebook.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>

#include "quant/qkeras/quantize.h"

namespace bitloom::quant::qkeras {

namespace {

/// Cost of one cluster of the sorted values [i, j).
class Costs {
   public:
    explicit Costs(const std::vector<double>& sorted) : sum_(sorted.size() + 1), square_(sorted.size() + 1) {
        for (std::size_t i = 0; i < sorted.size(); ++i) {
            sum_[i + 1] = sum_[i] + sorted[i];
            square_[i + 1] = square_[i] + sorted[i] * sorted[i];
        }
    }
    double mean(std::size_t i, std::size_t j) const { return (sum_[j] - sum_[i]) / static_cast<double>(j - i); }
    double operator()(std::size_t i, std::size_t j) const {
        const double s = sum_[j] - sum_[i];
        return std::max(square_[j] - square_[i] - s * s / static_cast<double>(j - i), 0.0);
    }

   private:
    std::vector<double> sum_, square_;
};

/// One row of the dynamic programme: the best last cluster of values [0, j) starts between `low` and `high` (its start
/// grows with j, so halves of the row bound each other).
void fill_row(const Costs& cost, const std::vector<double>& before, std::vector<double>& row, std::vector<std::size_t>& start,
              std::size_t first, std::size_t last, std::size_t low, std::size_t high) {
    if (first > last) return;
    const std::size_t j = (first + last) / 2;
    double best = std::numeric_limits<double>::infinity();
    std::size_t at = low;
    for (std::size_t i = low; i <= std::min(high, j - 1); ++i) {
        const double total = before[i] + cost(i, j);
        if (total < best) best = total, at = i;
    }
    row[j] = best;
    start[j] = at;
    if (j > first) fill_row(cost, before, row, start, first, j - 1, low, at);
    fill_row(cost, before, row, start, j + 1, last, at, high);
}

}  // namespace

std::vector<double> optimal_centres(std::vector<double> values, std::int64_t k) {
    require(!values.empty() && k > 0, "centres: need values and a positive number of centres");
    std::sort(values.begin(), values.end());
    const std::size_t n = values.size();
    const auto distinct = static_cast<std::int64_t>(1 + std::inner_product(values.begin() + 1, values.end(), values.begin(), 0,
                                                                            std::plus<>(), std::not_equal_to<>()));
    k = std::min(k, distinct);
    const Costs cost(values);
    std::vector<double> before(n + 1, std::numeric_limits<double>::infinity()), row(before);
    before[0] = 0;
    std::vector<std::vector<std::size_t>> starts(static_cast<std::size_t>(k), std::vector<std::size_t>(n + 1));
    for (std::size_t c = 0; c < static_cast<std::size_t>(k); ++c) {
        std::fill(row.begin(), row.end(), std::numeric_limits<double>::infinity());
        fill_row(cost, before, row, starts[c], c + 1, n, c, n - 1);
        std::swap(before, row);
    }
    std::vector<double> centres;
    std::size_t end = n;
    for (std::size_t c = static_cast<std::size_t>(k); c-- > 0;) {
        const std::size_t begin = starts[c][end];
        centres.push_back(cost.mean(begin, end));
        end = begin;
    }
    std::reverse(centres.begin(), centres.end());
    return centres;
}

Tensor codebook_weights(const Tensor& weights, std::int64_t bits, int axis, const Quantizer& quantizer) {
    require(bits >= 1 && bits <= 12, "codebook: bits must be 1 to 12, got ", bits);
    require(axis >= 0 && axis <= weights.rank(), "codebook: axis ", axis, " does not exist in weights ", weights.shape());
    const std::int64_t extent = axis == weights.rank() ? 1 : weights.dim(axis);
    const std::int64_t inner = axis == weights.rank() ? 1 : weights.shape().product(axis + 1, weights.rank());
    std::vector<double> all = weights.values<double>();
    const TensorQuantizer quantize(quantizer);
    for (std::int64_t index = 0; index < extent; ++index) {
        std::vector<std::size_t> places;
        std::vector<double> values;
        for (std::size_t i = 0; i < all.size(); ++i)
            if (static_cast<std::int64_t>(i) / inner % extent == index) places.push_back(i), values.push_back(all[i]);
        if (values.empty()) continue;
        const std::vector<double> centres = optimal_centres(values, std::int64_t{1} << bits);
        Tape tape(Tape::Mode::inference);
        const Tensor column = Tensor::from({static_cast<std::int64_t>(centres.size()), 1}, centres).to(DType::f32);
        std::vector<double> book = quantize(tape.constant(column)).value().values<double>();
        std::sort(book.begin(), book.end());
        for (const std::size_t place : places)
            all[place] = *std::min_element(book.begin(), book.end(), [&](double a, double b) {
                return std::abs(a - all[place]) < std::abs(b - all[place]);
            });
    }
    return Tensor::from(weights.shape(), all).to(weights.dtype());
}

}  // namespace bitloom::quant::qkeras
