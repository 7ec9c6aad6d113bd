#pragma once
// How the kernels cut work over OpenMP threads: contiguous ranges, fixed by the number of threads, so that results
// repeat.

#include <omp.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "engine/tensor.h"
#include "engine/threads.h"

namespace bitloom::ops::cpu {

/// Below this many elements a parallel region costs more than it saves.
inline constexpr std::int64_t parallel_threshold = 1 << 16;

/// Threads that a pass over `elements` uses.
inline int threads_for(std::int64_t elements) { return elements < parallel_threshold ? 1 : omp_get_max_threads(); }

/// Parts that a sum over `elements` is formed from: one a thread, or a fixed number.
inline int parts_for(std::int64_t elements) {
    return deterministic() && elements >= parallel_threshold ? deterministic_parts : threads_for(elements);
}

/// Calls f(begin, end, part) on contiguous parts of [0, n), side by side, in one parallel region.
template <class F>
void parallel_ranges(std::int64_t n, int parts, F&& f) {
    const auto run = [&](int part) { f(n * part / parts, n * (part + 1) / parts, part); };
    const int threads = std::min(parts, omp_get_max_threads());
    if (threads == 1) {
        for (int part = 0; part < parts; ++part) run(part);
        return;
    }
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int part = 0; part < parts; ++part) run(part);
}

/// parallel_ranges over n items of `width` elements each.
template <class F>
void parallel_items(std::int64_t n, std::int64_t width, F&& f) {
    parallel_ranges(n, threads_for(n * width), [&](std::int64_t begin, std::int64_t end, int) { f(begin, end); });
}

/// While the result lives, the calling thread's OpenMP regions, oneDNN's included, have one thread where `one` holds:
/// waking others would take longer than the work.
inline ThreadScope one_thread_if(bool one) { return ThreadScope(one ? 1 : thread_count()); }

/// Multiplications and additions below which a product runs on one thread (some five microseconds of work), and the
/// gradient of a filter, whose partial sums must be added at the end.
inline constexpr std::int64_t product_threshold = 1'200'000, filter_gradient_threshold = 3'000'000;

/// Memory of a tensor. Throws Error where it holds another type than T.
template <class T = float>
const T* input(const Tensor& t, std::string_view who) {
    require(t.dtype() == dtype_of<T>(), who, ": the cpu device needs ", name_of(dtype_of<T>()), ", got ",
            name_of(t.dtype()), t.dtype() == DType::f64 ? "; use --device reference for f64" : "");
    return t.read<T>();
}
template <class T = float>
T* output(Tensor& t, std::string_view who) {
    input<T>(t, who);
    return t.write<T>();
}
template <class T = float>
const T* optional_input(const Tensor* t, std::string_view who) {
    return t ? input<T>(*t, who) : nullptr;
}
template <class T = float>
T* optional_output(Tensor* t, std::string_view who) {
    return t ? output<T>(*t, who) : nullptr;
}

/// Throws Error unless `t` holds activations of `dtype`, f32 or bf16.
inline void require_storage(const Tensor& t, DType dtype, std::string_view who) {
    dtype == DType::bf16 ? static_cast<void>(input<bf16>(t, who)) : static_cast<void>(input(t, who));
}

/// The memory of activations, f32 or bf16, by index of the leading axis.
class InputRows {
   public:
    InputRows(const Tensor& t, std::string_view who)
        : memory_(static_cast<const std::byte*>(t.raw())),
          row_bytes_(t.shape().product(1, t.rank()) * static_cast<std::int64_t>(size_of(t.dtype()))) {
        require_storage(t, t.dtype(), who);
    }
    const void* from(std::int64_t row) const { return memory_ + row * row_bytes_; }

   private:
    const std::byte* memory_;
    std::int64_t row_bytes_;
};
class OutputRows {
   public:
    OutputRows(Tensor& t, std::string_view who)
        : memory_(static_cast<std::byte*>(t.raw_write())),
          row_bytes_(t.shape().product(1, t.rank()) * static_cast<std::int64_t>(size_of(t.dtype()))) {
        require_storage(t, t.dtype(), who);
    }
    void* from(std::int64_t row) const { return memory_ + row * row_bytes_; }

   private:
    std::byte* memory_;
    std::int64_t row_bytes_;
};

/// Calls f with a value of the type that the activations `x` are stored in, float or bf16: a kernel is one template
/// over it and computes in float. Another type is left to input<float>, which refuses it.
template <class F>
decltype(auto) dispatch_storage(const Tensor& x, F&& f) {
    if (x.dtype() == DType::bf16) return f(bf16{});
    return f(float{});
}

}  // namespace bitloom::ops::cpu
