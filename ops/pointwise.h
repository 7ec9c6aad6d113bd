#pragma once
// Pointwise functions, broadcasting arithmetic, and step functions with surrogate gradients.

#include "engine/tape.h"
#include "ops/kernels.h"

namespace bitloom::ops {

/// One of UnaryOp; a and b are its constants (leaky_relu: a the slope; hard_sigmoid: clip(a x + b); clamp: [a, b]).
Var unary(UnaryOp op, const Var& x, double a = 0, double b = 0);
inline Var relu(const Var& x) { return unary(UnaryOp::relu, x); }
inline Var relu6(const Var& x) { return unary(UnaryOp::relu6, x); }
inline Var leaky_relu(const Var& x, double slope) { return unary(UnaryOp::leaky_relu, x, slope); }
inline Var sigmoid(const Var& x) { return unary(UnaryOp::sigmoid, x); }
inline Var tanh(const Var& x) { return unary(UnaryOp::tanh, x); }
inline Var swish(const Var& x) { return unary(UnaryOp::swish, x); }
inline Var hard_sigmoid(const Var& x) { return unary(UnaryOp::hard_sigmoid, x, 0.5, 0.5); }
inline Var smooth_sigmoid(const Var& x) { return unary(UnaryOp::hard_sigmoid, x, 0.1875, 0.5); }
inline Var clamp(const Var& x, double low, double high) { return unary(UnaryOp::clamp, x, low, high); }
inline Var exp(const Var& x) { return unary(UnaryOp::exp, x); }
inline Var log(const Var& x) { return unary(UnaryOp::log, x); }
inline Var sqrt(const Var& x) { return unary(UnaryOp::sqrt, x); }
inline Var square(const Var& x) { return unary(UnaryOp::square, x); }
inline Var abs(const Var& x) { return unary(UnaryOp::abs, x); }

/// One of BinaryOp with NumPy's broadcasting. maximum and minimum: where both are equal the gradient goes to `a`.
Var binary(BinaryOp op, const Var& a, const Var& b);
inline Var add(const Var& a, const Var& b) { return binary(BinaryOp::add, a, b); }
inline Var subtract(const Var& a, const Var& b) { return binary(BinaryOp::subtract, a, b); }
inline Var multiply(const Var& a, const Var& b) { return binary(BinaryOp::multiply, a, b); }
inline Var divide(const Var& a, const Var& b) { return binary(BinaryOp::divide, a, b); }
inline Var maximum(const Var& a, const Var& b) { return binary(BinaryOp::maximum, a, b); }
inline Var minimum(const Var& a, const Var& b) { return binary(BinaryOp::minimum, a, b); }
/// slope x + offset with host constants.
Var scale(const Var& x, double slope, double offset = 0);

/// A step function with a named straight-through gradient: y = step(x), dx = dy * rule(x).
Var step(StepFunction function, const Var& x, const SurrogateRule& rule);
inline Var round(const Var& x, const SurrogateRule& rule = {}) { return step(StepFunction::round, x, rule); }
inline Var sign(const Var& x, const SurrogateRule& rule = {Surrogate::clipped}) { return step(StepFunction::sign, x, rule); }
/// Any forward value under a named rule: `value` was computed from x off the tape (a quantizer's kernel) and has its shape.
Var straight_through(const Var& x, Tensor value, const SurrogateRule& rule);

}  // namespace bitloom::ops
