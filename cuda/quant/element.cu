// Masks, uniform numbers, and quantizers of one element: passes that read each operand once and write once.

#include "cuda/ops/elements.cuh"
#include "cuda/ops/philox.cuh"
#include "cuda/quant/kernels.h"
#include "cuda/quant/operands.h"

namespace bitloom::cuda {

namespace {

struct Product {
    __device__ float operator()(float x, float mask) const { return x * mask; }
};

/// A rule whose kind is known when it is compiled: what other kinds would do falls away. Those that run in every step are
/// so compiled, for rounding to nearest without noise.
template <ElementKind kind>
struct PlainRule {
    ElementRule rule;
    __device__ __forceinline__ ElementRule known() const {
        ElementRule r = rule;
        r.kind = kind;
        r.rounding = ElementRounding::nearest;
        r.noise = 1;
        return r;
    }
};
struct AnyRule {
    ElementRule rule;
    __device__ __forceinline__ const ElementRule& known() const { return rule; }
};

template <class Rule>
struct Quantized : Rule {
    __device__ float operator()(float x) const { return quantize_element<float>(this->known(), x); }
    __device__ float operator()(float x, float mask) const { return quantize_element<float>(this->known(), x) * mask; }
};
struct QuantizedByChance : AnyRule {
    __device__ float operator()(float x, float draw) const { return quantize_element<float>(rule, x, draw); }
    __device__ float operator()(float x, float draw, float mask) const {
        return quantize_element<float>(rule, x, draw) * mask;
    }
};

/// dy through the surrogate of a rule; that of step-wise ReLUs is compiled for itself.
struct ReluGradient {
    ElementRule rule;
    __device__ float operator()(float dy, float x) const {
        ElementRule r = rule;
        r.gradient = ElementGradient::relu;
        r.through = true;
        r.noise = 1;
        return dy * quantize_element_gradient<float>(r, x);
    }
};
struct Gradient {
    ElementRule rule;
    __device__ float operator()(float dy, float x) const { return dy * quantize_element_gradient<float>(rule, x); }
    __device__ float operator()(float dy, float x, float mask) const { return (*this)(dy, x) * mask; }
};
struct GradientByChance {
    ElementRule rule;
    __device__ float operator()(float dy, float x, float draw) const {
        return dy * quantize_element_gradient<float>(rule, x, draw);
    }
    __device__ float operator()(float dy, float x, float draw, float mask) const { return (*this)(dy, x, draw) * mask; }
};

/// One Philox block a thread: four elements.
template <bool vectorised>
__global__ void uniform_kernel(std::int64_t n, PhiloxStream stream, float* y) {
    constexpr int words = 4;
    const std::int64_t blocks = (n + words - 1) / words;
    for (std::int64_t b = first_element(); b < blocks; b += element_stride()) {
        const PhiloxBlock drawn = draw(stream, static_cast<std::uint64_t>(b));
        const std::int64_t first = b * words;
        float values[words];
#pragma unroll
        for (int k = 0; k < words; ++k) values[k] = unit_float(drawn.word[k]);
        if (vectorised && first + words <= n) {
            store_narrow(y + first, values);
        } else {
#pragma unroll
            for (int k = 0; k < words; ++k)
                if (first + k < n) y[first + k] = values[k];
        }
    }
}

}  // namespace

void apply_mask(const Tensor& x, const Tensor& mask, Tensor& y) {
    constexpr std::string_view who = "apply_mask";
    const float *in = f32_input(x, who), *factors = f32_input(mask, who);
    map(x.device(), x.numel(), Product{}, f32_output(y, who), in, factors);
}

void uniform(PhiloxStream stream, Tensor& y) {
    float* out = f32_output(y, "uniform");
    const std::int64_t n = y.numel();
    launch(y.device(), aligned_to(16, out) ? uniform_kernel<true> : uniform_kernel<false>,
           blocks_for(y.device(), n, 4 * threads_per_block), threads_per_block, 0, n, stream, out);
}

void quantize(const ElementRule& rule, const Tensor& x, const Tensor* mask, const Tensor* draws, Tensor& y) {
    constexpr std::string_view who = "quantize";
    const Device device = x.device();
    const std::int64_t n = x.numel();
    const float *factors = f32_input(mask, who), *chances = f32_input(draws, who);
    dispatch_activation(x.dtype(), who, [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        T* out = y.write<T>();
        if (chances) {
            const QuantizedByChance f{rule};
            return factors ? map(device, n, f, out, in, chances, factors) : map(device, n, f, out, in, chances);
        }
        const auto run = [&](const auto& f) { factors ? map(device, n, f, out, in, factors) : map(device, n, f, out, in); };
        if (rule.rounding == ElementRounding::nearest && rule.noise == 1) {
            switch (rule.kind) {
                case ElementKind::levels: return run(Quantized<PlainRule<ElementKind::levels>>{rule});
                case ElementKind::sign: return run(Quantized<PlainRule<ElementKind::sign>>{rule});
                case ElementKind::ternary: return run(Quantized<PlainRule<ElementKind::ternary>>{rule});
                case ElementKind::relu: return run(Quantized<PlainRule<ElementKind::relu>>{rule});
                default: break;
            }
        }
        run(Quantized<AnyRule>{rule});
    });
}

void quantize_backward(const ElementRule& rule, const Tensor& x, const Tensor* mask, const Tensor* draws, const Tensor& dy,
                       Tensor& dx) {
    constexpr std::string_view who = "quantize_backward";
    const Device device = x.device();
    const std::int64_t n = x.numel();
    const float *factors = f32_input(mask, who), *chances = f32_input(draws, who);
    dispatch_activation(x.dtype(), who, [&](auto zero) {
        using T = decltype(zero);
        const T *in = x.read<T>(), *gradient = dy.read<T>();
        T* out = dx.write<T>();
        if (chances) {
            const GradientByChance f{rule};
            return factors ? map(device, n, f, out, gradient, in, chances, factors)
                           : map(device, n, f, out, gradient, in, chances);
        }
        if (factors) return map(device, n, Gradient{rule}, out, gradient, in, factors);
        if (rule.gradient == ElementGradient::relu && rule.through && rule.noise == 1)
            return map(device, n, ReluGradient{rule}, out, gradient, in);
        map(device, n, Gradient{rule}, out, gradient, in);
    });
}

}  // namespace bitloom::cuda
