#include "quant/pruning/mask.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

#include "engine/error.h"

namespace bitloom::quant::pruning {

void check(const MaskRule& rule) {
    if (rule.block_rows < 1 || rule.block_columns < 1)
        throw UsageError(cat("pruning: a block of ", rule.block_rows, "x", rule.block_columns));
    if (rule.granularity == Granularity::n_of_m && !(rule.keep >= 1 && rule.keep < rule.of))
        throw UsageError(cat("pruning: ", rule.keep, " of ", rule.of, " weights cannot be kept, expected 0 < N < M"));
}

std::int64_t kept_count(std::int64_t n, float sparsity) {
    return std::max<std::int64_t>(1, std::lrint(static_cast<float>(n) * (1.F - sparsity)));
}

template <class T>
T element_mask(std::span<const T> weights, float sparsity, std::span<T> mask, std::vector<T>& scratch) {
    const std::int64_t kept = kept_count(std::ssize(weights), sparsity);
    scratch.resize(weights.size());
    std::transform(weights.begin(), weights.end(), scratch.begin(), [](T w) { return std::abs(w); });
    std::nth_element(scratch.begin(), scratch.begin() + (kept - 1), scratch.end(), std::greater<>());
    const T threshold = scratch[static_cast<std::size_t>(kept - 1)];
    std::transform(weights.begin(), weights.end(), mask.begin(), [=](T w) { return T(std::abs(w) >= threshold); });
    return threshold;
}

namespace {

/// One pass of SAME pooling with stride = window over `n` entries, entry i being value(i). Calls emit(window, pooled).
template <class T, class Value, class Emit>
void pool_line(std::int64_t n, std::int64_t window, BlockPooling pooling, const Value& value, const Emit& emit) {
    const std::int64_t windows = (n + window - 1) / window, before = (windows * window - n) / 2;
    for (std::int64_t b = 0; b < windows; ++b) {
        const std::int64_t first = std::max<std::int64_t>(0, b * window - before),
                           last = std::min(n, (b + 1) * window - before);
        T result = 0;
        for (std::int64_t i = first; i < last; ++i)
            result = pooling == BlockPooling::average ? result + value(i) : std::max(result, value(i));
        emit(b, pooling == BlockPooling::average ? result / static_cast<T>(last - first) : result);
    }
}

}  // namespace

template <class T>
void pool_blocks(const MatrixView<const T>& w, const MaskRule& rule, std::vector<T>& pooled) {
    const std::int64_t rows = (w.rows + rule.block_rows - 1) / rule.block_rows,
                       columns = (w.columns + rule.block_columns - 1) / rule.block_columns;
    std::vector<T> by_rows(static_cast<std::size_t>(rows * w.columns));
    for (std::int64_t c = 0; c < w.columns; ++c)
        pool_line<T>(
            w.rows, rule.block_rows, rule.pooling, [&](std::int64_t r) { return std::abs(w.at(r, c)); },
            [&](std::int64_t b, T value) { by_rows[static_cast<std::size_t>(b * w.columns + c)] = value; });
    pooled.resize(static_cast<std::size_t>(rows * columns));
    for (std::int64_t r = 0; r < rows; ++r)
        pool_line<T>(
            w.columns, rule.block_columns, rule.pooling,
            [&](std::int64_t c) { return by_rows[static_cast<std::size_t>(r * w.columns + c)]; },
            [&](std::int64_t b, T value) { pooled[static_cast<std::size_t>(r * columns + b)] = value; });
}

template <class T>
T block_mask(const MatrixView<const T>& w, const MaskRule& rule, float sparsity, const MatrixView<T>& mask,
             std::vector<T>& scratch) {
    std::vector<T> pooled;
    pool_blocks(w, rule, pooled);
    std::vector<T> blocks(pooled.size());
    const T threshold = element_mask<T>(pooled, sparsity, blocks, scratch);
    const std::int64_t columns = (w.columns + rule.block_columns - 1) / rule.block_columns;
    for (std::int64_t r = 0; r < w.rows; ++r)
        for (std::int64_t c = 0; c < w.columns; ++c)
            mask.at(r, c) = blocks[static_cast<std::size_t>(r / rule.block_rows * columns + c / rule.block_columns)];
    return threshold;
}

namespace {

/// `row` weights an output.
template <class T>
void n_of_m_mask(std::span<const T> w, std::int64_t row, const MaskRule& rule, std::span<T> mask) {
    std::vector<std::int64_t> order;
    for (std::int64_t begin = 0; begin < std::ssize(w);) {
        const std::int64_t run = std::min(rule.of, row - begin % row), kept = (run * rule.keep + rule.of - 1) / rule.of;
        order.resize(static_cast<std::size_t>(run));
        std::iota(order.begin(), order.end(), begin);
        const auto magnitude = [&](std::int64_t i) { return std::abs(w[static_cast<std::size_t>(i)]); };
        std::stable_sort(order.begin(), order.end(),
                         [&](std::int64_t a, std::int64_t b) { return magnitude(a) > magnitude(b); });
        for (std::int64_t i = 0; i < run; ++i)
            mask[static_cast<std::size_t>(order[static_cast<std::size_t>(i)])] = T(i < kept);
        begin += run;
    }
}

template <class T>
T channel_mask(std::span<const T> w, std::int64_t outputs, float sparsity, std::span<T> mask, std::vector<T>& scratch) {
    const std::int64_t row = std::ssize(w) / outputs;
    std::vector<T> norms(static_cast<std::size_t>(outputs)), kept(norms.size());
    for (std::int64_t o = 0; o < outputs; ++o) {
        double sum = 0;
        for (std::int64_t i = 0; i < row; ++i) sum += std::abs(w[static_cast<std::size_t>(o * row + i)]);
        norms[static_cast<std::size_t>(o)] = static_cast<T>(sum / static_cast<double>(row));
    }
    const T threshold = element_mask<T>(norms, sparsity, kept, scratch);
    for (std::int64_t o = 0; o < outputs; ++o)
        std::fill_n(mask.begin() + o * row, row, kept[static_cast<std::size_t>(o)]);
    return threshold;
}

template <class T>
double update(const MaskRule& rule, float sparsity, const Tensor& weight, Tensor& mask) {
    static thread_local std::vector<T> scratch;
    const std::int64_t outputs = weight.dim(0), row = weight.numel() / outputs;
    const std::span<const T> w(weight.read<T>(), static_cast<std::size_t>(weight.numel()));
    const std::span<T> m(mask.write<T>(), w.size());
    switch (rule.granularity) {
        case Granularity::element:
            return static_cast<double>(element_mask<T>(w, sparsity, m, scratch));
        case Granularity::block:
            return static_cast<double>(block_mask<T>({w.data(), row, outputs, 1, row}, rule, sparsity,
                                                     {m.data(), row, outputs, 1, row}, scratch));
        case Granularity::n_of_m:
            n_of_m_mask<T>(w, row, rule, m);
            return 0;
        case Granularity::channel:
            return static_cast<double>(channel_mask<T>(w, outputs, sparsity, m, scratch));
    }
    return 0;
}

}  // namespace

double update_mask(const MaskRule& rule, float sparsity, const Tensor& weight, Tensor& mask) {
    require(weight.rank() >= 2 && weight.numel() > 0, "pruning: a weight of shape ", weight.shape(), " has no outputs");
    require(mask.shape() == weight.shape() && mask.dtype() == weight.dtype() && mask.device() == weight.device(),
            "pruning: the mask of a weight ", weight.shape(), " has shape ", mask.shape(),
            " or another type or device");
    if (!weight.device().is_host()) {
        const Tensor host = weight.to(cpu_device);
        Tensor host_mask = Tensor::empty_like(host);
        const double threshold = update_mask(rule, sparsity, host, host_mask);
        mask.copy_from(host_mask);
        return threshold;
    }
    if (weight.dtype() == DType::f64) return update<double>(rule, sparsity, weight, mask);
    require(weight.dtype() == DType::f32, "pruning: weights must be f32 or f64, got ", name_of(weight.dtype()));
    return update<float>(rule, sparsity, weight, mask);
}

std::string describe(const MaskRule& rule) {
    switch (rule.granularity) {
        case Granularity::element:
            return "single weights";
        case Granularity::block:
            return cat("blocks of ", rule.block_rows, "x", rule.block_columns,
                       rule.pooling == BlockPooling::average ? " (average)" : " (maximum)");
        case Granularity::n_of_m:
            return cat(rule.keep, " of ", rule.of);
        case Granularity::channel:
            return "whole channels";
    }
    return {};
}

template float element_mask<float>(std::span<const float>, float, std::span<float>, std::vector<float>&);
template double element_mask<double>(std::span<const double>, float, std::span<double>, std::vector<double>&);
template void pool_blocks<float>(const MatrixView<const float>&, const MaskRule&, std::vector<float>&);
template void pool_blocks<double>(const MatrixView<const double>&, const MaskRule&, std::vector<double>&);
template float block_mask<float>(const MatrixView<const float>&, const MaskRule&, float, const MatrixView<float>&,
                                 std::vector<float>&);
template double block_mask<double>(const MatrixView<const double>&, const MaskRule&, float, const MatrixView<double>&,
                                   std::vector<double>&);

}  // namespace bitloom::quant::pruning
