#pragma once
// Element types of tensors.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

#include "engine/error.h"

namespace bitloom {

enum class DType : std::uint8_t { f32, f64, bf16, i32, i8, u8 };

/// Storage type of bfloat16: the upper half of a float32, rounded to nearest, ties to even.
struct bf16 {
    std::uint16_t bits = 0;
    bf16() = default;
    explicit bf16(float value) {
        std::uint32_t u = std::bit_cast<std::uint32_t>(value);
        const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
        u = is_nan ? (u | 0x00400000u) : u + 0x7fffu + ((u >> 16) & 1u);
        bits = static_cast<std::uint16_t>(u >> 16);
    }
    explicit operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); }
};
static_assert(sizeof(bf16) == 2);

constexpr std::size_t size_of(DType dtype) {
    switch (dtype) {
        case DType::f32:
        case DType::i32: return 4;
        case DType::f64: return 8;
        case DType::bf16: return 2;
        case DType::i8:
        case DType::u8: return 1;
    }
    return 0;
}

constexpr std::string_view name_of(DType dtype) {
    switch (dtype) {
        case DType::f32: return "f32";
        case DType::f64: return "f64";
        case DType::bf16: return "bf16";
        case DType::i32: return "i32";
        case DType::i8: return "i8";
        case DType::u8: return "u8";
    }
    return "?";
}

constexpr bool is_floating(DType dtype) { return dtype == DType::f32 || dtype == DType::f64 || dtype == DType::bf16; }

/// The DType that stores the C++ type T.
template <class T>
constexpr DType dtype_of() {
    if constexpr (std::is_same_v<T, float>) return DType::f32;
    else if constexpr (std::is_same_v<T, double>) return DType::f64;
    else if constexpr (std::is_same_v<T, bf16>) return DType::bf16;
    else if constexpr (std::is_same_v<T, std::int32_t>) return DType::i32;
    else if constexpr (std::is_same_v<T, std::int8_t>) return DType::i8;
    else if constexpr (std::is_same_v<T, std::uint8_t>) return DType::u8;
    else static_assert(!sizeof(T), "no DType stores this type");
}

/// The dtype of parameters, their gradients and statistics beside activations of `dtype`: bf16 activations keep them in f32.
constexpr DType parameter_dtype(DType dtype) { return dtype == DType::bf16 ? DType::f32 : dtype; }

/// The C++ type in which sums of T run.
template <class T>
using accumulator_of = std::conditional_t<std::is_same_v<T, bf16>, float, T>;

/// Calls f with a value of the C++ type of `dtype`; only f32 and f64 are allowed. `who` starts the error message.
template <class F>
decltype(auto) dispatch_float(DType dtype, std::string_view who, F&& f) {
    switch (dtype) {
        case DType::f32: return f(float{});
        case DType::f64: return f(double{});
        default: fail(who, ": needs f32 or f64, got ", name_of(dtype));
    }
}

/// The same for all floating-point types, bf16 too.
template <class F>
decltype(auto) dispatch_floating(DType dtype, std::string_view who, F&& f) {
    if (dtype == DType::bf16) return f(bf16{});
    return dispatch_float(dtype, who, std::forward<F>(f));
}

}  // namespace bitloom
