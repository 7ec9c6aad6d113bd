// The kernels of the engine itself: fill, cast, add, scale, the search for values that are not finite.

#include "cuda/common.h"
#include "cuda/element.cuh"
#include "cuda/tables.h"

namespace bitloom::cuda {

namespace {

constexpr int threads = 256;

/// Calls f(i) for every i below n, spread over the grid.
template <class F>
__device__ inline void for_each_index(std::int64_t n, F&& f) {
    const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * blockDim.x;
    for (std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += step) f(i);
}

template <class T>
__global__ void fill_elements(T* target, T value, std::int64_t n) {
    for_each_index(n, [&](std::int64_t i) { target[i] = value; });
}
template <class From, class To>
__global__ void cast_elements(const From* source, To* target, std::int64_t n) {
    for_each_index(n, [&](std::int64_t i) { target[i] = convert<To>(source[i]); });
}
template <class T>
__global__ void add_elements(T* target, const T* source, std::int64_t n) {
    for_each_index(n, [&](std::int64_t i) { target[i] = convert<T>(load(target[i]) + load(source[i])); });
}
template <class T, class Factor>
__global__ void scale_elements(T* target, Factor factor, std::int64_t n) {
    for_each_index(n, [&](std::int64_t i) { target[i] = convert<T>(load(target[i]) * factor); });
}
template <class T>
__global__ void find_nonfinite(const T* values, std::int64_t n, std::int32_t* found) {
    for_each_index(n, [&](std::int64_t i) {
        if (!isfinite(load(values[i]))) *found = 1;
    });
}

template <class T>
const T* elements(const Tensor& tensor) {
    return static_cast<const T*>(tensor.raw());
}
template <class T>
T* elements_to_write(Tensor& tensor) {
    return static_cast<T*>(tensor.raw_write());
}

void fill(Tensor& target, double value) {
    const Device device = target.device();
    const std::int64_t n = target.numel();
    dispatch_element(target.dtype(), [&](auto zero) {
        using T = decltype(zero);
        T element;
        if constexpr (std::is_same_v<T, Bf16>)
            element = Bf16{bf16(static_cast<float>(value)).bits};
        else
            element = static_cast<T>(value);
        launch(device, fill_elements<T>, blocks_for(device, n, threads), threads, 0, elements_to_write<T>(target),
               element, n);
    });
}

void cast(const Tensor& source, Tensor& target) {
    const Device device = source.device();
    const std::int64_t n = source.numel();
    dispatch_element(source.dtype(), [&](auto from) {
        dispatch_element(target.dtype(), [&](auto to) {
            using From = decltype(from);
            using To = decltype(to);
            launch(device, cast_elements<From, To>, blocks_for(device, n, threads), threads, 0, elements<From>(source),
                   elements_to_write<To>(target), n);
        });
    });
}

void add(Tensor& target, const Tensor& source) {
    require(target.shape() == source.shape(), "add: shapes ", target.shape(), " and ", source.shape());
    const Device device = target.device();
    const std::int64_t n = target.numel();
    dispatch_floating_element(target.dtype(), "add", [&](auto zero) {
        using T = decltype(zero);
        launch(device, add_elements<T>, blocks_for(device, n, threads), threads, 0, elements_to_write<T>(target),
               elements<T>(source), n);
    });
}

void scale(Tensor& target, double factor) {
    const Device device = target.device();
    const std::int64_t n = target.numel();
    dispatch_floating_element(target.dtype(), "scale", [&](auto zero) {
        using T = decltype(zero);
        using Factor = std::conditional_t<std::is_same_v<T, double>, double, float>;
        launch(device, scale_elements<T, Factor>, blocks_for(device, n, threads), threads, 0,
               elements_to_write<T>(target), factor, n);
    });
}

bool all_finite(const Tensor& tensor) {
    const Device device = tensor.device();
    const std::int64_t n = tensor.numel();
    Tensor found = Tensor::zeros({1}, DType::i32, device);
    dispatch_floating_element(tensor.dtype(), "all_finite", [&](auto zero) {
        using T = decltype(zero);
        launch(device, find_nonfinite<T>, blocks_for(device, n, threads), threads, 0, elements<T>(tensor), n,
               found.write<std::int32_t>());
    });
    return found.item() == 0;
}

}  // namespace

const EngineKernels& engine_kernel_table() {
    static constexpr EngineKernels table{fill, cast, copy_bytes, add, scale, all_finite};
    return table;
}

}  // namespace bitloom::cuda
