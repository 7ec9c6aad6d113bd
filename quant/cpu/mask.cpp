#include "ops/cpu/parallel.h"
#include "quant/cpu/kernels.h"

namespace bitloom::quant::cpu {

void apply_mask(const Tensor& x, const Tensor& mask, Tensor& y) {
    constexpr std::string_view who = "apply_mask";
    const float *px = ops::cpu::input(x, who), *pm = ops::cpu::input(mask, who);
    float* py = ops::cpu::output(y, who);
    ops::cpu::parallel_items(x.numel(), 1, [=](std::int64_t begin, std::int64_t end) {
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) py[i] = px[i] * pm[i];
    });
}

}  // namespace bitloom::quant::cpu
