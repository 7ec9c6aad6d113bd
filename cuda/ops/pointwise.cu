// Unary functions, binary functions with broadcasting, step functions and the surrogates of their gradients.

#include "cuda/ops/elements.cuh"
#include "cuda/ops/kernels.h"
#include "cuda/ops/strided.cuh"
#include "ops/strided.h"

namespace bitloom::cuda {

namespace {

template <auto member>
struct Constant {
    static constexpr auto value = member;
};

// Comparisons are written so that NaN passes through: a diverged run must not look healthy behind a ReLU.
__device__ __forceinline__ float clip(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
/// Neither branch lets exp overflow.
__device__ __forceinline__ float sigmoid(float x) {
    const float e = expf(-fabsf(x));
    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

template <UnaryOp op>
struct UnaryValue {
    float a, b;
    __device__ float operator()(float x) const {
        if constexpr (op == UnaryOp::relu) return x <= 0 ? 0.0f : x;
        if constexpr (op == UnaryOp::relu6) return clip(x, 0, 6);
        if constexpr (op == UnaryOp::leaky_relu) return x > 0 ? x : a * x;
        if constexpr (op == UnaryOp::sigmoid) return sigmoid(x);
        if constexpr (op == UnaryOp::tanh) return tanhf(x);
        if constexpr (op == UnaryOp::swish) return x * sigmoid(x);
        if constexpr (op == UnaryOp::hard_sigmoid) return clip(a * x + b, 0, 1);
        if constexpr (op == UnaryOp::clamp) return clip(x, a, b);
        if constexpr (op == UnaryOp::exp) return expf(x);
        if constexpr (op == UnaryOp::log) return logf(x);
        if constexpr (op == UnaryOp::sqrt) return sqrtf(x);
        if constexpr (op == UnaryOp::square) return x * x;
        if constexpr (op == UnaryOp::abs) return fabsf(x);
    }
};

/// dy times the slope at x, where the function is y.
template <UnaryOp op>
struct UnaryGradient {
    float a, b;
    __device__ float operator()(float x, float y, float dy) const { return dy * slope(x, y); }
    __device__ float slope([[maybe_unused]] float x, [[maybe_unused]] float y) const {
        if constexpr (op == UnaryOp::relu) return x > 0 ? 1.0f : 0.0f;
        if constexpr (op == UnaryOp::relu6) return x > 0 && x < 6 ? 1.0f : 0.0f;
        if constexpr (op == UnaryOp::leaky_relu) return x > 0 ? 1.0f : a;
        if constexpr (op == UnaryOp::sigmoid) return y * (1 - y);
        if constexpr (op == UnaryOp::tanh) return 1 - y * y;
        if constexpr (op == UnaryOp::swish) {
            const float s = sigmoid(x);
            return s * (1 + x * (1 - s));
        }
        if constexpr (op == UnaryOp::hard_sigmoid) return a * x + b >= 0 && a * x + b <= 1 ? a : 0.0f;
        if constexpr (op == UnaryOp::clamp) return x >= a && x <= b ? 1.0f : 0.0f;
        if constexpr (op == UnaryOp::exp) return y;
        if constexpr (op == UnaryOp::log) return 1 / x;
        if constexpr (op == UnaryOp::sqrt) return 0.5f / y;
        if constexpr (op == UnaryOp::square) return 2 * x;
        if constexpr (op == UnaryOp::abs) return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f;
    }
};

template <class F>
void dispatch_unary(UnaryOp op, F&& f) {
    switch (op) {
        case UnaryOp::relu: return f(Constant<UnaryOp::relu>{});
        case UnaryOp::relu6: return f(Constant<UnaryOp::relu6>{});
        case UnaryOp::leaky_relu: return f(Constant<UnaryOp::leaky_relu>{});
        case UnaryOp::sigmoid: return f(Constant<UnaryOp::sigmoid>{});
        case UnaryOp::tanh: return f(Constant<UnaryOp::tanh>{});
        case UnaryOp::swish: return f(Constant<UnaryOp::swish>{});
        case UnaryOp::hard_sigmoid: return f(Constant<UnaryOp::hard_sigmoid>{});
        case UnaryOp::clamp: return f(Constant<UnaryOp::clamp>{});
        case UnaryOp::exp: return f(Constant<UnaryOp::exp>{});
        case UnaryOp::log: return f(Constant<UnaryOp::log>{});
        case UnaryOp::sqrt: return f(Constant<UnaryOp::sqrt>{});
        case UnaryOp::square: return f(Constant<UnaryOp::square>{});
        case UnaryOp::abs: return f(Constant<UnaryOp::abs>{});
        case UnaryOp::count: break;
    }
    fail("unary: no such function, ", static_cast<int>(op));
}

template <BinaryOp op>
struct BinaryValue {
    __device__ float operator()(float a, float b) const {
        if constexpr (op == BinaryOp::add) return a + b;
        if constexpr (op == BinaryOp::subtract) return a - b;
        if constexpr (op == BinaryOp::multiply) return a * b;
        if constexpr (op == BinaryOp::divide) return a / b;
        if constexpr (op == BinaryOp::maximum) return a < b ? b : a;
        if constexpr (op == BinaryOp::minimum) return a > b ? b : a;
    }
};

template <class F>
void dispatch_binary(BinaryOp op, F&& f) {
    switch (op) {
        case BinaryOp::add: return f(Constant<BinaryOp::add>{});
        case BinaryOp::subtract: return f(Constant<BinaryOp::subtract>{});
        case BinaryOp::multiply: return f(Constant<BinaryOp::multiply>{});
        case BinaryOp::divide: return f(Constant<BinaryOp::divide>{});
        case BinaryOp::maximum: return f(Constant<BinaryOp::maximum>{});
        case BinaryOp::minimum: return f(Constant<BinaryOp::minimum>{});
        case BinaryOp::count: break;
    }
    fail("binary: no such function, ", static_cast<int>(op));
}

/// y[i] = f(a, b) of the elements that the two sets of strides name.
template <class Index, class F, class T>
__global__ void broadcast_kernel(Odometer<Index> odometer, F f, const T* a, const T* b, T* y) {
    for (std::int64_t i = first_element(); i < odometer.count; i += element_stride()) {
        Index at_a, at_b;
        odometer.offsets(static_cast<Index>(i), at_a, at_b);
        y[i] = narrow<T>(f(widen(a[at_a]), widen(b[at_b])));
    }
}

struct Scale {
    float slope, offset;
    __device__ float operator()(float x) const { return slope * x + offset; }
};

struct Step {
    StepFunction function;
    __device__ float operator()(float x) const {
        switch (function) {
            case StepFunction::round: return rintf(x);
            case StepFunction::floor: return floorf(x);
            case StepFunction::ceil: return ceilf(x);
            case StepFunction::sign: return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f;
            case StepFunction::sign_binary: return x < 0 ? -1.0f : 1.0f;
        }
        return 0;
    }
};

struct SurrogateGradient {
    Surrogate rule;
    float low, high, slope;
    __device__ float operator()(float x, float dy) const { return dy * at(x); }
    __device__ float at(float x) const {
        switch (rule) {
            case Surrogate::identity: return 1;
            case Surrogate::clipped: return x >= low && x <= high ? 1.0f : 0.0f;
            case Surrogate::clipped_open: return x > low && x < high ? 1.0f : 0.0f;
            case Surrogate::clipped_upper: return x > low && x <= high ? 1.0f : 0.0f;
            case Surrogate::leaky_clipped: return x <= low ? slope : x <= high ? 1.0f : 0.0f;
            case Surrogate::scaled: return slope;
            case Surrogate::tanh: {
                const float t = tanhf(x);
                return 1 - t * t;
            }
            case Surrogate::approx_sign: return fabsf(x) <= 1 ? 2 - 2 * fabsf(x) : 0.0f;
            case Surrogate::swish_sign: {
                const float z = slope * x;
                return slope * (2 - z * tanhf(z / 2)) / (1 + coshf(z));
            }
            case Surrogate::zero: return 0;
        }
        return 0;
    }
};

}  // namespace

void unary_forward(UnaryOp op, double a, double b, const Tensor& x, Tensor& y) {
    dispatch_activation(x.dtype(), "unary", [&](auto zero) {
        using T = decltype(zero);
        dispatch_unary(op, [&](auto chosen) {
            map(x.device(), x.numel(), UnaryValue<chosen.value>{static_cast<float>(a), static_cast<float>(b)},
                y.write<T>(), x.read<T>());
        });
    });
}

void unary_backward(UnaryOp op, double a, double b, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor& dx) {
    dispatch_activation(x.dtype(), "unary", [&](auto zero) {
        using T = decltype(zero);
        dispatch_unary(op, [&](auto chosen) {
            map(x.device(), x.numel(), UnaryGradient<chosen.value>{static_cast<float>(a), static_cast<float>(b)},
                dx.write<T>(), x.read<T>(), y.read<T>(), dy.read<T>());
        });
    });
}

void binary_forward(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
    dispatch_activation(y.dtype(), "binary", [&](auto zero) {
        using T = decltype(zero);
        const T *left = a.read<T>(), *right = b.read<T>();
        T* out = y.write<T>();
        const std::int64_t n = y.numel();
        dispatch_binary(op, [&](auto chosen) {
            const BinaryValue<chosen.value> f;
            if (a.numel() == n && b.numel() == n) return map(y.device(), n, f, out, left, right);
            Walk walk;
            walk.append(y.shape(), broadcast_strides(a.shape(), y.shape()), broadcast_strides(b.shape(), y.shape()));
            dispatch_odometer(walk, [&](const auto& odometer) {
                using Index = typename std::remove_cvref_t<decltype(odometer)>::Offset;
                launch(y.device(), broadcast_kernel<Index, BinaryValue<chosen.value>, T>,
                       blocks_for(y.device(), n, threads_per_block), threads_per_block, 0, odometer, f, left, right, out);
            });
        });
    });
}

void scale_forward(double slope, double offset, const Tensor& x, Tensor& y) {
    dispatch_activation(x.dtype(), "scale", [&](auto zero) {
        using T = decltype(zero);
        map(x.device(), x.numel(), Scale{static_cast<float>(slope), static_cast<float>(offset)}, y.write<T>(), x.read<T>());
    });
}

void step_forward(StepFunction function, const Tensor& x, Tensor& y) {
    dispatch_activation(x.dtype(), "step", [&](auto zero) {
        using T = decltype(zero);
        map(x.device(), x.numel(), Step{function}, y.write<T>(), x.read<T>());
    });
}

void surrogate_backward(const SurrogateRule& rule, const Tensor& x, const Tensor& dy, Tensor& dx) {
    dispatch_activation(x.dtype(), "surrogate", [&](auto zero) {
        using T = decltype(zero);
        const SurrogateGradient f{rule.rule, static_cast<float>(rule.low), static_cast<float>(rule.high),
                                  static_cast<float>(rule.slope)};
        map(x.device(), x.numel(), f, dx.write<T>(), x.read<T>(), dy.read<T>());
    });
}

}  // namespace bitloom::cuda
