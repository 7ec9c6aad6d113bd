#pragma once
// Elementwise work: f32 and bf16 elements, loads and stores of 16 bytes, kernels that map functions over tensors.

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "cuda/common.h"
#include "cuda/intrinsics.cuh"

namespace bitloom::cuda {

/// Neighbouring elements that are loaded and stored at once.
template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
    T at[width];
};
/// Elements of 16 bytes.
template <class T>
inline constexpr int pack_width = 16 / static_cast<int>(sizeof(T));

__device__ __forceinline__ float widen(float v) { return v; }
__device__ __forceinline__ float widen(bf16 v) { return __uint_as_float(static_cast<std::uint32_t>(v.bits) << 16); }

template <class T>
__device__ __forceinline__ T narrow(float v) {
    if constexpr (std::is_same_v<T, bf16>) {
        bf16 result;
        result.bits = static_cast<std::uint16_t>(pack_bf16(v, 0.0f));
        return result;
    } else {
        return static_cast<T>(v);
    }
}

template <int width, class T>
__device__ __forceinline__ Pack<T, width> load_pack(const T* source) {
    return *reinterpret_cast<const Pack<T, width>*>(source);
}
template <int width, class T>
__device__ __forceinline__ void store_pack(T* target, const Pack<T, width>& pack) {
    *reinterpret_cast<Pack<T, width>*>(target) = pack;
}
template <int width, class T>
__device__ __forceinline__ void load_wide(const T* source, float (&values)[width]) {
    const Pack<T, width> pack = load_pack<width>(source);
#pragma unroll
    for (int k = 0; k < width; ++k) values[k] = widen(pack.at[k]);
}
template <int width, class T>
__device__ __forceinline__ void store_narrow(T* target, const float (&values)[width]) {
    Pack<T, width> pack;
#pragma unroll
    for (int k = 0; k < width; ++k) pack.at[k] = narrow<T>(values[k]);
    store_pack<width>(target, pack);
}

/// The thread's number in the grid, and the threads of the grid, of a one-dimensional launch.
__device__ __forceinline__ std::int64_t first_element() {
    return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t element_stride() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

inline constexpr int threads_per_block = 256;

template <class... T>
bool aligned_to(std::size_t bytes, const T*... pointers) {
    return (... && (reinterpret_cast<std::uintptr_t>(pointers) % bytes == 0));
}

namespace detail {

template <int width, class F, class Out, class... In>
__device__ __forceinline__ void map_pack(const F& f, Out* out, const Pack<In, width>&... in) {
    Pack<Out, width> result;
#pragma unroll
    for (int k = 0; k < width; ++k) result.at[k] = narrow<Out>(f(widen(in.at[k])...));
    store_pack<width>(out, result);
}

template <int width, class F, class Out, class... In>
__global__ void map_kernel(std::int64_t n, F f, Out* out, const In*... in) {
    const std::int64_t packs = n / width;
    for (std::int64_t i = first_element(); i < packs; i += element_stride())
        map_pack<width>(f, out + i * width, load_pack<width>(in + i * width)...);
    const std::int64_t rest = packs * width + first_element();
    if (rest < n) out[rest] = narrow<Out>(f(widen(in[rest])...));
}

}  // namespace detail

/// out[i] = f(in[i]...), computed in f32. `out` may be one of the inputs.
template <class F, class Out, class... In>
void map(Device device, std::int64_t n, const F& f, Out* out, const In*... in) {
    constexpr int width = std::min({pack_width<Out>, pack_width<In>...});
    if (aligned_to(16, out, in...))
        launch(device, detail::map_kernel<width, F, Out, In...>, blocks_for(device, (n + width - 1) / width, threads_per_block),
               threads_per_block, 0, n, f, out, in...);
    else
        launch(device, detail::map_kernel<1, F, Out, In...>, blocks_for(device, n, threads_per_block), threads_per_block, 0,
               n, f, out, in...);
}

/// Calls f with a value of the element type of activations. Throws Error, started by `who`, for others than f32 and bf16.
template <class F>
decltype(auto) dispatch_activation(DType dtype, std::string_view who, F&& f) {
    if (dtype == DType::bf16) return f(bf16{});
    require(dtype == DType::f32, who, ": CUDA kernels take f32 or bf16, got ", name_of(dtype));
    return f(float{});
}

/// Typed memory of an optional tensor.
template <class T>
const T* read_if(const Tensor* tensor) {
    return tensor ? tensor->read<T>() : nullptr;
}
template <class T>
T* write_if(Tensor* tensor) {
    return tensor ? tensor->write<T>() : nullptr;
}

}  // namespace bitloom::cuda
