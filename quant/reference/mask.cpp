#include "quant/reference/kernels.h"

namespace bitloom::quant::reference {

void apply_mask(const Tensor& x, const Tensor& mask, Tensor& y) {
    dispatch_float(x.dtype(), "apply_mask", [&](auto zero) {
        using T = decltype(zero);
        const T *px = x.read<T>(), *pm = mask.read<T>();
        T* py = y.write<T>();
        for (std::int64_t i = 0; i < x.numel(); ++i) py[i] = px[i] * pm[i];
    });
}

}  // namespace bitloom::quant::reference
