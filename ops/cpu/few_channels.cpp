// One row of dx at a time. For every output column, a register collects what its filter row sends to the kw x in_c
// values below it: the sum over the rows kh and the output channels of dy times the weight's row. A second pass adds,
// for each column of dx, the parts that the kw registers beside it hold.

#include "ops/cpu/few_channels.h"

#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu {

namespace {

constexpr std::int64_t lanes = 16;  // of a filter row
using Row = Pack<lanes>::Float;

/// The filter rows [kh][out_c], each padded with zeros to `lanes`.
Tensor padded_rows(const Conv2dGeometry& g, const float* weight) {
    Tensor rows = Tensor::empty({g.kernel_h, g.out_c, lanes});
    float* to = rows.write<float>();
    const std::int64_t values = g.kernel_w * g.in_c;
    for (std::int64_t kh = 0; kh < g.kernel_h; ++kh) {
        for (std::int64_t o = 0; o < g.out_c; ++o, to += lanes) {
            const float* from = weight + (o * g.kernel_h + kh) * values;
            std::copy_n(from, values, to);
            std::fill_n(to + values, lanes - values, 0.0f);
        }
    }
    return rows;
}

/// parts[ow] = the sum over o of dy[ow][o] times row o, for `Columns` columns, added to what is there unless `first`.
template <int Columns>
[[gnu::always_inline]] inline void add_parts(const float* dy, const float* rows, std::int64_t out_c, bool first,
                                             float* parts) {
    Row sums[Columns] = {};
    if (!first)
        for (int i = 0; i < Columns; ++i) sums[i] = load<Row>(parts + i * lanes);
    for (std::int64_t o = 0; o < out_c; ++o) {
        const Row row = load<Row>(rows + o * lanes);
#pragma GCC unroll 12
        for (int i = 0; i < Columns; ++i) sums[i] += row * dy[i * out_c + o];
    }
    for (int i = 0; i < Columns; ++i) store<Row>(parts + i * lanes, sums[i]);
}

/// The parts of row h of one image's dx; false where no filter row meets it.
bool collect_parts(const Conv2dGeometry& g, const float* dy, std::int64_t h, const float* rows, float* parts) {
    constexpr int columns = 10;
    bool first = true;
    for (std::int64_t kh = 0; kh < g.kernel_h; ++kh) {
        const std::int64_t oh = h + g.pad_top - kh;
        if (oh < 0 || oh >= g.out_h) continue;
        const float* from = dy + oh * g.out_w * g.out_c;
        const float* filter = rows + kh * g.out_c * lanes;
        std::int64_t ow = 0;
        for (; ow + columns <= g.out_w; ow += columns)
            add_parts<columns>(from + ow * g.out_c, filter, g.out_c, first, parts + ow * lanes);
        for (; ow < g.out_w; ++ow) add_parts<1>(from + ow * g.out_c, filter, g.out_c, first, parts + ow * lanes);
        first = false;
    }
    return !first;
}

/// Column w of dx is the sum over kw of value kw of output column w + pad_left - kw.
void add_up(const Conv2dGeometry& g, const float* parts, float* dx) {
    using Cell = Pack<4>::Float;  // in_c values; the lanes behind them are not used
    const std::int64_t length = g.in_w * g.in_c;
    for (std::int64_t w = 0; w < g.in_w; ++w) {
        const std::int64_t start = w + g.pad_left;  // the output column of kw = 0
        const std::int64_t first = std::max<std::int64_t>(start - g.out_w + 1, 0);
        const std::int64_t last = std::min(g.kernel_w, start + 1);
        Cell sum{};
        for (std::int64_t kw = first; kw < last; ++kw) sum += load<Cell>(parts + (start - kw) * lanes + kw * g.in_c);
        float* to = dx + w * g.in_c;
        if (w * g.in_c + 4 <= length)
            store<Cell>(to, sum);  // what is too much, the next column overwrites
        else
            for (std::int64_t c = 0; c < g.in_c; ++c) to[c] = sum[c];
    }
}

}  // namespace

bool few_channels(const Conv2dGeometry& g) {
    return g.in_c <= 4 && g.kernel_w * g.in_c <= lanes && g.groups == 1 && g.stride_h == 1 && g.stride_w == 1 &&
           g.dilation_h == 1 && g.dilation_w == 1;
}

void few_channels_backward_data(const Conv2dGeometry& g, const float* dy, const float* weight, float* dx) {
    const Tensor padded = padded_rows(g, weight);
    const float* rows = padded.read<float>();
    const int threads = threads_for(g.batch * g.in_h * g.in_w * g.kernel_h * g.out_c);
    const std::int64_t scratch_size = (g.out_w + 1) * lanes;  // one column more: the last is read beyond its end
    Tensor scratch = Tensor::empty({threads, scratch_size});
    float* memory = scratch.write<float>();
    parallel_ranges(g.batch * g.in_h, threads, [&](std::int64_t begin, std::int64_t end, int thread) {
        float* parts = memory + thread * scratch_size;
        for (std::int64_t row = begin; row < end; ++row) {
            const std::int64_t n = row / g.in_h, h = row % g.in_h;
            float* to = dx + row * g.in_w * g.in_c;
            if (collect_parts(g, dy + n * g.out_h * g.out_w * g.out_c, h, rows, parts))
                add_up(g, parts, to);
            else
                std::fill_n(to, g.in_w * g.in_c, 0.0f);
        }
    });
}

}  // namespace bitloom::ops::cpu
