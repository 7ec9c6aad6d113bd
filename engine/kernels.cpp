#include "engine/kernels.h"

#include <array>
#include <cmath>
#include <cstring>

namespace bitloom {

namespace {

/// Below this many elements a parallel region costs more than it saves.
constexpr std::int64_t parallel_threshold = 1 << 16;

template <class F>
void dispatch_any(DType dtype, F&& f) {
    switch (dtype) {
        case DType::f32: return f(float{});
        case DType::f64: return f(double{});
        case DType::bf16: return f(bf16{});
        case DType::i32: return f(std::int32_t{});
        case DType::i8: return f(std::int8_t{});
        case DType::u8: return f(std::uint8_t{});
    }
}

template <class To, class From>
To convert(From value) {
    if constexpr (std::is_same_v<From, bf16>) return convert<To>(static_cast<float>(value));
    else if constexpr (std::is_same_v<To, bf16>) return bf16(static_cast<float>(value));
    else return static_cast<To>(value);
}

void fill(Tensor& target, double value) {
    dispatch_any(target.dtype(), [&](auto zero) {
        using T = decltype(zero);
        std::fill_n(target.write<T>(), target.numel(), convert<T>(value));
    });
}

void cast(const Tensor& source, Tensor& target) {
    dispatch_any(source.dtype(), [&](auto from) {
        dispatch_any(target.dtype(), [&](auto to) {
            const auto* in = source.read<decltype(from)>();
            auto* out = target.write<decltype(to)>();
            const std::int64_t n = source.numel();
#pragma omp parallel for simd schedule(static) if (n > parallel_threshold)
            for (std::int64_t i = 0; i < n; ++i) out[i] = convert<decltype(to)>(in[i]);
        });
    });
}

void copy_bytes(const Tensor& source, Tensor& target) { std::memcpy(target.raw_write(), source.raw(), source.bytes()); }

void add(Tensor& target, const Tensor& source) {
    require(target.shape() == source.shape(), "add: shapes ", target.shape(), " and ", source.shape());
    dispatch_floating(target.dtype(), "add", [&](auto zero) {
        using T = decltype(zero);
        using Sum = accumulator_of<T>;
        T* t = target.write<T>();
        const T* s = source.read<T>();
        const std::int64_t n = target.numel();
#pragma omp parallel for simd schedule(static) if (n > parallel_threshold)
        for (std::int64_t i = 0; i < n; ++i) t[i] = convert<T>(convert<Sum>(t[i]) + convert<Sum>(s[i]));
    });
}

void scale(Tensor& target, double factor) {
    dispatch_floating(target.dtype(), "scale", [&](auto zero) {
        using T = decltype(zero);
        using Product = accumulator_of<T>;
        T* t = target.write<T>();
        const Product f = static_cast<Product>(factor);
        const std::int64_t n = target.numel();
#pragma omp parallel for simd schedule(static) if (n > parallel_threshold)
        for (std::int64_t i = 0; i < n; ++i) t[i] = convert<T>(convert<Product>(t[i]) * f);
    });
}

bool all_finite(const Tensor& tensor) {
    return dispatch_floating(tensor.dtype(), "all_finite", [&](auto zero) {
        using T = decltype(zero);
        using Sum = accumulator_of<T>;
        const T* t = tensor.read<T>();
        Sum poison = 0;  // stays 0 unless a value is NaN or infinite: x * 0 is NaN then
        for (std::int64_t i = 0; i < tensor.numel(); ++i) poison += convert<Sum>(t[i]) * Sum(0);
        return poison == Sum(0);
    });
}

constexpr EngineKernels host_table{fill, cast, copy_bytes, add, scale, all_finite};

std::array<const EngineKernels*, device_kind_count>& tables() {
    static std::array<const EngineKernels*, device_kind_count> t{&host_table, &host_table, nullptr};
    return t;
}

}  // namespace

const EngineKernels& engine_kernels(Device device) {
    const EngineKernels* table = tables()[static_cast<int>(device.kind)];
    require(table, "device ", device, ": this build has no such backend");
    return *table;
}

void register_engine_kernels(DeviceKind kind, const EngineKernels& table) { tables()[static_cast<int>(kind)] = &table; }

}  // namespace bitloom
