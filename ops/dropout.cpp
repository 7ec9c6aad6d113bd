#include "ops/dropout.h"

#include <cmath>

#include "ops/checks.h"
#include "ops/kernels.h"
#include "ops/record.h"

namespace bitloom::ops {

namespace {

void check_rate(std::string_view who, double rate) {
    require(rate >= 0 && rate < 1, who, ": rate ", rate, " is outside [0, 1)");
}

/// x with sample n times factors[n].
Var drop_path_by_factors(const Var& x, Tensor factors) {
    require_float("drop_path", x.value());
    const auto rescale = [factors](const Tensor& source) {
        Tensor target = Tensor::empty_like(source);
        kernel(source.device(), "row_scale", &OpKernels::row_scale)(factors, source, target);
        return target;
    };
    return record(Op::drop_path, {x}, rescale(x.value()),
                  [rescale](BackwardContext& c) { c.give(0, rescale(c.grad())); });
}

/// drop_path with the uniform of sample n given by uniform(n).
template <class Uniform>
Var drop_path_by(const Var& x, double rate, Uniform&& uniform) {
    check_rate("drop_path", rate);
    require_float("drop_path", x.value());
    require(x.shape().rank() >= 1, "drop_path: input is a scalar, it has no samples");
    if (rate == 0) return x;
    const double keep = 1 - rate;
    const Device host = x.device().is_host() ? x.device() : cpu_device;
    Tensor factors = Tensor::empty({x.dim(0)}, parameter_dtype(x.dtype()), host);
    dispatch_float(factors.dtype(), "drop_path", [&](auto zero) {
        using T = decltype(zero);
        T* out = factors.write<T>();
        for (std::int64_t n = 0; n < x.dim(0); ++n) out[n] = static_cast<T>(std::floor(keep + uniform(n)) / keep);
    });
    return drop_path_by_factors(x, factors.to(x.device()));
}

}  // namespace

Var dropout(const Var& x, double rate, PhiloxStream stream) {
    check_rate("dropout", rate);
    require_float("dropout", x.value());
    if (rate == 0) return x;
    const auto mask = [rate, stream](const Tensor& source) {
        Tensor target = Tensor::empty_like(source);
        kernel(source.device(), "dropout", &OpKernels::dropout)(rate, stream, source, target);
        return target;
    };
    return record(Op::dropout, {x}, mask(x.value()), [mask](BackwardContext& c) { c.give(0, mask(c.grad())); });
}

Var drop_path(const Var& x, double rate, const std::vector<float>& uniforms) {
    require(x.shape().rank() == 0 || static_cast<std::int64_t>(uniforms.size()) == x.dim(0),
            "drop_path: ", uniforms.size(), " uniforms for an input of shape ", x.shape());
    return drop_path_by(x, rate,
                        [&](std::int64_t n) { return static_cast<double>(uniforms[static_cast<std::size_t>(n)]); });
}

Var drop_path(const Var& x, double rate, PhiloxStream stream) {
    if (!x.device().is_host() && x.shape().rank() >= 1 && rate > 0) {
        check_rate("drop_path", rate);
        // Inverted dropout of ones: 1 / (1 - rate) where the sample's uniform is >= rate, drawn on the device.
        const Tensor ones = Tensor::full({x.dim(0)}, 1, parameter_dtype(x.dtype()), x.device());
        Tensor factors = Tensor::empty_like(ones);
        kernel(x.device(), "dropout", &OpKernels::dropout)(rate, stream, ones, factors);
        return drop_path_by_factors(x, std::move(factors));
    }
    return drop_path_by(x, rate, [&](std::int64_t n) {
        return static_cast<double>(to_unit_float(stream.word(static_cast<std::uint64_t>(n))));
    });
}

}  // namespace bitloom::ops
