// Quantizers of one element. Those that run in every step (levels, signs, ternary, step-wise ReLU) have vector loops
// that give the scalar text's bits; the others run the scalar text.

#include "quant/element.h"

#include <algorithm>
#include <array>

#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"
#include "quant/cpu/kernels.h"
#include "quant/cpu/levels.h"

namespace bitloom::quant::cpu {

namespace {

using ops::cpu::load;
using ops::cpu::Pack;
using ops::cpu::splat;
using ops::cpu::store;

/// y[i] = f(x[i]) (times mask[i]) on vectors, and on floats for the last elements. T: float or bf16, what x and y are kept as.
template <class T, class F>
void map(std::int64_t n, const T* x, const float* mask, T* y, const F& f) {
    ops::cpu::parallel_items(n, 1, [=](std::int64_t begin, std::int64_t end) {
        ops::cpu::for_lanes(end - begin, [=]<int N>(std::int64_t i) {
            using V = typename Pack<N>::Float;
            const V v = f(load<V>(x + begin + i));
            store<V>(y + begin + i, mask ? v * load<V>(mask + begin + i) : v);
        });
    });
}

template <class T>
void quantize_as(const ElementRule& rule, std::int64_t n, const T* px, const float* pm, const float* pr, T* py) {
    if (rule.noise == 1 && rule.rounding == ElementRounding::nearest) {
        if (const auto levels = Levels::of(rule))
            return map(n, px, pm, py, [l = *levels]<class V>(V v) { return l(v); });
        if (rule.kind == ElementKind::sign) {
            const float high = static_cast<float>(rule.gain), low = rule.zero_one ? 0.0f : -high;
            return map(n, px, pm, py, [=]<class V>(V v) { return v < V{} ? splat<V>(low) : splat<V>(high); });
        }
        if (rule.kind == ElementKind::ternary) {
            const float t = static_cast<float>(rule.threshold), gain = static_cast<float>(rule.gain);
            return map(n, px, pm, py, [=]<class V>(V v) {
                const V below = (v <= splat<V>(-t)) & (v < V{}) ? splat<V>(-gain) : V{};
                return (v >= splat<V>(t)) & (v > V{}) ? splat<V>(gain) : below;
            });
        }
    }
    ops::cpu::parallel_items(n, 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const float v = quantize_element<float>(rule, static_cast<float>(px[i]), pr ? pr[i] : 0.0f);
            py[i] = static_cast<T>(pm ? v * pm[i] : v);
        }
    });
}

template <class T>
void quantize_backward_as(const ElementRule& rule, std::int64_t n, const T* px, const float* pm, const float* pr, const T* pg,
                          T* out) {
    if (rule.gradient == ElementGradient::relu && rule.through) {
        const float upper = static_cast<float>(rule.upper), slope = static_cast<float>(rule.slope);
        ops::cpu::parallel_items(n, 1, [=](std::int64_t begin, std::int64_t end) {
            ops::cpu::for_lanes(end - begin, [=]<int N>(std::int64_t i) {
                using V = typename Pack<N>::Float;
                const V g = relu_gradient<V>(load<V>(px + begin + i), load<V>(pg + begin + i), upper, slope);
                store<V>(out + begin + i, pm ? g * load<V>(pm + begin + i) : g);
            });
        });
        return;
    }
    ops::cpu::parallel_items(n, 16, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i) {
            const float slope = quantize_element_gradient<float>(rule, static_cast<float>(px[i]), pr ? pr[i] : 0.0f);
            out[i] = static_cast<T>(static_cast<float>(pg[i]) * slope * (pm ? pm[i] : 1.0f));
        }
    });
}

}  // namespace

void uniform(PhiloxStream stream, Tensor& y) {
    float* py = ops::cpu::output(y, "uniform");
    const std::int64_t n = y.numel(), blocks = (n + 3) / 4;
    const std::array<std::uint32_t, 2> key{static_cast<std::uint32_t>(stream.key),
                                           static_cast<std::uint32_t>(stream.key >> 32)};
    ops::cpu::parallel_items(blocks, 64, [=](std::int64_t begin, std::int64_t end) {
        for (std::int64_t b = begin; b < end; ++b) {
            const auto index = static_cast<std::uint64_t>(b);
            const auto words = philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                                           static_cast<std::uint32_t>(stream.counter),
                                           static_cast<std::uint32_t>(stream.counter >> 32)},
                                          key);
            for (std::int64_t i = 4 * b; i < std::min(n, 4 * b + 4); ++i)
                py[i] = to_unit_float(words[static_cast<std::size_t>(i - 4 * b)]);
        }
    });
}

void quantize(const ElementRule& rule, const Tensor& x, const Tensor* mask, const Tensor* draws, Tensor& y) {
    constexpr std::string_view who = "quantize";
    ops::cpu::dispatch_storage(x, [&]<class T>(T) {
        quantize_as<T>(rule, x.numel(), ops::cpu::input<T>(x, who), ops::cpu::optional_input(mask, who),
                       ops::cpu::optional_input(draws, who), ops::cpu::output<T>(y, who));
    });
}

void quantize_backward(const ElementRule& rule, const Tensor& x, const Tensor* mask, const Tensor* draws, const Tensor& dy,
                       Tensor& dx) {
    constexpr std::string_view who = "quantize_backward";
    ops::cpu::dispatch_storage(x, [&]<class T>(T) {
        quantize_backward_as<T>(rule, x.numel(), ops::cpu::input<T>(x, who), ops::cpu::optional_input(mask, who),
                                ops::cpu::optional_input(draws, who), ops::cpu::input<T>(dy, who),
                                ops::cpu::output<T>(dx, who));
    });
}

}  // namespace bitloom::quant::cpu
