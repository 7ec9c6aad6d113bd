#pragma once
// How the kernels cut work over OpenMP threads: contiguous ranges, fixed by the number of threads, so that results
// repeat.

#include <omp.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "engine/tensor.h"

namespace bitloom::ops::cpu {

/// Below this many elements a parallel region costs more than it saves.
inline constexpr std::int64_t parallel_threshold = 1 << 15;

/// Threads that a pass over `elements` uses.
inline int threads_for(std::int64_t elements) { return elements < parallel_threshold ? 1 : omp_get_max_threads(); }

/// Calls f(begin, end, thread) on contiguous parts of [0, n), one a thread, in one parallel region.
template <class F>
void parallel_ranges(std::int64_t n, int threads, F&& f) {
    if (threads == 1) {
        f(std::int64_t{0}, n, 0);
        return;
    }
#pragma omp parallel num_threads(threads)
    {
        const std::int64_t parts = omp_get_num_threads(), part = omp_get_thread_num();
        f(n * part / parts, n * (part + 1) / parts, static_cast<int>(part));
    }
}

/// parallel_ranges over n items of `width` elements each.
template <class F>
void parallel_items(std::int64_t n, std::int64_t width, F&& f) {
    parallel_ranges(n, threads_for(n * width), [&](std::int64_t begin, std::int64_t end, int) { f(begin, end); });
}

/// f32 memory of a tensor. Throws Error where it holds another type.
inline const float* input(const Tensor& t, std::string_view who) {
    require(t.dtype() == DType::f32, who, ": the cpu device needs f32, got ", name_of(t.dtype()),
            t.dtype() == DType::f64 ? "; use --device reference for f64" : "");
    return t.read<float>();
}
inline float* output(Tensor& t, std::string_view who) {
    input(t, who);
    return t.write<float>();
}
inline const float* optional_input(const Tensor* t, std::string_view who) { return t ? input(*t, who) : nullptr; }
inline float* optional_output(Tensor* t, std::string_view who) { return t ? output(*t, who) : nullptr; }

}  // namespace bitloom::ops::cpu
