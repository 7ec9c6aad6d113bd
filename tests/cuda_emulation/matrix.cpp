// Plain loops in the place of cuBLAS (cuda/matrix.cpp): the callers of the library are tested, not the library.

#include "cuda/matrix.h"

#include <algorithm>

#include "emulation.h"

namespace bitloom::cuda {

namespace {

float element(DType dtype, const void* memory, std::int64_t i) {
    return dtype == DType::bf16 ? static_cast<float>(static_cast<const bf16*>(memory)[i]) : static_cast<const float*>(memory)[i];
}

template <class Finish>
void multiply_each(const MatrixProduct& p, const void* a, const void* b, Finish&& finish) {
    for (std::int64_t i = 0; i < p.m; ++i) {
        for (std::int64_t j = 0; j < p.n; ++j) {
            float sum = 0;
            for (std::int64_t k = 0; k < p.k; ++k)
                sum += element(p.operand_type, a, p.a_transposed ? k * p.a_lead + i : i * p.a_lead + k) *
                       element(p.operand_type, b, p.b_transposed ? j * p.b_lead + k : k * p.b_lead + j);
            finish(i * p.c_lead + j, j, sum);
        }
    }
}

}  // namespace

void multiply(Device, const MatrixProduct& p, const void* a, const void* b, void* c) {
    emulation::submit([=] {
        multiply_each(p, a, b, [&](std::int64_t at, std::int64_t, float sum) {
            if (p.result_type == DType::bf16)
                static_cast<bf16*>(c)[at] = bf16(sum);
            else
                static_cast<float*>(c)[at] = sum + (p.accumulate ? static_cast<float*>(c)[at] : 0.0f);
        });
    });
}

void multiply_with_epilogue(Device, const MatrixProduct& p, const float* a, const float* b, const float* bias, bool relu,
                            float* c) {
    emulation::submit([=] {
        multiply_each(p, a, b, [&](std::int64_t at, std::int64_t column, float sum) {
            if (bias) sum += bias[column];
            c[at] = relu ? std::max(sum, 0.0f) : sum;
        });
    });
}

}  // namespace bitloom::cuda
