#include "quant/scale.h"

#include "ops/cpu/parallel.h"
#include "quant/cpu/kernels.h"

namespace bitloom::quant::cpu {

void quantize_scaled(const ScaleRule& rule, const Tensor& x, const Tensor* groups, const Tensor* given,
                     const Tensor* draws, const Tensor* second, Tensor& y, Tensor& scale, Tensor* gradient) {
    constexpr std::string_view who = "quantize_scaled";
    using namespace ops::cpu;
    ScaleCall<float> call{x.dim(0), x.dim(1), input(x, who), groups ? groups->read<std::int32_t>() : nullptr};
    call.draws = optional_input(draws, who), call.second = optional_input(second, who);
    call.given = optional_input(given, who);
    call.y = output(y, who), call.scale = output(scale, who), call.gradient = optional_output(gradient, who);
    const auto split = [](std::int64_t cells, std::int64_t width, auto&& f) { parallel_items(cells, width, f); };
    ScaleSolver(rule, call, split).run();
}

}  // namespace bitloom::quant::cpu
