// Tiles of the whole batch are numbered; a block of them is transformed, multiplied and transformed back while it lies
// in the caches: 16 products [tiles, channels] [channels, filters], one a cell of the 4 x 4 transforms.
//
//     forward          M = V U,       V = B^T x B,  U = G w G^T,  y = A^T M A
//     data gradient    the same with dy for x and the filter turned by 180 degrees, its channels swapped
//     filter gradient  dU = V^T Z,    Z = A dy A^T,               dw = G^T dU G

#include "ops/cpu/winograd.h"

#include "ops/cpu/onednn.h"
#include "ops/cpu/scratch.h"
#include "ops/cpu/winograd_gradient.h"

namespace bitloom::ops::cpu {

using namespace winograd;

namespace {

constexpr std::int64_t least_tiles = 48;

/// u[cell] = G w G^T of one filter w[3][3].
template <class V>
[[gnu::always_inline]] inline std::array<V, cells> transform_filter(const std::array<V, 9>& w) {
    const auto expand = [](const V& a, const V& b, const V& c) __attribute__((always_inline)) {
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

enum class Pass { forward, backward_data };

/// U [cell][in / together][out][together] of weights [out][3][3][in] or, for the data gradient, with in and out
/// exchanged and the filters turned by 180 degrees.
template <class Value>
void transform_filters(Pass pass, std::int64_t out, std::int64_t in, const float* weight, Value* u) {
    constexpr std::int64_t pair = together<Value>;
    const auto transformed = [&](std::int64_t o, std::int64_t i) {
        std::array<Vector, 9> w;
        for (std::size_t k = 0; k < 9; ++k)
            w[pass == Pass::forward ? k : 8 - k] =
                load<Vector>(weight + (o * 9 + static_cast<std::int64_t>(k)) * in + i);
        return transform_filter(w);
    };
    const auto scatter = [&](std::int64_t o, std::int64_t i) {
        Value* to = u + i * out + o * pair;
        for (const Vector& values : transformed(o, i)) {
            std::array<Value, lanes> line;
            store(line.data(), values);
            for (std::int64_t l = 0; l < lanes; l += pair)
                std::memcpy(static_cast<void*>(to + l * out), &line[static_cast<std::size_t>(l)], sizeof(float));
            to += in * out;
        }
    };
    const auto turn = [&](std::int64_t o, std::int64_t i) {
        const std::array<Vector, cells> row = transformed(o, i), next = transformed(o + pair - 1, i);
        Value* to = u + o * in + i * pair;
        for (std::size_t cell = 0; cell < cells; ++cell, to += in * out) {
            if constexpr (pair == 2)
                store(static_cast<void*>(to), round_pairs(row[cell], next[cell]));
            else
                store(to, row[cell]);
        }
    };
    // 16 filters at a time write whole lines of U while these lie in the first cache.
    for (std::int64_t group = 0; group < out; group += lanes)
        for (std::int64_t i = 0; i < in; i += lanes)
            for (std::int64_t o = group; o < group + lanes; o += pass == Pass::forward ? 1 : pair)
                pass == Pass::forward ? scatter(o, i) : turn(o, i);
}

/// Transformed filters of the weights that the thread met last, kept until a weight changes.
template <class Value>
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
            slot->filters = Tensor::empty({cells, g.in_c * g.out_c}, dtype_of<Value>());
        transform_filters(pass, g.out_c, g.in_c, weight.read<float>(), slot->filters.template write<Value>());
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

template <class Value>
const Tensor& transformed_filters(Pass pass, const Conv2dGeometry& g, const Tensor& weight) {
    thread_local FilterCache<Value> cache;
    return cache.find_or_make(pass, g, weight);
}

template <class T>
void run(const Shape& s, const T* x, const Tensor& filters, const float* bias, const T* residual, bool relu, T* y) {
    const T* u = filters.read<T>();
    const std::int64_t tiles = s.tiles(), block = block_tiles(s.filters), blocks = (tiles + block - 1) / block;
    const int threads = threads_for(s.tiles() * 4 * s.filters);
    const ScratchParts<T> v_memory(threads, block * cells * s.channels);
    const ScratchParts<float> m_memory(threads, block * cells * s.filters);
    const Tensor zeros = Tensor::zeros({s.in_w * s.channels}, dtype_of<T>());
    const T* zero_line = zeros.read<T>();
    parallel_ranges(blocks, threads, [&](std::int64_t begin, std::int64_t end, int part) {
        T* v = v_memory.part(part);
        float* m = m_memory.part(part);
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t first = b * block, count = std::min(block, tiles - first);
            if (s.channels == lanes)
                transform_input<true>(s, x, zero_line, first, count, by_tile(s.channels), v);
            else
                transform_input<false>(s, x, zero_line, first, count, by_tile(s.channels), v);
            multiply_cells(v, u, count, s.channels, s.filters, m,
                           Prefetch(x + s.lines_below(), s.x_values(), first + count, count, tiles),
                           Prefetch(y, s.y_values(), first + count, count, tiles));
            if (s.filters == lanes)
                transform_output<true>(s, m, bias, residual, relu, first, count, y);
            else
                transform_output<false>(s, m, bias, residual, relu, first, count, y);
        }
    });
}

/// dw = G^T dU G of one filter, or of one a lane.
template <class V>
[[gnu::always_inline]] inline std::array<V, 9> filter_of(const std::array<V, cells>& u) {
    const auto contract = [](const V& a, const V& b, const V& c, const V& d) __attribute__((always_inline)) {
        return std::array<V, 3>{a + (b + c) * 0.5, (b - c) * 0.5, (b + c) * 0.5 + d};
    };
    std::array<std::array<V, 3>, 4> columns;  // of G^T u, by column of u
    for (std::size_t c = 0; c < 4; ++c) columns[c] = contract(u[c], u[4 + c], u[8 + c], u[12 + c]);
    std::array<V, 9> w;
    for (std::size_t r = 0; r < 3; ++r) {
        const auto row = contract(columns[0][r], columns[1][r], columns[2][r], columns[3][r]);
        std::copy(row.begin(), row.end(), w.begin() + static_cast<std::ptrdiff_t>(r * 3));
    }
    return w;
}

/// dw of all filters from the parts' dU [cell][channel][filter], in double: they are sums over the parts.
void add_parts(const Shape& s, const ScratchParts<float>& sums, int parts, float* dweight) {
    using Doubles = double __attribute__((vector_size(64)));
    constexpr std::int64_t wide = sizeof(Doubles) / sizeof(double);
    parallel_items(s.filters / lanes, lanes * s.channels * cells * parts, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = 0; i < s.channels; ++i)
            for (std::int64_t o = begin * lanes; o < end * lanes; o += wide) {
                std::array<Doubles, cells> u{};
                for (int part = 0; part < parts; ++part)
                    for (std::int64_t cell = 0; cell < cells; ++cell)
                        u[static_cast<std::size_t>(cell)] += __builtin_convertvector(
                            load<Pack<wide>::Float>(sums.part(part) + (cell * s.channels + i) * s.filters + o),
                            Doubles);
                const std::array<Doubles, 9> w = filter_of(u);
                for (std::int64_t l = 0; l < wide; ++l)
                    for (std::int64_t k = 0; k < 9; ++k)
                        dweight[((o + l) * 9 + k) * s.channels + i] =
                            static_cast<float>(w[static_cast<std::size_t>(k)][l]);
            }
    });
}

}  // namespace

bool takes_winograd(const Conv2dGeometry& g, DType activations) {
    // Beside AMX the transforms take longer than the products of bf16 that they save.
    if (activations == DType::bf16 && onednn::multiplies_tiles_of_bf16()) return false;
    return simd_lanes == lanes && g.kernel_h == 3 && g.kernel_w == 3 && g.groups == 1 && g.stride_h == 1 &&
           g.stride_w == 1 && g.dilation_h == 1 && g.dilation_w == 1 && g.pad_top <= 2 && g.pad_bottom <= 2 &&
           g.pad_left <= 2 && g.pad_right <= 2 && g.in_c % lanes == 0 && g.out_c % lanes == 0 &&
           std::min(g.in_c, g.out_c) >= lanes && g.in_c * g.out_c <= 128 * 128 &&
           forward_shape(g).tiles() >= least_tiles;
}

template <class T>
void winograd_forward(const Conv2dGeometry& g, const T* x, const Tensor& weight, const float* bias, const T* residual,
                      NormEpilogue epilogue, T* y) {
    run(forward_shape(g), x, transformed_filters<T>(Pass::forward, g, weight), bias, residual,
        epilogue == NormEpilogue::relu, y);
}

template <class T>
void winograd_backward_data(const Conv2dGeometry& g, const T* dy, const Tensor& weight, T* dx) {
    run<T>(gradient_shape(g), dy, transformed_filters<T>(Pass::backward_data, g, weight), nullptr, nullptr, false, dx);
}

template <class T>
void winograd_backward_weights(const Conv2dGeometry& g, const T* x, const T* dy, float* dweight) {
    const Shape s = forward_shape(g);
    const std::int64_t groups = s.groups(group_width<T>), blocks = (groups + block_groups<T> - 1) / block_groups<T>;
    const int parts = static_cast<int>(std::min<std::int64_t>(parts_for(s.tiles() * 4 * s.filters), blocks));
    const ScratchParts<T> v_memory(parts, block_size<T>(s.channels)), z_memory(parts, block_size<T>(s.filters));
    const std::int64_t size = cells * s.channels * s.filters;
    const ScratchParts<float> sums(parts, size);
    const Tensor zeros = Tensor::zeros({std::max(s.in_w * s.channels, s.filters)}, dtype_of<T>());
    const T* zero_line = zeros.read<T>();
    parallel_ranges(blocks, parts, [&](std::int64_t begin, std::int64_t end, int part) {
        T *v = v_memory.part(part), *z = z_memory.part(part);
        float* sum = sums.part(part);
        std::fill_n(sum, size, 0.0f);
        for (std::int64_t b = begin; b < end; ++b) {
            const std::int64_t first = b * block_groups<T>, count = std::min(block_groups<T>, groups - first);
            transform_groups(s, x, zero_line, first, count, v);
            transform_gradient(s, dy, zero_line, first, count, z);
            add_cells(v, z, count, s.channels, s.filters, sum,
                      Prefetch(x + s.lines_below(), s.x_values(), first + count, count, groups),
                      Prefetch(dy, s.y_values(), first + count, count, groups));
        }
    });
    add_parts(s, sums, parts, dweight);
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
