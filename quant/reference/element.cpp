#include "quant/reference/kernels.h"

namespace bitloom::quant::reference {

void uniform(PhiloxStream stream, Tensor& y) {
    dispatch_float(y.dtype(), "uniform", [&](auto zero) {
        using T = decltype(zero);
        T* py = y.write<T>();
        for (std::int64_t i = 0; i < y.numel(); ++i)
            py[i] = static_cast<T>(to_unit_float(stream.word(static_cast<std::uint64_t>(i))));
    });
}

void quantize(const ElementRule& rule, const Tensor& x, const Tensor* mask, const Tensor* draws, Tensor& y) {
    dispatch_float(x.dtype(), "quantize", [&](auto zero) {
        using T = decltype(zero);
        const T *px = x.read<T>(), *pm = mask ? mask->read<T>() : nullptr, *pr = draws ? draws->read<T>() : nullptr;
        T* py = y.write<T>();
        for (std::int64_t i = 0; i < x.numel(); ++i) {
            const T v = quantize_element<T>(rule, px[i], pr ? pr[i] : T(0));
            py[i] = pm ? v * pm[i] : v;
        }
    });
}

void quantize_backward(const ElementRule& rule, const Tensor& x, const Tensor* mask, const Tensor* draws, const Tensor& dy,
                       Tensor& dx) {
    dispatch_float(x.dtype(), "quantize_backward", [&](auto zero) {
        using T = decltype(zero);
        const T *px = x.read<T>(), *pm = mask ? mask->read<T>() : nullptr, *pr = draws ? draws->read<T>() : nullptr,
                *pg = dy.read<T>();
        T* out = dx.write<T>();
        for (std::int64_t i = 0; i < x.numel(); ++i) {
            const T slope = quantize_element_gradient<T>(rule, px[i], pr ? pr[i] : T(0));
            out[i] = pg[i] * slope * (pm ? pm[i] : T(1));
        }
    });
}

}  // namespace bitloom::quant::reference
