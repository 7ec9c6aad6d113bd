#include "ops/reference/kernels.h"

namespace bitloom::ops::reference {

void dropout(double rate, PhiloxStream stream, const Tensor& x, Tensor& y) {
    dispatch_float(x.dtype(), "dropout", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        T* out = y.write<T>();
        const T keep = static_cast<T>(1 - rate);
        // One word at a time, as PhiloxStream defines it: the kernels that draw whole blocks are compared with this.
        for (std::int64_t i = 0; i < x.numel(); ++i)
            out[i] = to_unit_float(stream.word(static_cast<std::uint64_t>(i))) >= rate ? in[i] / keep : T(0);
    });
}

void row_scale(const Tensor& factors, const Tensor& x, Tensor& y) {
    dispatch_float(x.dtype(), "row_scale", [&](auto zero) {
        using T = decltype(zero);
        const T* factor = factors.read<T>();
        const T* in = x.read<T>();
        T* out = y.write<T>();
        const std::int64_t rows = x.dim(0), width = x.shape().product(1, x.rank());
        for (std::int64_t n = 0; n < rows; ++n)
            for (std::int64_t i = 0; i < width; ++i) out[n * width + i] = in[n * width + i] * factor[n];
    });
}

}  // namespace bitloom::ops::reference
