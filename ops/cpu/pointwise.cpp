// Functions of one element. Those of a few instructions run on explicit vectors; those of the C library a lane at a
// time, so that they give the reference's bits.

#include <cmath>

#include "ops/cpu/kernels.h"
#include "ops/cpu/parallel.h"
#include "ops/cpu/simd.h"

namespace bitloom::ops::cpu {

namespace {

/// y[i] = f(inputs[i]...), one float at a time (the compiler vectorises what it can).
template <class T, class F, class... In>
void map(std::int64_t n, T* y, const F& f, const In*... inputs) {
    parallel_items(n, 1, [&](std::int64_t begin, std::int64_t end) {
#pragma omp simd
        for (std::int64_t i = begin; i < end; ++i) y[i] = static_cast<T>(f(static_cast<float>(inputs[i])...));
    });
}

/// The same with f called on vectors, and on floats for the last elements.
template <class T, class F, class... In>
void map_vectors(std::int64_t n, T* y, const F& f, const In*... inputs) {
    parallel_items(n, 1, [&](std::int64_t begin, std::int64_t end) {
        for_lanes(end - begin, [&]<int N>(std::int64_t i) {
            using V = typename Pack<N>::Float;
            store<V>(y + begin + i, f(load<V>(inputs + begin + i)...));
        });
    });
}

/// y[i] = f(x[i], sigmoid(x[i]), others[i]...). exp(-|x|) cannot overflow; a block of them is followed by vectors,
/// since a branch on the sign of x costs more than the exponential.
template <class T, class F, class... In>
void map_sigmoid(std::int64_t n, T* y, const F& f, const T* x, const In*... others) {
    parallel_items(n, 1, [&](std::int64_t begin, std::int64_t end) {
        constexpr std::int64_t block = 256;
        float exponentials[block];
        for (std::int64_t first = begin; first < end; first += block) {
            const std::int64_t count = std::min(block, end - first);
            for (std::int64_t i = 0; i < count; ++i)
                exponentials[i] = std::exp(-std::abs(static_cast<float>(x[first + i])));
            for_lanes(count, [&]<int N>(std::int64_t i) {
                using V = typename Pack<N>::Float;
                const V v = load<V>(x + first + i), e = load<V>(exponentials + i);
                const V sigmoid = (v >= V{} ? splat<V>(1.0f) : e) / (splat<V>(1.0f) + e);
                store<V>(y + first + i, f(v, sigmoid, load<V>(others + first + i)...));
            });
        }
    });
}

// Comparisons are written so that NaN passes through: a diverged run must not look healthy behind a ReLU.
template <class V>
[[gnu::always_inline]] inline V clip(V x, float low, float high) {
    const V lowest = splat<V>(low), highest = splat<V>(high);
    const V capped = x > highest ? highest : x;
    return x < lowest ? lowest : capped;
}

template <class V>
[[gnu::always_inline]] inline V magnitude(V x) {
    if constexpr (std::is_same_v<V, float>)
        return std::abs(x);
    else
        return x < V{} ? -x : x == V{} ? V{} : x;
}

/// 1 where both hold, else 0.
template <class V, class Mask>
[[gnu::always_inline]] inline V indicator(Mask first, Mask second) {
    return (first & second) ? splat<V>(1.0f) : V{};
}

template <class T>
void unary_forward_of(UnaryOp op, double a64, double b64, const Tensor& x, Tensor& y) {
    constexpr std::string_view who = "unary_forward";
    const float a = static_cast<float>(a64), b = static_cast<float>(b64);
    const T* px = input<T>(x, who);
    T* py = output<T>(y, who);
    const std::int64_t n = x.numel();
    switch (op) {
        case UnaryOp::relu:
            return map_vectors(
                n, py, []<class V>(V v) { return v <= V{} ? V{} : v; }, px);
        case UnaryOp::relu6:
            return map_vectors(
                n, py, []<class V>(V v) { return clip<V>(v, 0, 6); }, px);
        case UnaryOp::leaky_relu:
            return map_vectors(
                n, py, [a]<class V>(V v) { return v > V{} ? v : splat<V>(a) * v; }, px);
        case UnaryOp::hard_sigmoid:
            return map_vectors(
                n, py, [a, b]<class V>(V v) { return clip<V>(splat<V>(a) * v + splat<V>(b), 0, 1); }, px);
        case UnaryOp::clamp:
            return map_vectors(
                n, py, [a, b]<class V>(V v) { return clip<V>(v, a, b); }, px);
        case UnaryOp::square:
            return map_vectors(
                n, py, []<class V>(V v) { return v * v; }, px);
        case UnaryOp::abs:
            return map_vectors(
                n, py, []<class V>(V v) { return magnitude<V>(v); }, px);
        case UnaryOp::sigmoid:
            return map_sigmoid(
                n, py, []<class V>(V, V s) { return s; }, px);
        case UnaryOp::tanh:
            return map(
                n, py, [](float v) { return std::tanh(v); }, px);
        case UnaryOp::swish:
            return map_sigmoid(
                n, py, []<class V>(V v, V s) { return v * s; }, px);
        case UnaryOp::exp:
            return map(
                n, py, [](float v) { return std::exp(v); }, px);
        case UnaryOp::log:
            return map(
                n, py, [](float v) { return std::log(v); }, px);
        case UnaryOp::sqrt:
            return map(
                n, py, [](float v) { return std::sqrt(v); }, px);
        case UnaryOp::count:
            break;
    }
    fail(who, ": no such function, ", static_cast<int>(op));
}

template <class T>
void unary_backward_of(UnaryOp op, double a64, double b64, const Tensor& x, const Tensor& y, const Tensor& dy,
                       Tensor& dx) {
    constexpr std::string_view who = "unary_backward";
    const float a = static_cast<float>(a64), b = static_cast<float>(b64);
    const T *px = input<T>(x, who), *py = input<T>(y, who), *g = input<T>(dy, who);
    T* out = output<T>(dx, who);
    const std::int64_t n = x.numel();
    switch (op) {
        case UnaryOp::relu:
            return map_vectors(
                n, out, []<class V>(V d, V v) { return d * (v > V{} ? splat<V>(1.0f) : V{}); }, g, px);
        case UnaryOp::relu6:
            return map_vectors(
                n, out, []<class V>(V d, V v) { return d * indicator<V>(v > V{}, v < splat<V>(6.0f)); }, g, px);
        case UnaryOp::leaky_relu:
            return map_vectors(
                n, out, [a]<class V>(V d, V v) { return d * (v > V{} ? splat<V>(1.0f) : splat<V>(a)); }, g, px);
        case UnaryOp::hard_sigmoid:
            return map_vectors(
                n, out,
                [a, b]<class V>(V d, V v) {
                    const V line = splat<V>(a) * v + splat<V>(b);
                    return d * (indicator<V>(line >= V{}, line <= splat<V>(1.0f)) * splat<V>(a));
                },
                g, px);
        case UnaryOp::clamp:
            return map_vectors(
                n, out, [a, b]<class V>(V d, V v) { return d * indicator<V>(v >= splat<V>(a), v <= splat<V>(b)); }, g,
                px);
        case UnaryOp::square:
            return map_vectors(
                n, out, []<class V>(V d, V v) { return d * (splat<V>(2.0f) * v); }, g, px);
        case UnaryOp::abs:
            return map_vectors(
                n, out,
                []<class V>(V d, V v) {
                    const V negative = v < V{} ? splat<V>(-1.0f) : V{};
                    return d * (v > V{} ? splat<V>(1.0f) : negative);
                },
                g, px);
        case UnaryOp::sigmoid:
            return map_vectors(
                n, out, []<class V>(V d, V v) { return d * (v * (splat<V>(1.0f) - v)); }, g, py);
        case UnaryOp::tanh:
            return map_vectors(
                n, out, []<class V>(V d, V v) { return d * (splat<V>(1.0f) - v * v); }, g, py);
        case UnaryOp::exp:
            return map_vectors(
                n, out, []<class V>(V d, V v) { return d * v; }, g, py);
        case UnaryOp::log:
            return map_vectors(
                n, out, []<class V>(V d, V v) { return d * (splat<V>(1.0f) / v); }, g, px);
        case UnaryOp::sqrt:
            return map_vectors(
                n, out, []<class V>(V d, V v) { return d * (splat<V>(0.5f) / v); }, g, py);
        case UnaryOp::swish:
            return map_sigmoid(
                n, out, []<class V>(V v, V s, V d) { return d * (s * (splat<V>(1.0f) + v * (splat<V>(1.0f) - s))); },
                px, g);
        case UnaryOp::count:
            break;
    }
    fail(who, ": no such function, ", static_cast<int>(op));
}

template <class T>
void scale_forward_of(double slope64, double offset64, const Tensor& x, Tensor& y) {
    const float slope = static_cast<float>(slope64), offset = static_cast<float>(offset64);
    const T* px = input<T>(x, "scale_forward");
    map_vectors(
        x.numel(), output<T>(y, "scale_forward"), [=]<class V>(V v) { return splat<V>(slope) * v + splat<V>(offset); },
        px);
}

template <class T>
void step_forward_of(StepFunction function, const Tensor& x, Tensor& y) {
    constexpr std::string_view who = "step_forward";
    const T* px = input<T>(x, who);
    T* py = output<T>(y, who);
    const std::int64_t n = x.numel();
    switch (function) {
        case StepFunction::round:
            return map(
                n, py, [](float v) { return std::nearbyint(v); }, px);  // ties to even
        case StepFunction::floor:
            return map(
                n, py, [](float v) { return std::floor(v); }, px);
        case StepFunction::ceil:
            return map(
                n, py, [](float v) { return std::ceil(v); }, px);
        case StepFunction::sign:
            return map_vectors(
                n, py,
                []<class V>(V v) {
                    const V negative = v < V{} ? splat<V>(-1.0f) : V{};
                    return v > V{} ? splat<V>(1.0f) : negative;
                },
                px);
        case StepFunction::sign_binary:
            return map_vectors(
                n, py, []<class V>(V v) { return v < V{} ? splat<V>(-1.0f) : splat<V>(1.0f); }, px);
    }
    fail(who, ": no such function, ", static_cast<int>(function));
}

template <class T>
void surrogate_backward_of(const SurrogateRule& rule, const Tensor& x, const Tensor& dy, Tensor& dx) {
    constexpr std::string_view who = "surrogate_backward";
    const float low = static_cast<float>(rule.low), high = static_cast<float>(rule.high),
                slope = static_cast<float>(rule.slope);
    const T *px = input<T>(x, who), *g = input<T>(dy, who);
    T* out = output<T>(dx, who);
    const std::int64_t n = x.numel();
    switch (rule.rule) {
        case Surrogate::identity:
            return map_vectors(
                n, out, []<class V>(V d) { return d; }, g);
        case Surrogate::scaled:
            return map_vectors(
                n, out, [slope]<class V>(V d) { return d * splat<V>(slope); }, g);
        case Surrogate::zero:
            return map_vectors(
                n, out, []<class V>(V d) { return d * V{}; }, g);
        case Surrogate::clipped:
            return map_vectors(
                n, out, [=]<class V>(V d, V v) { return d * indicator<V>(v >= splat<V>(low), v <= splat<V>(high)); }, g,
                px);
        case Surrogate::clipped_open:
            return map_vectors(
                n, out, [=]<class V>(V d, V v) { return d * indicator<V>(v > splat<V>(low), v < splat<V>(high)); }, g,
                px);
        case Surrogate::clipped_upper:
            return map_vectors(
                n, out, [=]<class V>(V d, V v) { return d * indicator<V>(v > splat<V>(low), v <= splat<V>(high)); }, g,
                px);
        case Surrogate::leaky_clipped:
            return map_vectors(
                n, out,
                [=]<class V>(V d, V v) {
                    const V inside = v <= splat<V>(high) ? splat<V>(1.0f) : V{};
                    return d * (v <= splat<V>(low) ? splat<V>(slope) : inside);
                },
                g, px);
        case Surrogate::approx_sign:
            return map_vectors(
                n, out,
                []<class V>(V d, V v) {
                    const V size = magnitude<V>(v);
                    return d * (size <= splat<V>(1.0f) ? splat<V>(2.0f) - splat<V>(2.0f) * size : V{});
                },
                g, px);
        case Surrogate::tanh:
            return map(
                n, out,
                [](float d, float v) {
                    const float t = std::tanh(v);
                    return d * (1 - t * t);
                },
                g, px);
        case Surrogate::swish_sign:
            return map(
                n, out,
                [slope](float d, float v) {
                    const float z = slope * v;
                    return d * (slope * (2 - z * std::tanh(z / 2)) / (1 + std::cosh(z)));
                },
                g, px);
    }
    fail(who, ": no such rule, ", static_cast<int>(rule.rule));
}

}  // namespace

void unary_forward(UnaryOp op, double a, double b, const Tensor& x, Tensor& y) {
    dispatch_storage(x, [&](auto zero) { unary_forward_of<decltype(zero)>(op, a, b, x, y); });
}

void unary_backward(UnaryOp op, double a, double b, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor& dx) {
    dispatch_storage(x, [&](auto zero) { unary_backward_of<decltype(zero)>(op, a, b, x, y, dy, dx); });
}

void scale_forward(double slope, double offset, const Tensor& x, Tensor& y) {
    dispatch_storage(x, [&](auto zero) { scale_forward_of<decltype(zero)>(slope, offset, x, y); });
}

void step_forward(StepFunction function, const Tensor& x, Tensor& y) {
    dispatch_storage(x, [&](auto zero) { step_forward_of<decltype(zero)>(function, x, y); });
}

void surrogate_backward(const SurrogateRule& rule, const Tensor& x, const Tensor& dy, Tensor& dx) {
    dispatch_storage(x, [&](auto zero) { surrogate_backward_of<decltype(zero)>(rule, x, dy, dx); });
}

}  // namespace bitloom::ops::cpu
