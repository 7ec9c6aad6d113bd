#include "quant/scale.h"

#include "quant/reference/kernels.h"

namespace bitloom::quant::reference {

void quantize_scaled(const ScaleRule& rule, const Tensor& x, const Tensor* groups, const Tensor* given,
                     const Tensor* draws, const Tensor* second, Tensor& y, Tensor& scale, Tensor* gradient) {
    dispatch_float(x.dtype(), "quantize_scaled", [&](auto zero) {
        using T = decltype(zero);
        const auto optional = [](const Tensor* t) { return t ? t->read<T>() : nullptr; };
        ScaleCall<T> call{x.dim(0), x.dim(1), x.read<T>(), groups ? groups->read<std::int32_t>() : nullptr};
        call.draws = optional(draws), call.second = optional(second), call.given = optional(given);
        call.y = y.write<T>(), call.scale = scale.write<T>(), call.gradient = gradient ? gradient->write<T>() : nullptr;
        const auto all = [](std::int64_t cells, std::int64_t, auto&& f) { f(std::int64_t{0}, cells); };
        ScaleSolver(rule, call, all).run();
    });
}

}  // namespace bitloom::quant::reference
