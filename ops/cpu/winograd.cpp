// Tiles of the whole batch are numbered; a block of them is transformed, multiplied and transformed back while it lies
// in the caches: 16 products [tiles, channels] [channels, filters], one a cell of the 4 x 4 transforms.
//
//     forward          M = V U,       V = B^T x B,  U = G w G^T,  y = A^T M A
//     data gradient    the same with dy for x and the filter turned by 180 degrees, its channels swapped
//     filter gradient  dU = V^T Z,    Z = A dy A^T,               dw = G^T dU G

#include "ops/cpu/winograd.h"

#include <array>

#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu {

namespace {

constexpr int lanes = 16, cells = 16;
constexpr std::int64_t block_tiles = 48;           // a multiple of every number of rows of multiply_rows
constexpr std::int64_t gradient_block_tiles = 64;  // the sums are read and written once a block
constexpr std::int64_t least_tiles = 48;
using Vector = Pack<lanes>::Float;

/// Floats between the same tile's values of two cells: a whole block of tiles and one line more, so that the sixteen
/// cells that a transform writes side by side do not meet in the same set of the first cache.
constexpr std::int64_t cell_stride(std::int64_t tiles, std::int64_t channels) { return tiles * channels + lanes; }

/// A convolution in the form that the forward loops compute: y [batch, out_h, out_w, filters] of x [batch, in_h, in_w,
/// channels] padded by `top` and `left` zeros.
struct Shape {
    std::int64_t batch, in_h, in_w, channels, out_h, out_w, filters, top, left;
    std::int64_t tiles_down() const { return (out_h + 1) / 2; }
    std::int64_t tiles_across() const { return (out_w + 1) / 2; }
    std::int64_t tiles() const { return batch * tiles_down() * tiles_across(); }
};

Shape forward_shape(const Conv2dGeometry& g) {
    return {g.batch, g.in_h, g.in_w, g.in_c, g.out_h, g.out_w, g.out_c, g.pad_top, g.pad_left};
}
Shape gradient_shape(const Conv2dGeometry& g) {
    return {g.batch, g.out_h, g.out_w, g.out_c, g.in_h, g.in_w, g.in_c, 2 - g.pad_top, 2 - g.pad_left};
}

/// The place of a tile: its image and the first row and column of its outputs.
struct Place {
    std::int64_t image, row, column;
    Place(const Shape& s, std::int64_t tile) {
        const std::int64_t across = s.tiles_across(), per_image = s.tiles_down() * across;
        image = tile / per_image;
        row = tile % per_image / across * 2;
        column = tile % across * 2;
    }
    void advance(const Shape& s) {
        if ((column += 2) < s.out_w) return;
        column = 0;
        if ((row += 2) < s.out_h) return;
        row = 0;
        ++image;
    }
};

/// Calls f(tile's index within the block, place) for `count` tiles from `first`.
template <class F>
void for_each_tile(const Shape& s, std::int64_t first, std::int64_t count, F&& f) {
    Place place(s, first);
    for (std::int64_t t = 0; t < count; ++t, place.advance(s)) f(t, place);
}

/// Calls f(index within the block, place, length) for the runs of tiles in a row that the `count` tiles from `first`
/// form.
template <class F>
void for_each_run(const Shape& s, std::int64_t first, std::int64_t count, F&& f) {
    Place place(s, first);
    for (std::int64_t t = 0; t < count;) {
        const std::int64_t length = std::min(count - t, (s.out_w - place.column + 1) / 2);
        f(t, place, length);
        t += length;
        place.column += 2 * (length - 1);
        place.advance(s);
    }
}

/// V[cell][tile][channel]. Neighbours in a row share two of the four columns of their windows, whose transforms by
/// column are kept.
template <class T>
void transform_input(const Shape& s, const T* x, const T* zeros, std::int64_t first, std::int64_t count,
                     std::int64_t block, float* v) {
    const std::int64_t line = s.in_w * s.channels, stride = cell_stride(block, s.channels);
    for_each_run(s, first, count, [&](std::int64_t t, const Place& p, std::int64_t length) {
        std::array<const T*, 4> rows;
        for (std::int64_t r = 0; r < 4; ++r) {
            const std::int64_t h = p.row - s.top + r;
            rows[static_cast<std::size_t>(r)] = h < 0 || h >= s.in_h ? zeros : x + (p.image * s.in_h + h) * line;
        }
        for (std::int64_t i = 0; i < s.channels; i += lanes) {
            const auto column = [&](std::int64_t w) {
                if (w < 0 || w >= s.in_w) return std::array<Vector, 4>{};
                const std::int64_t at = w * s.channels + i;
                const Vector d0 = load<Vector>(rows[0] + at), d1 = load<Vector>(rows[1] + at),
                             d2 = load<Vector>(rows[2] + at), d3 = load<Vector>(rows[3] + at);
                return std::array<Vector, 4>{d0 - d2, d1 + d2, d2 - d1, d1 - d3};
            };
            std::int64_t w = p.column - s.left;
            std::array<Vector, 4> c0 = column(w), c1 = column(w + 1);
            float* tile = v + t * s.channels + i;
            for (std::int64_t n = 0; n < length; ++n, tile += s.channels) {
                w += 2;
                const std::array<Vector, 4> c2 = column(w), c3 = column(w + 1);
                float* to = tile;
#pragma GCC unroll 4
                for (std::size_t r = 0; r < 4; ++r, to += 4 * stride) {
                    store<Vector>(to, c0[r] - c2[r]);
                    store<Vector>(to + stride, c1[r] + c2[r]);
                    store<Vector>(to + 2 * stride, c2[r] - c1[r]);
                    store<Vector>(to + 3 * stride, c1[r] - c3[r]);
                }
                c0 = c2, c1 = c3;
            }
        }
    });
}

/// m [Rows, filters] = v [Rows, channels] u [channels, filters], for Wide * 16 filters.
template <int Rows, int Wide>
[[gnu::always_inline]] inline void multiply_rows(const float* v, const float* u, std::int64_t channels,
                                                 std::int64_t filters, float* m) {
    Vector sums[Rows][Wide] = {};
    for (std::int64_t i = 0; i < channels; ++i) {
        Vector factors[Wide];
#pragma GCC unroll 4
        for (int j = 0; j < Wide; ++j) factors[j] = load<Vector>(u + i * filters + j * lanes);
#pragma GCC unroll 24
        for (int r = 0; r < Rows; ++r) {
            const Vector value = splat<Vector>(v[r * channels + i]);
#pragma GCC unroll 4
            for (int j = 0; j < Wide; ++j) sums[r][j] += value * factors[j];
        }
    }
#pragma GCC unroll 24
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < Wide; ++j) store<Vector>(m + r * filters + j * lanes, sums[r][j]);
}

/// One cell's product for `rows` tiles; rows up to the next multiple of the microkernel's are computed too.
template <int Rows, int Wide>
void multiply(const float* v, const float* u, std::int64_t rows, std::int64_t channels, std::int64_t filters,
              std::int64_t from, float* m) {
    for (std::int64_t r = 0; r < rows; r += Rows)
        multiply_rows<Rows, Wide>(v + r * channels, u + from, channels, filters, m + r * filters + from);
}

void multiply_cells(const float* v, const float* u, std::int64_t rows, std::int64_t channels, std::int64_t filters,
                    float* m) {
    for (int cell = 0; cell < cells; ++cell) {
        std::int64_t from = 0;
        for (; from + 4 * lanes <= filters; from += 4 * lanes) multiply<6, 4>(v, u, rows, channels, filters, from, m);
        for (; from + 2 * lanes <= filters; from += 2 * lanes) multiply<12, 2>(v, u, rows, channels, filters, from, m);
        for (; from < filters; from += lanes) multiply<12, 1>(v, u, rows, channels, filters, from, m);
        v += cell_stride(block_tiles, channels), m += cell_stride(block_tiles, filters), u += channels * filters;
    }
}

template <class T>
void transform_output(const Shape& s, const float* m, const float* bias, const T* residual, bool relu,
                      std::int64_t first, std::int64_t count, T* y) {
    const std::int64_t stride = cell_stride(block_tiles, s.filters);
    for_each_tile(s, first, count, [&](std::int64_t t, const Place& p) {
        const std::int64_t corner = ((p.image * s.out_h + p.row) * s.out_w + p.column) * s.filters;
        const bool below = p.row + 1 < s.out_h, right = p.column + 1 < s.out_w;
        for (std::int64_t o = 0; o < s.filters; o += lanes) {
            const float* from = m + t * s.filters + o;
            Vector a[2][4];
#pragma GCC unroll 4
            for (int c = 0; c < 4; ++c) {
                const Vector m0 = load<Vector>(from + c * stride), m1 = load<Vector>(from + (4 + c) * stride),
                             m2 = load<Vector>(from + (8 + c) * stride), m3 = load<Vector>(from + (12 + c) * stride);
                a[0][c] = m0 + m1 + m2, a[1][c] = m1 - m2 - m3;
            }
            const Vector start = bias ? load<Vector>(bias + o) : Vector{};
            const auto finish = [&](Vector sum, std::int64_t r, std::int64_t c) {
                const std::int64_t at = corner + (r * s.out_w + c) * s.filters + o;
                sum += start;
                if (residual) sum += load<Vector>(residual + at);
                if (relu) sum = sum > 0 ? sum : Vector{};
                store(y + at, sum);
            };
            finish(a[0][0] + a[0][1] + a[0][2], 0, 0);
            if (right) finish(a[0][1] - a[0][2] - a[0][3], 0, 1);
            if (!below) continue;
            finish(a[1][0] + a[1][1] + a[1][2], 1, 0);
            if (right) finish(a[1][1] - a[1][2] - a[1][3], 1, 1);
        }
    });
}

/// u[cell] = G w G^T of one filter w[3][3].
template <class V>
[[gnu::always_inline]] inline std::array<V, cells> transform_filter(const std::array<V, 9>& w) {
    const auto expand = [](V a, V b, V c) {
        const V outer = a + c;
        return std::array<V, 4>{a, (outer + b) * 0.5f, (outer - b) * 0.5f, c};
    };
    std::array<std::array<V, 4>, 3> columns;  // of G w, by column of w
    for (std::size_t c = 0; c < 3; ++c) columns[c] = expand(w[c], w[3 + c], w[6 + c]);
    std::array<V, cells> u;
    for (std::size_t r = 0; r < 4; ++r) {
        const auto row = expand(columns[0][r], columns[1][r], columns[2][r]);
        std::copy(row.begin(), row.end(), u.begin() + static_cast<std::ptrdiff_t>(r * 4));
    }
    return u;
}

/// U [cell][in][out] of weights [out][3][3][in].
void forward_filters(std::int64_t out, std::int64_t in, const float* weight, float* u) {
    for (std::int64_t o = 0; o < out; ++o)
        for (std::int64_t i = 0; i < in; i += lanes) {
            std::array<Vector, 9> w;
            for (std::size_t k = 0; k < 9; ++k)
                w[k] = load<Vector>(weight + (o * 9 + static_cast<std::int64_t>(k)) * in + i);
            const std::array<Vector, cells> row = transform_filter(w);
            for (std::int64_t cell = 0; cell < cells; ++cell)
                for (std::int64_t l = 0; l < lanes; ++l)
                    u[(cell * in + i + l) * out + o] = row[static_cast<std::size_t>(cell)][l];
        }
}

/// U [cell][out][in] of the same weights turned by 180 degrees.
void gradient_filters(std::int64_t out, std::int64_t in, const float* weight, float* u) {
    for (std::int64_t o = 0; o < out; ++o)
        for (std::int64_t i = 0; i < in; i += lanes) {
            std::array<Vector, 9> w;
            for (std::size_t k = 0; k < 9; ++k)
                w[8 - k] = load<Vector>(weight + (o * 9 + static_cast<std::int64_t>(k)) * in + i);
            const std::array<Vector, cells> row = transform_filter(w);
            for (std::int64_t cell = 0; cell < cells; ++cell)
                store<Vector>(u + (cell * out + o) * in + i, row[static_cast<std::size_t>(cell)]);
        }
}

enum class Pass { forward, backward_data };

/// Transformed filters of the weights that the thread met last, kept until a weight changes.
class FilterCache {
   public:
    const Tensor& find_or_make(Pass pass, const Conv2dGeometry& g, const Tensor& weight) {
        ++clock_;
        Entry* slot = nullptr;
        for (Entry& entry : entries_) {
            if (entry.id == weight.id() && entry.address == weight.raw() && entry.pass == pass) {
                slot = &entry;
                break;
            }
            if (!slot || entry.used < slot->used) slot = &entry;
        }
        slot->used = clock_;
        if (slot->id == weight.id() && slot->address == weight.raw() && slot->pass == pass &&
            slot->version == weight.version())
            return slot->filters;
        if (!slot->filters.defined() || slot->filters.numel() != cells * g.in_c * g.out_c)
            slot->filters = Tensor::empty({cells, g.in_c * g.out_c});
        (pass == Pass::forward ? forward_filters : gradient_filters)(g.out_c, g.in_c, weight.read<float>(),
                                                                     slot->filters.write<float>());
        slot->id = weight.id(), slot->address = weight.raw(), slot->version = weight.version(), slot->pass = pass;
        return slot->filters;
    }

   private:
    struct Entry {
        std::uint64_t id = 0, version = 0, used = 0;
        const void* address = nullptr;
        Pass pass = Pass::forward;
        Tensor filters;
    };
    std::array<Entry, 64> entries_;
    std::uint64_t clock_ = 0;
};

const Tensor& transformed_filters(Pass pass, const Conv2dGeometry& g, const Tensor& weight) {
    thread_local FilterCache cache;
    return cache.find_or_make(pass, g, weight);
}

template <class T>
void run(const Shape& s, const T* x, const Tensor& filters, const float* bias, const T* residual, bool relu, T* y) {
    const float* u = filters.read<float>();
    const std::int64_t blocks = (s.tiles() + block_tiles - 1) / block_tiles;
    const int threads = threads_for(s.tiles() * 4 * s.filters);
    const std::int64_t v_size = cells * cell_stride(block_tiles, s.channels);
    const std::int64_t scratch_size = v_size + cells * cell_stride(block_tiles, s.filters);
    Tensor scratch = Tensor::empty({threads, scratch_size});
    const Tensor zeros = Tensor::zeros({s.in_w * s.channels}, dtype_of<T>());
    const T* zero_line = zeros.read<T>();
    float* memory = scratch.write<float>();
    parallel_ranges(blocks, threads, [&](std::int64_t begin, std::int64_t end, int part) {
        float *v = memory + part * scratch_size, *m = v + v_size;
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t first = b * block_tiles, count = std::min(block_tiles, s.tiles() - first);
            transform_input(s, x, zero_line, first, count, block_tiles, v);
            multiply_cells(v, u, count, s.channels, s.filters, m);
            transform_output(s, m, bias, residual, relu, first, count, y);
        }
    });
}

/// Z[cell][tile][filter] = A dy A^T; outputs beyond the map count as 0.
template <class T>
void transform_gradient(const Shape& s, const T* dy, const T* zeros, std::int64_t first, std::int64_t count, float* z) {
    const std::int64_t stride = cell_stride(gradient_block_tiles, s.filters);
    for_each_tile(s, first, count, [&](std::int64_t t, const Place& p) {
        const T* corner = dy + ((p.image * s.out_h + p.row) * s.out_w + p.column) * s.filters;
        const bool below = p.row + 1 < s.out_h, right = p.column + 1 < s.out_w;
        const T* p01 = right ? corner + s.filters : zeros;
        const T* p10 = below ? corner + s.out_w * s.filters : zeros;
        const T* p11 = below && right ? corner + (s.out_w + 1) * s.filters : zeros;
        for (std::int64_t o = 0; o < s.filters; o += lanes) {
            const Vector d00 = load<Vector>(corner + o), d01 = load<Vector>(p01 + o), d10 = load<Vector>(p10 + o),
                         d11 = load<Vector>(p11 + o);
            const Vector left[4] = {d00, d00 + d10, d00 - d10, -d10}, other[4] = {d01, d01 + d11, d01 - d11, -d11};
            float* to = z + t * s.filters + o;
#pragma GCC unroll 4
            for (int r = 0; r < 4; ++r, to += 4 * stride) {
                store<Vector>(to, left[r]);
                store<Vector>(to + stride, left[r] + other[r]);
                store<Vector>(to + 2 * stride, left[r] - other[r]);
                store<Vector>(to + 3 * stride, -other[r]);
            }
        }
    });
}

/// sums [Rows, filters] += v[tile][Rows]^T z[tile][filters] over tiles, for Wide * 16 filters. The block's sum is
/// formed first and then added: with the long sum in one register, rounding errors would be several times as large.
template <int Rows, int Wide>
[[gnu::always_inline]] inline void add_products(const float* v, const float* z, std::int64_t tiles,
                                                std::int64_t channels, std::int64_t filters, float* sums) {
    Vector s[Rows][Wide] = {};
    for (std::int64_t t = 0; t < tiles; ++t) {
        Vector factors[Wide];
#pragma GCC unroll 4
        for (int j = 0; j < Wide; ++j) factors[j] = load<Vector>(z + t * filters + j * lanes);
#pragma GCC unroll 16
        for (int r = 0; r < Rows; ++r) {
            const Vector value = splat<Vector>(v[t * channels + r]);
#pragma GCC unroll 4
            for (int j = 0; j < Wide; ++j) s[r][j] += value * factors[j];
        }
    }
#pragma GCC unroll 16
    for (int r = 0; r < Rows; ++r)
#pragma GCC unroll 4
        for (int j = 0; j < Wide; ++j) {
            float* to = sums + r * filters + j * lanes;
            store<Vector>(to, load<Vector>(to) + s[r][j]);
        }
}

void add_cells(const float* v, const float* z, std::int64_t tiles, std::int64_t channels, std::int64_t filters,
               float* sums) {
    for (int cell = 0; cell < cells; ++cell) {
        std::int64_t from = 0;
        for (; from + 2 * lanes <= filters; from += 2 * lanes)
            for (std::int64_t i = 0; i < channels; i += 8)
                add_products<8, 2>(v + i, z + from, tiles, channels, filters, sums + i * filters + from);
        for (; from < filters; from += lanes)
            for (std::int64_t i = 0; i < channels; i += 16)
                add_products<16, 1>(v + i, z + from, tiles, channels, filters, sums + i * filters + from);
        v += cell_stride(gradient_block_tiles, channels), z += cell_stride(gradient_block_tiles, filters),
            sums += channels * filters;
    }
}

/// dw = G^T dU G of one filter, cells in double: they are sums over the parts.
std::array<double, 9> filter_of(const std::array<double, cells>& u) {
    const auto contract = [](double a, double b, double c, double d) {
        return std::array<double, 3>{a + (b + c) / 2, (b - c) / 2, (b + c) / 2 + d};
    };
    std::array<std::array<double, 3>, 4> columns;  // of G^T u, by column of u
    for (std::size_t c = 0; c < 4; ++c) columns[c] = contract(u[c], u[4 + c], u[8 + c], u[12 + c]);
    std::array<double, 9> w;
    for (std::size_t r = 0; r < 3; ++r) {
        const auto row = contract(columns[0][r], columns[1][r], columns[2][r], columns[3][r]);
        std::copy(row.begin(), row.end(), w.begin() + static_cast<std::ptrdiff_t>(r * 3));
    }
    return w;
}

}  // namespace

bool takes_winograd(const Conv2dGeometry& g) {
    return simd_lanes == lanes && g.kernel_h == 3 && g.kernel_w == 3 && g.groups == 1 && g.stride_h == 1 &&
           g.stride_w == 1 && g.dilation_h == 1 && g.dilation_w == 1 && g.pad_top <= 2 && g.pad_bottom <= 2 &&
           g.pad_left <= 2 && g.pad_right <= 2 && g.in_c % lanes == 0 && g.out_c % lanes == 0 &&
           g.in_c * g.out_c <= 128 * 128 && forward_shape(g).tiles() >= least_tiles;
}

template <class T>
void winograd_forward(const Conv2dGeometry& g, const T* x, const Tensor& weight, const float* bias, const T* residual,
                      NormEpilogue epilogue, T* y) {
    run(forward_shape(g), x, transformed_filters(Pass::forward, g, weight), bias, residual,
        epilogue == NormEpilogue::relu, y);
}

template <class T>
void winograd_backward_data(const Conv2dGeometry& g, const T* dy, const Tensor& weight, T* dx) {
    run<T>(gradient_shape(g), dy, transformed_filters(Pass::backward_data, g, weight), nullptr, nullptr, false, dx);
}

template <class T>
void winograd_backward_weights(const Conv2dGeometry& g, const T* x, const T* dy, float* dweight) {
    const Shape s = forward_shape(g);
    const std::int64_t blocks = (s.tiles() + gradient_block_tiles - 1) / gradient_block_tiles;
    const int parts = static_cast<int>(std::min<std::int64_t>(parts_for(s.tiles() * 4 * s.filters), blocks));
    const std::int64_t sums_size = cells * s.channels * s.filters;
    const std::int64_t v_size = cells * cell_stride(gradient_block_tiles, s.channels);
    const std::int64_t scratch_size = sums_size + v_size + cells * cell_stride(gradient_block_tiles, s.filters);
    Tensor scratch = Tensor::empty({parts, scratch_size});
    const Tensor zeros = Tensor::zeros({std::max(s.in_w * s.channels, s.filters)}, dtype_of<T>());
    const T* zero_line = zeros.read<T>();
    float* memory = scratch.write<float>();
    parallel_ranges(blocks, parts, [&](std::int64_t begin, std::int64_t end, int part) {
        float *sums = memory + part * scratch_size, *v = sums + sums_size, *z = v + v_size;
        std::fill_n(sums, sums_size, 0.0f);
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t first = b * gradient_block_tiles;
            const std::int64_t count = std::min(gradient_block_tiles, s.tiles() - first);
            transform_input(s, x, zero_line, first, count, gradient_block_tiles, v);
            transform_gradient(s, dy, zero_line, first, count, z);
            add_cells(v, z, count, s.channels, s.filters, sums);
        }
    });
    for (std::int64_t i = 0; i < s.channels; ++i)
        for (std::int64_t o = 0; o < s.filters; ++o) {
            std::array<double, cells> u{};
            for (int part = 0; part < parts; ++part)
                for (std::int64_t cell = 0; cell < cells; ++cell)
                    u[static_cast<std::size_t>(cell)] +=
                        memory[part * scratch_size + (cell * s.channels + i) * s.filters + o];
            const std::array<double, 9> w = filter_of(u);
            for (std::int64_t k = 0; k < 9; ++k)
                dweight[(o * 9 + k) * s.channels + i] = static_cast<float>(w[static_cast<std::size_t>(k)]);
        }
}

template void winograd_forward(const Conv2dGeometry&, const float*, const Tensor&, const float*, const float*,
                               NormEpilogue, float*);
template void winograd_forward(const Conv2dGeometry&, const bf16*, const Tensor&, const float*, const bf16*,
                               NormEpilogue, bf16*);
template void winograd_backward_data(const Conv2dGeometry&, const float*, const Tensor&, float*);
template void winograd_backward_data(const Conv2dGeometry&, const bf16*, const Tensor&, bf16*);
template void winograd_backward_weights(const Conv2dGeometry&, const float*, const float*, float*);
template void winograd_backward_weights(const Conv2dGeometry&, const bf16*, const bf16*, float*);

}  // namespace bitloom::ops::cpu
