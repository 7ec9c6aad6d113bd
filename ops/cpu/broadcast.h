#pragma once
// Loops over several strided operands, with axes merged so that the innermost run is as long as it can be.

#include <array>
#include <cstdint>

#include "engine/shape.h"

namespace bitloom::ops::cpu {

/// Row-major axes, each with one stride an operand. Axes of extent 1 are dropped, neighbours merged where every operand
/// allows.
template <int Operands>
struct MergedAxes {
    int rank = 0;
    std::array<std::int64_t, Shape::max_rank> sizes{};
    std::array<std::array<std::int64_t, Operands>, Shape::max_rank> strides{};

    /// Axes are appended from the outermost inwards.
    void append(std::int64_t size, const std::array<std::int64_t, Operands>& stride) {
        if (size == 1) return;
        if (rank > 0) {
            bool merges = true;
            for (int k = 0; k < Operands; ++k) merges &= strides[rank - 1][k] == stride[k] * size;
            if (merges) {
                sizes[rank - 1] *= size;
                strides[rank - 1] = stride;
                return;
            }
        }
        sizes[rank] = size;
        strides[rank++] = stride;
    }
    std::int64_t inner_size() const { return rank ? sizes[rank - 1] : 1; }
    std::array<std::int64_t, Operands> inner_strides() const {
        return rank ? strides[rank - 1] : std::array<std::int64_t, Operands>{};
    }
    /// Number of runs over the `inner` innermost axes.
    std::int64_t runs(int inner = 1) const {
        std::int64_t n = 1;
        for (int i = 0; i < rank - inner; ++i) n *= sizes[i];
        return n;
    }
    /// Calls f(offsets of the operands) for runs [begin, end), in row-major order, over the `inner` innermost axes.
    template <class F>
    void for_each_run(std::int64_t begin, std::int64_t end, F&& f, int inner = 1) const {
        std::array<std::int64_t, Shape::max_rank> index{};
        std::array<std::int64_t, Operands> offsets{};
        std::int64_t rest = begin;
        for (int axis = rank - inner - 1; axis >= 0; --axis) {
            index[axis] = rest % sizes[axis];
            rest /= sizes[axis];
            for (int k = 0; k < Operands; ++k) offsets[k] += index[axis] * strides[axis][k];
        }
        for (std::int64_t run = begin; run < end; ++run) {
            f(offsets);
            for (int axis = rank - inner - 1; axis >= 0; --axis) {
                for (int k = 0; k < Operands; ++k) offsets[k] += strides[axis][k];
                if (++index[axis] < sizes[axis]) break;
                for (int k = 0; k < Operands; ++k) offsets[k] -= strides[axis][k] * sizes[axis];
                index[axis] = 0;
            }
        }
    }
};

}  // namespace bitloom::ops::cpu
