#pragma once
// Masks from the magnitude of weights. They are made on the host: a refresh takes place once in many steps.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/tensor.h"

namespace bitloom::quant::pruning {

enum class Granularity {
    element,  ///< single weights (svhn-qkeras.md, 5.4)
    block,    ///< blocks of the matrix [inputs, outputs] (5.4)
    n_of_m,  ///< in every run of M consecutive weights of an output the N largest are kept (2:4 of sparse tensor cores)
    channel  ///< whole outputs (filters), by the mean magnitude of their weights (Li et al., ICLR 2017)
};
enum class BlockPooling { average, maximum };

struct MaskRule {
    Granularity granularity = Granularity::element;
    std::int64_t block_rows = 1, block_columns = 1;  ///< of `block`: inputs and outputs, as a Keras kernel lies
    BlockPooling pooling = BlockPooling::average;
    std::int64_t keep = 2, of = 4;  ///< of `n_of_m`
    bool operator==(const MaskRule&) const = default;
};
/// Throws UsageError in one line for extents below 1 and N:M without 0 < N < M.
void check(const MaskRule& rule);

/// max(rne(n (1 - sparsity)), 1), in float32 as the reference rounds.
std::int64_t kept_count(std::int64_t n, float sparsity);

/// A matrix in memory of either order: element (r, c) is data[r row_stride + c column_stride].
template <class T>
struct MatrixView {
    T* data = nullptr;
    std::int64_t rows = 0, columns = 0, row_stride = 0, column_stride = 0;
    T& at(std::int64_t r, std::int64_t c) const { return data[r * row_stride + c * column_stride]; }
};

/// mask = |w| >= threshold, the kept_count-th largest magnitude (which is returned). Equal magnitudes at the threshold
/// are all kept. `scratch` is reused from call to call.
template <class T>
T element_mask(std::span<const T> weights, float sparsity, std::span<T> mask, std::vector<T>& scratch);

/// |w| pooled over blocks in two passes (rows, then columns) with SAME borders: averages are over the valid entries.
/// Row-major [ceil(rows / block_rows), ceil(columns / block_columns)].
template <class T>
void pool_blocks(const MatrixView<const T>& weights, const MaskRule& rule, std::vector<T>& pooled);

/// element_mask of the pooled matrix, each entry repeated over its block and cropped. Where blocks do not divide the
/// matrix, pooling windows begin half the padding before it but the repetition begins at 0, so that blocks are masked
/// by a window shifted against them: the reference's behaviour (quirk 19), kept. Returns the threshold.
template <class T>
T block_mask(const MatrixView<const T>& weights, const MaskRule& rule, float sparsity, const MatrixView<T>& mask,
             std::vector<T>& scratch);

/// Writes the mask (0 and 1) of a weight whose leading axis are its outputs ([out, in], [out, kh, kw, in]); `mask` has
/// its shape, dtype (f32 or f64) and device. N:M looks at no sparsity: its runs lie along a row of the output's weights
/// as matrix products read them (kh, kw, in), a shorter last run of r keeps ceil(r N / M), and of equal magnitudes the
/// first is kept. Returns the threshold (0 for N:M). Throws Error for other dtypes and shapes.
double update_mask(const MaskRule& rule, float sparsity, const Tensor& weight, Tensor& mask);

/// "single weights", "blocks of 4x1 (average)", "2 of 4", "whole channels"
std::string describe(const MaskRule& rule);

}  // namespace bitloom::quant::pruning
