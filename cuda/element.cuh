#pragma once
// Element types in kernels: the engine's bf16 is a host type, kernels see its bits.

#include <cstdint>
#include <type_traits>

#include "engine/dtype.h"

namespace bitloom::cuda {

/// bfloat16 in device memory: the upper half of a float32.
struct Bf16 {
    std::uint16_t bits;
};

/// The value as kernels compute with it: f32 for bf16, itself for all others.
__device__ inline float load(Bf16 value) { return __uint_as_float(static_cast<unsigned>(value.bits) << 16); }
template <class T>
__device__ inline T load(T value) {
    return value;
}

/// static_cast, and to bf16 rounding to nearest, ties to even, as engine/dtype.h does.
template <class To, class From>
__device__ inline To convert(From value) {
    if constexpr (std::is_same_v<To, Bf16>) {
        const unsigned u = __float_as_uint(static_cast<float>(load(value)));
        const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
        return Bf16{static_cast<std::uint16_t>((is_nan ? (u | 0x00400000u) : u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
    } else {
        return static_cast<To>(load(value));
    }
}

/// Calls f with a value of the type in which kernels see elements of `dtype`.
template <class F>
void dispatch_element(DType dtype, F&& f) {
    switch (dtype) {
        case DType::f32:
            return f(float{});
        case DType::f64:
            return f(double{});
        case DType::bf16:
            return f(Bf16{});
        case DType::i32:
            return f(std::int32_t{});
        case DType::i8:
            return f(std::int8_t{});
        case DType::u8:
            return f(std::uint8_t{});
    }
}
/// The same for floating-point types. `who` starts the error message.
template <class F>
void dispatch_floating_element(DType dtype, std::string_view who, F&& f) {
    if (dtype == DType::bf16) return f(Bf16{});
    dispatch_float(dtype, who, std::forward<F>(f));
}

}  // namespace bitloom::cuda
