// Rows of outputs of the whole batch are numbered; of a block of them, dy and what each cell of the kernel meets of x
// are laid out in pairs, and dw of every cell is one product of the two.

#include "ops/cpu/pair_gradient.h"

#include "ops/cpu/onednn.h"
#include "ops/cpu/scratch.h"
#include "ops/cpu/winograd_gradient.h"

namespace bitloom::ops::cpu {

namespace {

using winograd::lanes;
using Int = Pack<lanes>::Int;

constexpr std::int64_t block_pairs = 64, least_outputs = 1024;

std::int64_t pairs_of(const Conv2dGeometry& g) { return (g.out_w + 1) / 2; }

/// Row [pair][channel][2] of two columns each of a map's row; where a column is null, zeros.
template <class ColumnOf>
void pair_columns(std::int64_t pairs, std::int64_t channels, ColumnOf&& column, bf16* to) {
    const auto widened = [](const bf16* from, std::int64_t i) {
        return from ? widen_halves<lanes>(load<Pack<lanes>::Half>(static_cast<const void*>(from + i))) : Int{};
    };
    for (std::int64_t p = 0; p < pairs; ++p) {
        const bf16 *one = column(2 * p), *other = column(2 * p + 1);
        for (std::int64_t i = 0; i < channels; i += lanes, to += 2 * lanes)
            store<Int>(static_cast<void*>(to), widened(one, i) | widened(other, i) << 16);
    }
}

/// The pairs of x that cell (kh, kw) of the kernel meets in `rows` rows of outputs from `first`.
void pair_inputs(const Conv2dGeometry& g, const bf16* x, std::int64_t kh, std::int64_t kw, std::int64_t first,
                 std::int64_t rows, bf16* to) {
    const std::int64_t pairs = pairs_of(g);
    for (std::int64_t row = first; row < first + rows; ++row, to += 2 * pairs * g.in_c) {
        const std::int64_t n = row / g.out_h, h = row % g.out_h * g.stride_h + kh - g.pad_top;
        const bf16* line = h < 0 || h >= g.in_h ? nullptr : x + (n * g.in_h + h) * g.in_w * g.in_c;
        const auto column = [&](std::int64_t ow) {
            const std::int64_t w = ow * g.stride_w + kw - g.pad_left;
            return line && w >= 0 && w < g.in_w ? line + w * g.in_c : nullptr;
        };
        pair_columns(pairs, g.in_c, column, to);
    }
}

void pair_outputs(const Conv2dGeometry& g, const bf16* dy, std::int64_t first, std::int64_t rows, bf16* to) {
    const std::int64_t pairs = pairs_of(g);
    for (std::int64_t row = first; row < first + rows; ++row, to += 2 * pairs * g.out_c) {
        const auto column = [&](std::int64_t ow) {
            return ow < g.out_w ? dy + (row * g.out_w + ow) * g.out_c : nullptr;
        };
        pair_columns(pairs, g.out_c, column, to);
    }
}

}  // namespace

bool takes_pair_gradient(const Conv2dGeometry& g, DType activations) {
    return activations == DType::bf16 && simd_lanes == lanes && !onednn::multiplies_tiles_of_bf16() &&
           g.kernel_h <= 3 && g.kernel_w <= 3 && g.groups == 1 && g.dilation_h == 1 && g.dilation_w == 1 &&
           g.in_c % lanes == 0 && g.out_c % lanes == 0 && g.in_c * g.out_c <= 128 * 128 &&
           g.batch * g.out_h * g.out_w >= least_outputs;
}

void pair_backward_weights(const Conv2dGeometry& g, const bf16* x, const bf16* dy, float* dweight) {
    const std::int64_t pairs = pairs_of(g), rows = g.batch * g.out_h, kernel = g.kernel_h * g.kernel_w;
    const std::int64_t block = std::max<std::int64_t>(block_pairs / pairs, 1), blocks = (rows + block - 1) / block;
    const int parts = static_cast<int>(std::min<std::int64_t>(parts_for(rows * g.out_w * g.out_c), blocks));
    const std::int64_t size = kernel * g.in_c * g.out_c;
    const ScratchParts<bf16> x_pairs(parts, 2 * block * pairs * g.in_c), dy_pairs(parts, 2 * block * pairs * g.out_c);
    const ScratchParts<float> sums(parts, size);
    parallel_ranges(blocks, parts, [&](std::int64_t begin, std::int64_t end, int part) {
        bf16 *v = x_pairs.part(part), *z = dy_pairs.part(part);
        float* sum = sums.part(part);
        std::fill_n(sum, size, 0.0f);
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t first = b * block, count = std::min(block, rows - first);
            winograd::Prefetch next_x(x, g.batch * g.in_h * g.in_w * g.in_c, first + count, count, rows, kernel);
            winograd::Prefetch next_dy(dy, rows * g.out_w * g.out_c, first + count, count, rows, kernel);
            pair_outputs(g, dy, first, count, z);
            for (std::int64_t k = 0; k < kernel; ++k) {
                next_x.next_part<false>();
                next_dy.next_part<false>();
                pair_inputs(g, x, k / g.kernel_w, k % g.kernel_w, first, count, v);
                winograd::add_cell(v, z, count * pairs, g.in_c, g.out_c, sum + k * g.in_c * g.out_c);
            }
        }
    });
    for (std::int64_t k = 0; k < kernel; ++k)
        for (std::int64_t i = 0; i < g.in_c; ++i)
            for (std::int64_t o = 0; o < g.out_c; ++o) {
                double total = 0;
                for (int part = 0; part < parts; ++part) total += sums.part(part)[(k * g.in_c + i) * g.out_c + o];
                dweight[(o * kernel + k) * g.in_c + i] = static_cast<float>(total);
            }
}

}  // namespace bitloom::ops::cpu
