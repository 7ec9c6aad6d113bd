#pragma once
// The batch cut into a fixed number of slices, each computed by primitives of one thread, for set_deterministic(true):
// what a primitive computes, and in which order a sum over the batch is formed, then does not depend on the number of
// threads (ARCHITECTURE.md, decision 15).

#include <array>
#include <exception>

#include "engine/threads.h"
#include "ops/cpu/parallel.h"

namespace bitloom::ops::cpu {

/// Slices of a batch of `batch`.
inline int slice_count(std::int64_t batch) {
    return static_cast<int>(std::clamp<std::int64_t>(batch, 1, deterministic_parts));
}

/// Calls f(first, count, slice) for each slice of [0, batch), the slices side by side on the calling thread's number of
/// threads, each with one: its OpenMP regions and the oneDNN primitives that it asks for are those of one thread.
/// Rethrows the first slice's exception.
template <class F>
void for_each_slice(std::int64_t batch, F&& f) {
    const int slices = slice_count(batch), threads = std::min(slices, omp_get_max_threads());
    std::array<std::exception_ptr, deterministic_parts> errors;
    const auto run = [&](int s) {
        try {
            const ThreadScope one(1);
            const std::int64_t first = batch * s / slices;
            f(first, batch * (s + 1) / slices - first, s);
        } catch (...) {
            errors[static_cast<std::size_t>(s)] = std::current_exception();
        }
    };
    if (threads == 1) {
        for (int s = 0; s < slices; ++s) run(s);
    } else {
#pragma omp parallel for schedule(static) num_threads(threads)
        for (int s = 0; s < slices; ++s) run(s);
    }
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);
}

/// y = the sum over the leading axis of partial [slices, ...], in order, in double.
inline void sum_slices(const Tensor& partial, Tensor& y) {
    const std::int64_t slices = partial.dim(0), n = y.numel();
    const float* p = input(partial, "sum_slices");
    float* py = output(y, "sum_slices");
    parallel_items(n, slices, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            double sum = 0;
            for (std::int64_t s = 0; s < slices; ++s) sum += p[s * n + i];
            py[i] = static_cast<float>(sum);
        }
    });
}

}  // namespace bitloom::ops::cpu
