#pragma once
// Which tile multiplies which product.

#include "cuda/ops/gemm_tile.cuh"
#include "ops/precision.h"

namespace bitloom::cuda {

/// Calls f with an engine for `columns` output columns (16, 32 or 64 a tile; 16 where `small_only`) of activations T. `tall`
/// engines take tiles of 128 rows, for products with many.
template <class T, bool tall, bool small_only, class F>
void dispatch_engine(std::int64_t columns, F&& f) {
    constexpr int tall_rows = tall ? 128 : 64, tall_warps = tall_rows / 32;
    const auto with_factors = [&]<class Factors>(Factors) {
        if constexpr (!small_only) {
            if (columns > 32) return f(TensorEngine<Factors, tall_rows, 64, tall_warps>{});
            if (columns > 16) return f(TensorEngine<Factors, tall_rows, 32, tall_warps>{});
        }
        f(TensorEngine<Factors, tall_rows, 16, tall_warps>{});
    };
    if constexpr (std::is_same_v<T, bf16>) {
        with_factors(Bf16Factors{});
    } else {
        if (ops::tf32_allowed()) return with_factors(Tf32Factors{});
        if constexpr (!small_only) {
            if (columns > 32) return f(SimtEngine<64, 64, 8, 4>{});
            if (columns > 16) return f(SimtEngine<tall_rows, 32, tall ? 8 : 4, 4>{});
        }
        f(SimtEngine<tall_rows, 16, 4, 4>{});
    }
}

}  // namespace bitloom::cuda
