#include <cmath>

#include "ops/reference/kernels.h"
#include "ops/reference/odometer.h"
#include "ops/strided.h"

namespace bitloom::ops::reference {

namespace {

/// Neither branch lets exp overflow.
template <class T>
T sigmoid(T x) {
    if (x >= 0) return 1 / (1 + std::exp(-x));
    const T e = std::exp(x);
    return e / (1 + e);
}

// Comparisons are written so that NaN passes through: a diverged run must not look healthy behind a ReLU.
template <class T>
T clip(T x, T low, T high) {
    return x < low ? low : x > high ? high : x;
}

template <class T>
T unary_value(UnaryOp op, T a, T b, T x) {
    switch (op) {
        case UnaryOp::relu:
            return x <= 0 ? T(0) : x;
        case UnaryOp::relu6:
            return clip(x, T(0), T(6));
        case UnaryOp::leaky_relu:
            return x > 0 ? x : a * x;
        case UnaryOp::sigmoid:
            return sigmoid(x);
        case UnaryOp::tanh:
            return std::tanh(x);
        case UnaryOp::swish:
            return x * sigmoid(x);
        case UnaryOp::hard_sigmoid:
            return clip(a * x + b, T(0), T(1));
        case UnaryOp::clamp:
            return clip(x, a, b);
        case UnaryOp::exp:
            return std::exp(x);
        case UnaryOp::log:
            return std::log(x);
        case UnaryOp::sqrt:
            return std::sqrt(x);
        case UnaryOp::square:
            return x * x;
        case UnaryOp::abs:
            return std::abs(x);
        case UnaryOp::count:
            break;
    }
    fail("unary: no such function, ", static_cast<int>(op));
}

template <class T>
T unary_slope(UnaryOp op, T a, T b, T x, T y) {
    switch (op) {
        case UnaryOp::relu:
            return x > 0 ? T(1) : T(0);
        case UnaryOp::relu6:
            return x > 0 && x < 6 ? T(1) : T(0);
        case UnaryOp::leaky_relu:
            return x > 0 ? T(1) : a;
        case UnaryOp::sigmoid:
            return y * (1 - y);
        case UnaryOp::tanh:
            return 1 - y * y;
        case UnaryOp::swish:
            return sigmoid(x) * (1 + x * (1 - sigmoid(x)));
        case UnaryOp::hard_sigmoid:
            return a * x + b >= 0 && a * x + b <= 1 ? a : T(0);
        case UnaryOp::clamp:
            return x >= a && x <= b ? T(1) : T(0);
        case UnaryOp::exp:
            return y;
        case UnaryOp::log:
            return 1 / x;
        case UnaryOp::sqrt:
            return T(0.5) / y;
        case UnaryOp::square:
            return 2 * x;
        case UnaryOp::abs:
            return x > 0 ? T(1) : x < 0 ? T(-1) : T(0);
        case UnaryOp::count:
            break;
    }
    fail("unary: no such function, ", static_cast<int>(op));
}

template <class T>
T binary_value(BinaryOp op, T a, T b) {
    switch (op) {
        case BinaryOp::add:
            return a + b;
        case BinaryOp::subtract:
            return a - b;
        case BinaryOp::multiply:
            return a * b;
        case BinaryOp::divide:
            return a / b;
        case BinaryOp::maximum:
            return a < b ? b : a;
        case BinaryOp::minimum:
            return a > b ? b : a;
        case BinaryOp::count:
            break;
    }
    fail("binary: no such function, ", static_cast<int>(op));
}

template <class T>
T step_value(StepFunction function, T x) {
    switch (function) {
        case StepFunction::round:
            return std::nearbyint(x);  // ties to even: the default rounding mode is never changed
        case StepFunction::floor:
            return std::floor(x);
        case StepFunction::ceil:
            return std::ceil(x);
        case StepFunction::sign:
            return x > 0 ? T(1) : x < 0 ? T(-1) : T(0);
        case StepFunction::sign_binary:
            return x < 0 ? T(-1) : T(1);
    }
    fail("step: no such function, ", static_cast<int>(function));
}

template <class T>
T surrogate_slope(const SurrogateRule& rule, T x) {
    const T low = static_cast<T>(rule.low), high = static_cast<T>(rule.high), slope = static_cast<T>(rule.slope);
    switch (rule.rule) {
        case Surrogate::identity:
            return 1;
        case Surrogate::clipped:
            return x >= low && x <= high ? T(1) : T(0);
        case Surrogate::clipped_open:
            return x > low && x < high ? T(1) : T(0);
        case Surrogate::clipped_upper:
            return x > low && x <= high ? T(1) : T(0);
        case Surrogate::leaky_clipped:
            return x <= low ? slope : x <= high ? T(1) : T(0);
        case Surrogate::scaled:
            return slope;
        case Surrogate::tanh:
            return 1 - std::tanh(x) * std::tanh(x);
        case Surrogate::approx_sign:
            return std::abs(x) <= 1 ? 2 - 2 * std::abs(x) : T(0);
        case Surrogate::swish_sign: {
            const T z = slope * x;
            return slope * (2 - z * std::tanh(z / 2)) / (1 + std::cosh(z));
        }
        case Surrogate::zero:
            return 0;
    }
    fail("surrogate: no such rule, ", static_cast<int>(rule.rule));
}

/// y[i] = f(x[i])
template <class F>
void map(std::string_view who, const Tensor& x, Tensor& y, F&& f) {
    dispatch_float(x.dtype(), who, [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        T* out = y.write<T>();
        for (std::int64_t i = 0; i < x.numel(); ++i) out[i] = f(in[i]);
    });
}

/// Strides of `from` as seen from `to`'s axes: 0 where it is broadcast.
Strides broadcast_strides(const Shape& from, const Shape& to) {
    const Strides own = row_major_strides(from);
    const int shift = to.rank() - from.rank();
    Strides strides{};
    for (int axis = shift; axis < to.rank(); ++axis) strides[axis] = from[axis - shift] == 1 ? 0 : own[axis - shift];
    return strides;
}

}  // namespace

void unary_forward(UnaryOp op, double a, double b, const Tensor& x, Tensor& y) {
    map("unary", x, y, [&]<class T>(T v) { return unary_value(op, static_cast<T>(a), static_cast<T>(b), v); });
}

void unary_backward(UnaryOp op, double a, double b, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor& dx) {
    dispatch_float(x.dtype(), "unary", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        const T* value = y.read<T>();
        const T* gradient = dy.read<T>();
        T* out = dx.write<T>();
        for (std::int64_t i = 0; i < x.numel(); ++i)
            out[i] = gradient[i] * unary_slope(op, static_cast<T>(a), static_cast<T>(b), in[i], value[i]);
    });
}

void binary_forward(BinaryOp op, const Tensor& a, const Tensor& b, Tensor& y) {
    const Shape& shape = y.shape();
    const Strides a_strides = broadcast_strides(a.shape(), shape), b_strides = broadcast_strides(b.shape(), shape);
    dispatch_float(y.dtype(), "binary", [&](auto zero) {
        using T = decltype(zero);
        const T* left = a.read<T>();
        const T* right = b.read<T>();
        T* out = y.write<T>();
        for_each_index(shape.extents(), a_strides, b_strides,
                       [&](std::int64_t i, std::int64_t at_a, std::int64_t at_b) {
                           out[i] = binary_value(op, left[at_a], right[at_b]);
                       });
    });
}

void scale_forward(double slope, double offset, const Tensor& x, Tensor& y) {
    map("scale", x, y, [&]<class T>(T v) { return static_cast<T>(slope) * v + static_cast<T>(offset); });
}

void step_forward(StepFunction function, const Tensor& x, Tensor& y) {
    map("step", x, y, [&](auto v) { return step_value(function, v); });
}

void surrogate_backward(const SurrogateRule& rule, const Tensor& x, const Tensor& dy, Tensor& dx) {
    dispatch_float(x.dtype(), "surrogate", [&](auto zero) {
        using T = decltype(zero);
        const T* in = x.read<T>();
        const T* gradient = dy.read<T>();
        T* out = dx.write<T>();
        for (std::int64_t i = 0; i < x.numel(); ++i) out[i] = gradient[i] * surrogate_slope(rule, in[i]);
    });
}

}  // namespace bitloom::ops::reference
