#pragma once
// Matrix products by cuBLAS, and by cuBLASLt where bias and ReLU follow.

#include <cstdint>

#include "engine/device.h"
#include "engine/dtype.h"

namespace bitloom::cuda {

/// C[m, n] = sum_k A[m, k] B[k, n], all row-major, `lead` elements from row to row. A transposed operand is stored the other
/// way round ([k, m], [n, k]). A and B have one type, f32 or bf16; C is f32 or, beside bf16 operands, bf16. Sums run in f32;
/// factors are rounded to TF32 only where ops::tf32_allowed().
struct MatrixProduct {
    std::int64_t m = 0, n = 0, k = 0;  ///< all positive
    bool a_transposed = false, b_transposed = false;
    std::int64_t a_lead = 0, b_lead = 0, c_lead = 0;
    DType operand_type = DType::f32, result_type = DType::f32;
    bool accumulate = false;  ///< C += instead of C =; C is f32

    auto operator<=>(const MatrixProduct&) const = default;
};
void multiply(Device device, const MatrixProduct& product, const void* a, const void* b, void* c);

/// The same with max(0, ...) or identity of the product plus bias[n] (may be null) in one call, f32 only.
void multiply_with_epilogue(Device device, const MatrixProduct& product, const float* a, const float* b, const float* bias,
                            bool relu, float* c);

}  // namespace bitloom::cuda
