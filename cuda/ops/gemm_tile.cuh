#pragma once
// Matrix products C[m, n] = sum_k A[m, k] B[n, k] whose operands a "pass" computes from somewhere (a convolution's gather):
// one block a tile of C. The next tiles of A and B are fetched into registers while the present ones, in shared memory, are
// multiplied. Two ways to multiply: fused multiply-adds in f32, or tensor cores (bf16, TF32) with sums in f32.
//
// A pass has, for X in {a, b}: `x_along_depth`, whether four neighbouring elements that are fetched at once are neighbours
// in k or in the row; x_row(block, row) and x_depth(block, k), what it wants to know of either; x(row, depth), the four
// elements, zero outside; types AElement, BElement. Further block(), with rows, columns, depth_first and depth_last of this
// block's product, and store<count>(block, m, n, values).

#include <cstdint>

#include "cuda/ops/elements.cuh"
#include "cuda/ops/warp.cuh"

namespace bitloom::cuda {

template <class T>
using Quad = Pack<T, 4>;

/// The tile of one operand: `rows` x `depth` elements, fetched in quads by `threads` threads.
template <bool along_depth, int rows, int depth, int threads>
struct TileMap {
    static constexpr int quads = rows * depth / 4;
    static constexpr int per_thread = (quads + threads - 1) / threads;
    /// Quads side by side before the other index moves on.
    static constexpr int line = along_depth ? depth / 4 : rows / 4;
    static_assert(threads % line == 0, "a thread keeps to its place in the line");
    static_assert(quads >= threads ? quads % threads == 0 : true);
    __device__ static bool active() { return quads >= threads || static_cast<int>(threadIdx.x) < quads; }
    __device__ static int row(int i) {
        const int t = static_cast<int>(threadIdx.x);
        return along_depth ? t / line + i * (threads / line) : t % line * 4;
    }
    __device__ static int k(int i) {
        const int t = static_cast<int>(threadIdx.x);
        return along_depth ? t % line * 4 : t / line + i * (threads / line);
    }
};

/// f32 products by fused multiply-adds: each thread has tm x tn sums, its rows in groups of four so that neighbouring
/// threads read neighbouring words.
template <int bm, int bn, int tm, int tn>
struct SimtEngine {
    static constexpr int rows = bm, columns = bn, depth = 16;
    static constexpr int threads = bm / tm * (bn / tn);
    static constexpr int pad = 4;
    static_assert(tm % 4 == 0 && tn % 4 == 0);
    using Element = float;
    struct Shared {
        alignas(16) float a[depth][bm + pad];
        alignas(16) float b[depth][bn + pad];
    };
    struct Sums {
        float at[tm][tn] = {};
    };

    template <bool along_depth, int width, class T>
    __device__ static void put(float (&tile)[depth][width], int row, int k, const Quad<T>& quad) {
        if constexpr (along_depth) {
#pragma unroll
            for (int j = 0; j < 4; ++j) tile[k + j][row] = widen(quad.at[j]);
        } else {
            const float values[4] = {widen(quad.at[0]), widen(quad.at[1]), widen(quad.at[2]), widen(quad.at[3])};
            store_narrow(&tile[k][row], values);
        }
    }
    template <bool along_depth, class T>
    __device__ static void put_a(Shared& shared, int row, int k, const Quad<T>& quad) {
        put<along_depth>(shared.a, row, k, quad);
    }
    template <bool along_depth, class T>
    __device__ static void put_b(Shared& shared, int row, int k, const Quad<T>& quad) {
        put<along_depth>(shared.b, row, k, quad);
    }

    static constexpr int row_groups = tm / 4, column_groups = tn / 4;
    __device__ static int row(int group) {
        return group * (bm / row_groups) + static_cast<int>(threadIdx.x) / (bn / tn) * 4;
    }
    __device__ static int column(int group) {
        return group * (bn / column_groups) + static_cast<int>(threadIdx.x) % (bn / tn) * 4;
    }

    __device__ static void multiply(const Shared& shared, Sums& sums) {
#pragma unroll
        for (int k = 0; k < depth; ++k) {
            float a[tm], b[tn];
#pragma unroll
            for (int g = 0; g < row_groups; ++g) load_group(&shared.a[k][row(g)], a + 4 * g);
#pragma unroll
            for (int g = 0; g < column_groups; ++g) load_group(&shared.b[k][column(g)], b + 4 * g);
#pragma unroll
            for (int i = 0; i < tm; ++i)
#pragma unroll
                for (int j = 0; j < tn; ++j) sums.at[i][j] += a[i] * b[j];
        }
    }

    /// Calls f(row, column, four neighbouring sums).
    template <class F>
    __device__ static void for_each(const Sums& sums, F&& f) {
#pragma unroll
        for (int i = 0; i < tm; ++i)
#pragma unroll
            for (int g = 0; g < column_groups; ++g) {
                const float values[4] = {sums.at[i][4 * g], sums.at[i][4 * g + 1], sums.at[i][4 * g + 2],
                                         sums.at[i][4 * g + 3]};
                f(row(i / 4) + i % 4, column(g), values);
            }
    }

   private:
    __device__ static void load_group(const float* from, float* to) {
        const Quad<float> quad = load_pack<4>(from);
#pragma unroll
        for (int j = 0; j < 4; ++j) to[j] = quad.at[j];
    }
};

/// How tensor cores take their factors.
struct Bf16Factors {
    using Element = std::uint16_t;
    static constexpr int step = 16;   ///< k of one instruction
    static constexpr int depth = 32;  ///< k of a tile
    template <class T>
    __device__ static Pack<Element, 4> of(const Quad<T>& quad) {
        if constexpr (std::is_same_v<T, bf16>) {
            return {{quad.at[0].bits, quad.at[1].bits, quad.at[2].bits, quad.at[3].bits}};
        } else {
            const std::uint32_t low = pack_bf16(quad.at[0], quad.at[1]), high = pack_bf16(quad.at[2], quad.at[3]);
            return {{static_cast<Element>(low), static_cast<Element>(low >> 16), static_cast<Element>(high),
                     static_cast<Element>(high >> 16)}};
        }
    }
    __device__ static void multiply(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
        multiply_bf16(c, a, b);
    }
};
struct Tf32Factors {
    using Element = std::uint32_t;
    static constexpr int step = 8, depth = 16;
    template <class T>
    __device__ static Pack<Element, 4> of(const Quad<T>& quad) {
        return {{round_to_tf32(widen(quad.at[0])), round_to_tf32(widen(quad.at[1])), round_to_tf32(widen(quad.at[2])),
                 round_to_tf32(widen(quad.at[3]))}};
    }
    __device__ static void multiply(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
        multiply_tf32(c, a, b);
    }
};

/// Tensor cores: warps side by side along the rows, each with 16 x 8 tiles. Rows in shared memory are 80 bytes apart, so
/// that the eight rows and four words of a fragment lie in 32 banks.
template <class Factors, int bm, int bn, int warps>
struct TensorEngine {
    static constexpr int rows = bm, columns = bn, depth = Factors::depth, threads = warps * warp_size;
    using Element = typename Factors::Element;
    static constexpr int words = 20;  ///< from row to row
    static constexpr int stride = words * 4 / static_cast<int>(sizeof(Element));
    static constexpr int warp_rows = bm / warps, row_tiles = warp_rows / 16, column_tiles = bn / 8;
    static_assert(warp_rows % 16 == 0 && bn % 8 == 0 && stride > depth);
    struct Shared {
        alignas(16) Element a[bm][stride];
        alignas(16) Element b[bn][stride];
    };
    struct Sums {
        float at[row_tiles][column_tiles][4] = {};
    };

    template <bool along_depth, int height, class T>
    __device__ static void put(Element (&tile)[height][stride], int row, int k, const Quad<T>& quad) {
        const Pack<Element, 4> factors = Factors::of(quad);
        if constexpr (along_depth) {
            store_pack<4>(&tile[row][k], factors);
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j) tile[row + j][k] = factors.at[j];
        }
    }
    template <bool along_depth, class T>
    __device__ static void put_a(Shared& shared, int row, int k, const Quad<T>& quad) {
        put<along_depth>(shared.a, row, k, quad);
    }
    template <bool along_depth, class T>
    __device__ static void put_b(Shared& shared, int row, int k, const Quad<T>& quad) {
        put<along_depth>(shared.b, row, k, quad);
    }

    /// The word of a row that holds element k, k even where an element is half a word.
    __device__ static std::uint32_t word(const Element* row, int k) {
        return *reinterpret_cast<const std::uint32_t*>(row + k);
    }

    __device__ static void multiply(const Shared& shared, Sums& sums) {
        const int lane = static_cast<int>(threadIdx.x) % warp_size, group = lane / 4;
        const int first_row = static_cast<int>(threadIdx.x) / warp_size * warp_rows;
        constexpr int per_word = 4 / static_cast<int>(sizeof(Element)), half = Factors::step / 2;
        const int word_of_lane = lane % 4 * per_word;
#pragma unroll
        for (int k = 0; k < depth; k += Factors::step) {
            std::uint32_t b[column_tiles][2];
#pragma unroll
            for (int j = 0; j < column_tiles; ++j) {
                const Element* row = shared.b[8 * j + group];
                b[j][0] = word(row, k + word_of_lane);
                b[j][1] = word(row, k + word_of_lane + half);
            }
#pragma unroll
            for (int i = 0; i < row_tiles; ++i) {
                const Element* upper = shared.a[first_row + 16 * i + group];
                const Element* lower = shared.a[first_row + 16 * i + group + 8];
                const std::uint32_t a[4] = {word(upper, k + word_of_lane), word(lower, k + word_of_lane),
                                            word(upper, k + word_of_lane + half), word(lower, k + word_of_lane + half)};
#pragma unroll
                for (int j = 0; j < column_tiles; ++j) Factors::multiply(sums.at[i][j], a, b[j]);
            }
        }
    }

    /// Calls f(row, column, two neighbouring sums).
    template <class F>
    __device__ static void for_each(const Sums& sums, F&& f) {
        const int lane = static_cast<int>(threadIdx.x) % warp_size;
        const int first_row = static_cast<int>(threadIdx.x) / warp_size * warp_rows + lane / 4;
#pragma unroll
        for (int i = 0; i < row_tiles; ++i)
#pragma unroll
            for (int j = 0; j < column_tiles; ++j) {
                const float upper[2] = {sums.at[i][j][0], sums.at[i][j][1]}, lower[2] = {sums.at[i][j][2], sums.at[i][j][3]};
                const int column = 8 * j + lane % 4 * 2;
                f(first_row + 16 * i, column, upper);
                f(first_row + 16 * i + 8, column, lower);
            }
    }
};

/// What a thread fetches of one operand: its quads of the next tile.
template <class Operand, int rows, int depth, int threads>
struct Fetcher {
    using Map = TileMap<Operand::along_depth, rows, depth, threads>;
    using Row = decltype(std::declval<const Operand&>().row(0));
    static constexpr int row_count = Operand::along_depth ? Map::per_thread : 1;
    Row of_thread[row_count];
    Quad<typename Operand::Element> quads[Map::per_thread];

    __device__ Fetcher(const Operand& operand, int first_row) {
#pragma unroll
        for (int i = 0; i < row_count; ++i) of_thread[i] = operand.row(first_row + Map::row(i));
    }
    __device__ void fetch(const Operand& operand, int first_k) {
        if (!Map::active()) return;
        if constexpr (Operand::along_depth) {
            const auto at = operand.depth(first_k + Map::k(0));
#pragma unroll
            for (int i = 0; i < Map::per_thread; ++i) quads[i] = operand.fetch(of_thread[i], at);
        } else {
#pragma unroll
            for (int i = 0; i < Map::per_thread; ++i)
                quads[i] = operand.fetch(of_thread[0], operand.depth(first_k + Map::k(i)));
        }
    }
    template <class Put>
    __device__ void store(Put&& put) const {
        if (!Map::active()) return;
#pragma unroll
        for (int i = 0; i < Map::per_thread; ++i) put(Map::row(i), Map::k(i), quads[i]);
    }
};

template <class Pass>
struct OperandA {
    static constexpr bool along_depth = Pass::a_along_depth;
    using Element = typename Pass::AElement;
    const Pass& pass;
    const typename Pass::Block& block;
    __device__ auto row(int m) const { return pass.a_row(block, m); }
    __device__ auto depth(int k) const { return pass.a_depth(block, k); }
    template <class Row, class Depth>
    __device__ Quad<Element> fetch(const Row& row, const Depth& depth) const {
        return pass.a(row, depth);
    }
};
template <class Pass>
struct OperandB {
    static constexpr bool along_depth = Pass::b_along_depth;
    using Element = typename Pass::BElement;
    const Pass& pass;
    const typename Pass::Block& block;
    __device__ auto row(int n) const { return pass.b_row(block, n); }
    __device__ auto depth(int k) const { return pass.b_depth(block, k); }
    template <class Row, class Depth>
    __device__ Quad<Element> fetch(const Row& row, const Depth& depth) const {
        return pass.b(row, depth);
    }
};

/// Grid: tiles of rows x tiles of columns x whatever the pass makes of blockIdx.z.
template <class Pass, class Engine>
__global__ void __launch_bounds__(Engine::threads) product_kernel(Pass pass) {
    typename Engine::Shared* const buffers = static_cast<typename Engine::Shared*>(dynamic_shared());
    const typename Pass::Block block = pass.block();
    const int first_row = static_cast<int>(blockIdx.x) * Engine::rows, first_column = static_cast<int>(blockIdx.y) * Engine::columns;
    if (first_row >= block.rows) return;  // the whole block: passes may have products of several heights
    const OperandA<Pass> a{pass, block};
    const OperandB<Pass> b{pass, block};
    Fetcher<OperandA<Pass>, Engine::rows, Engine::depth, Engine::threads> fetch_a(a, first_row);
    Fetcher<OperandB<Pass>, Engine::columns, Engine::depth, Engine::threads> fetch_b(b, first_column);
    const auto store = [&](typename Engine::Shared& shared) {
        fetch_a.store([&](int row, int k, const auto& quad) { Engine::template put_a<Pass::a_along_depth>(shared, row, k, quad); });
        fetch_b.store([&](int row, int k, const auto& quad) { Engine::template put_b<Pass::b_along_depth>(shared, row, k, quad); });
    };
    typename Engine::Sums sums;
    int buffer = 0;
    if (block.depth_first < block.depth_last) {
        fetch_a.fetch(a, block.depth_first);
        fetch_b.fetch(b, block.depth_first);
        store(buffers[0]);
        __syncthreads();
    }
    for (int k = block.depth_first; k < block.depth_last; k += Engine::depth) {
        const bool more = k + Engine::depth < block.depth_last;
        if (more) {
            fetch_a.fetch(a, k + Engine::depth);
            fetch_b.fetch(b, k + Engine::depth);
        }
        Engine::multiply(buffers[buffer], sums);
        buffer ^= 1;
        if (more) store(buffers[buffer]);  // last read before the barrier of the tile before
        __syncthreads();
    }
    Engine::for_each(sums, [&](int row, int column, const auto& values) {
        pass.store(block, first_row + row, first_column + column, values);
    });
}

/// Runs a pass whose tallest product is `rows` x `columns`, `products` of them.
template <class Engine, class Pass>
void launch_product(Device device, std::int64_t rows, std::int64_t columns, std::int64_t products, const Pass& pass) {
    const dim3 grid(static_cast<unsigned>((rows + Engine::rows - 1) / Engine::rows),
                    static_cast<unsigned>((columns + Engine::columns - 1) / Engine::columns), static_cast<unsigned>(products));
    launch(device, product_kernel<Pass, Engine>, grid, Engine::threads, 2 * sizeof(typename Engine::Shared), pass);
}

}  // namespace bitloom::cuda
