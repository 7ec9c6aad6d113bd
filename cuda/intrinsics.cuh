#pragma once
// What kernels need of the hardware beyond CUDA C++: bf16 and TF32 conversions, products in tensor cores, dynamic shared
// memory. tests/cuda_emulation has plain C++ twins of these functions.

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace bitloom::cuda {

/// The block's dynamic shared memory, aligned to 16 bytes.
__device__ __forceinline__ void* dynamic_shared() {
    extern __shared__ uint4 bitloom_dynamic_shared[];
    return bitloom_dynamic_shared;
}

/// Two floats rounded to bf16, to nearest, ties to even: `low` in the lower half.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.x)) |
           static_cast<std::uint32_t>(__bfloat16_as_ushort(pair.y)) << 16;
}

/// A float rounded to the 10 bits of mantissa that tensor cores multiply, ties away from zero.
__device__ __forceinline__ std::uint32_t round_to_tf32(float value) {
    std::uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
    return bits;
}

// A warp's product D = A B + C of a 16 x K by a K x 8 matrix, C and D in f32 (PTX ISA, "mma.m16n8k16" and "mma.m16n8k8").
// With g = lane / 4 and t = lane % 4, a lane holds
//   C: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1)
//   A, bf16, K = 16, pairs along k: (g, 2t..), (g + 8, 2t..), (g, 2t + 8..), (g + 8, 2t + 8..);  B: (2t.., g), (2t + 8.., g)
//   A, TF32, K = 8: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4);  B: (t, g), (t + 4, g)
__device__ __forceinline__ void multiply_bf16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace bitloom::cuda
