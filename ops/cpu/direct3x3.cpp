// A tile of 2 x 8 outputs is held in 16 registers, the nine cells of the filter for one input channel in nine more.
// Every input cell above the tile is read once a channel and multiplied into the up to nine outputs that it reaches.

#include "ops/cpu/direct3x3.h"

#include <array>

#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu {

namespace {

constexpr std::int64_t lanes = 16, cells = 9, least_batch = 16;
constexpr int tile_rows = 2, tile_columns = 8;
using Vector = Pack<lanes>::Float;

/// A convolution with padding 1 in the form that the loops below compute: both passes are one. Filters
/// [channels][9][lanes].
struct Job {
    std::int64_t batch, height, width, channels;
    const float *x, *filters;
    Vector start;  // the bias
    float* y;
};

/// Which column beside the map the tile's window of input reaches.
enum class Edge { none, left, right };

/// y[2][8][lanes], from the input's four lines; `before` points at the column before the
/// tile's first in each of them.
template <Edge edge>
void tile(const Job& job, const std::array<const float*, tile_rows + 2>& before, float* y) {
    Vector sums[tile_rows][tile_columns];
    for (auto& row : sums)
        for (Vector& sum : row) sum = job.start;
    for (std::int64_t i = 0; i < job.channels; ++i) {
        Vector filter[cells];
        for (int k = 0; k < cells; ++k) filter[k] = load<Vector>(job.filters + (i * cells + k) * lanes);
#pragma GCC unroll 4
        for (int r = 0; r < tile_rows + 2; ++r) {
            constexpr int first = edge == Edge::left ? 1 : 0, last = tile_columns + (edge == Edge::right ? 1 : 2);
#pragma GCC unroll 10
            for (int c = first; c < last; ++c) {
                const Vector value = splat<Vector>(before[r][c * job.channels + i]);
#pragma GCC unroll 3
                for (int kh = 0; kh < 3; ++kh) {
#pragma GCC unroll 3
                    for (int kw = 0; kw < 3; ++kw)
                        if (r - kh >= 0 && r - kh < tile_rows && c - kw >= 0 && c - kw < tile_columns)
                            sums[r - kh][c - kw] += filter[kh * 3 + kw] * value;
                }
            }
        }
    }
    for (int r = 0; r < tile_rows; ++r)
        for (int c = 0; c < tile_columns; ++c) store<Vector>(y + (r * job.width + c) * lanes, sums[r][c]);
}

/// Rows h and h + 1 of one image; lines above and below it are `zeros`. The last tile ends with the row and may compute
/// columns again.
void compute_rows(const Job& job, const float* image, std::int64_t h, const float* zeros, float* y) {
    const std::int64_t line = job.width * job.channels;
    for (std::int64_t w = 0; w < job.width; w += tile_columns) {
        const std::int64_t first = std::min(w, job.width - tile_columns);
        std::array<const float*, tile_rows + 2> before;
        for (std::int64_t r = 0; r < tile_rows + 2; ++r) {
            const std::int64_t row = h + r - 1;
            before[static_cast<std::size_t>(r)] =
                (row < 0 || row >= job.height ? zeros : image + row * line) + (first - 1) * job.channels;
        }
        float* to = y + (h * job.width + first) * lanes;
        if (first == 0)
            tile<Edge::left>(job, before, to);
        else if (first + tile_columns == job.width)
            tile<Edge::right>(job, before, to);
        else
            tile<Edge::none>(job, before, to);
    }
}

void run(const Job& job) {
    const std::int64_t image = job.height * job.width;
    const Tensor zeros = Tensor::zeros({job.width * job.channels});
    const float* zero_line = zeros.read<float>();
    parallel_items(job.batch, image * lanes, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t n = begin; n < end; ++n) {
            const float* from = job.x + n * image * job.channels;
            float* to = job.y + n * image * lanes;
            std::int64_t h = 0;
            for (; h + tile_rows <= job.height; h += tile_rows) compute_rows(job, from, h, zero_line, to);
            if (h < job.height) compute_rows(job, from, job.height - tile_rows, zero_line, to);
        }
    });
}

bool same3x3(const Conv2dGeometry& g) {
    return simd_lanes == lanes && g.kernel_h == 3 && g.kernel_w == 3 && g.groups == 1 && g.stride_h == 1 &&
           g.stride_w == 1 && g.dilation_h == 1 && g.dilation_w == 1 && g.pad_top == 1 && g.pad_bottom == 1 &&
           g.pad_left == 1 && g.pad_right == 1 && g.in_h >= tile_rows && g.in_w > tile_columns &&
           g.batch >= least_batch;
}

}  // namespace

bool takes_direct3x3_forward(const Conv2dGeometry& g) {
    return same3x3(g) && g.out_c == lanes && g.in_c >= 8 && g.in_c <= 64;
}
bool takes_direct3x3_backward_data(const Conv2dGeometry& g) {
    return same3x3(g) && g.in_c == lanes && g.out_c >= 8 && g.out_c <= 64;
}

void direct3x3_forward(const Conv2dGeometry& g, const float* x, const float* weight, const float* bias, float* y) {
    Tensor filters = Tensor::empty({g.in_c, cells, lanes});
    float* f = filters.write<float>();
    for (std::int64_t o = 0; o < lanes; ++o)
        for (std::int64_t k = 0; k < cells; ++k)
            for (std::int64_t i = 0; i < g.in_c; ++i) f[(i * cells + k) * lanes + o] = *weight++;
    run({g.batch, g.in_h, g.in_w, g.in_c, x, f, bias ? load<Vector>(bias) : Vector{}, y});
}

void direct3x3_backward_data(const Conv2dGeometry& g, const float* dy, const float* weight, float* dx) {
    // The convolution of dy with the filter turned by 180 degrees.
    Tensor filters = Tensor::empty({g.out_c, cells, lanes});
    float* f = filters.write<float>();
    for (std::int64_t o = 0; o < g.out_c; ++o)
        for (std::int64_t k = 0; k < cells; ++k, weight += lanes)
            std::copy_n(weight, lanes, f + (o * cells + cells - 1 - k) * lanes);
    run({g.batch, g.in_h, g.in_w, g.out_c, dy, f, Vector{}, dx});
}

}  // namespace bitloom::ops::cpu
