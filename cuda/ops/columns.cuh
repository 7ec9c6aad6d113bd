#pragma once
// Work on matrices [rows, channels] whose threads keep to their channels: sums down the columns, and passes over elements
// that need the channels' parameters. A block is `tile` packs of channels wide; its slices step through its rows.

#include <algorithm>
#include <bit>

#include "cuda/ops/elements.cuh"
#include "cuda/ops/warp.cuh"

namespace bitloom::cuda {

struct Columns {
    std::int64_t rows, rows_per_block;
    int channels, packs;
    int tile;  ///< a power of two that divides threads_per_block
};

/// What a thread does: rows first, first + stride, ... below last, from channel `channel` on.
struct ColumnWork {
    std::int64_t first, last;
    int column, slice, slices, channel;
    bool inside;  ///< false behind the last channel
};
template <int width>
__device__ __forceinline__ ColumnWork column_work(const Columns& c) {
    const int column = static_cast<int>(threadIdx.x) % c.tile, slice = static_cast<int>(threadIdx.x) / c.tile;
    const int pack = static_cast<int>(blockIdx.y) * c.tile + column;
    const std::int64_t begin = static_cast<std::int64_t>(blockIdx.x) * c.rows_per_block;
    return {begin + slice, min(begin + c.rows_per_block, c.rows), column,         slice,
            threads_per_block / c.tile, pack * width, pack < c.packs};
}

/// Rows of a block of a reduction: so cut that there are at most `column_blocks`, whatever the GPU.
inline constexpr std::int64_t column_blocks = 256, column_rows_per_thread = 4;

inline Columns columns_of(std::int64_t rows, std::int64_t channels, int width, std::int64_t wanted_blocks) {
    const int packs = static_cast<int>(channels / width);
    const int tile = static_cast<int>(std::min<unsigned>(std::bit_ceil(static_cast<unsigned>(std::max(packs, 1))), 64));
    const std::int64_t slices = threads_per_block / tile, tiles = (packs + tile - 1) / tile;
    const std::int64_t most = std::max<std::int64_t>(1, wanted_blocks / std::max<std::int64_t>(1, tiles));
    const std::int64_t blocks = std::clamp<std::int64_t>(rows / (slices * column_rows_per_thread), 1, most);
    const std::int64_t rows_per_block = (rows + blocks - 1) / blocks;
    return {rows, std::max<std::int64_t>(1, rows_per_block), static_cast<int>(channels), packs, tile};
}
inline dim3 grid_of(const Columns& c) {
    return dim3(static_cast<unsigned>((c.rows + c.rows_per_block - 1) / c.rows_per_block),
                static_cast<unsigned>((c.packs + c.tile - 1) / c.tile));
}

/// Calls f(width as a constant): packs of 16 bytes where the channels are whole packs and the addresses aligned, else 1.
template <class T, class F, class... Pointers>
void dispatch_columns(std::int64_t channels, F&& f, const Pointers*... pointers) {
    constexpr int wide = pack_width<T>;
    if (channels % wide == 0 && aligned_to(16, pointers...))
        f(std::integral_constant<int, wide>{});
    else
        f(std::integral_constant<int, 1>{});
}

/// partial[block][term][channel] = sum over the block's rows of terms(row's elements)[term].
/// `terms.load(row, channel, width)` gives the thread's terms of one row.
template <int width, class Terms>
__global__ void column_sums_kernel(Columns c, Terms terms, float* partial) {
    constexpr int count = Terms::count;
    __shared__ float shared[threads_per_block][count * width];
    const ColumnWork work = column_work<width>(c);
    float sums[count * width] = {};
    if (work.inside) {
        const auto parameters = terms.template parameters<width>(work.channel);
        for (std::int64_t row = work.first; row < work.last; row += work.slices)
            terms.template add<width>(parameters, row * c.channels + work.channel, sums);
    }
#pragma unroll
    for (int k = 0; k < count * width; ++k) shared[threadIdx.x][k] = sums[k];
    __syncthreads();
    for (int half = work.slices / 2; half > 0; half /= 2) {
        if (work.slice < half) {
#pragma unroll
            for (int k = 0; k < count * width; ++k)
                shared[threadIdx.x][k] += shared[threadIdx.x + static_cast<unsigned>(half * c.tile)][k];
        }
        __syncthreads();
    }
    if (work.slice != 0 || !work.inside) return;
#pragma unroll
    for (int k = 0; k < count * width; ++k)
        partial[(static_cast<std::int64_t>(blockIdx.x) * count + k / width) * c.channels + work.channel + k % width] =
            shared[threadIdx.x][k];
}

/// The sum of one term over all blocks, by one warp, in every lane.
__device__ __forceinline__ float sum_of_blocks(const float* partial, int blocks, std::int64_t stride, int lane) {
    float sum = 0;
    for (int b = lane; b < blocks; b += warp_size) sum += partial[b * stride];
    return warp_sum(sum);
}

inline constexpr int warps_per_block = threads_per_block / warp_size;
inline unsigned blocks_of_warps(std::int64_t warps) {
    return static_cast<unsigned>((warps + warps_per_block - 1) / warps_per_block);
}

}  // namespace bitloom::cuda
