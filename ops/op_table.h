#pragma once
// Every differentiable operation by name. An op can only be recorded under an entry of this table, and the gradient check,
// parity tests and benchmarks iterate over it, so an op without a test row fails the suite.

#include <array>
#include <string_view>

namespace bitloom::ops {

enum class Op {
    conv2d,
    conv2d_transpose,
    dense,
    bias_add,
    batch_norm_training,   // with its fused epilogues: ReLU, residual add + ReLU
    batch_norm_inference,  // likewise; moments are constants
    max_pool2d,
    avg_pool2d,
    unary,    // the pointwise functions of UnaryOp
    binary,   // the broadcasting functions of BinaryOp
    scale,    // y = a x + b
    surrogate,  // straight-through: forward value with a named backward rule
    softmax,
    log_softmax,
    cross_entropy,
    dropout,
    drop_path,
    concat,
    slice,
    pad,
    reshape,
    transpose,
    reduce_sum,  // and mean
    reduce_max,
    cast,  // to another floating-point type
    count
};

inline constexpr std::array<std::string_view, static_cast<int>(Op::count)> op_names = {
    "conv2d",      "conv2d_transpose", "dense",      "bias_add", "batch_norm_training", "batch_norm_inference",
    "max_pool2d",  "avg_pool2d",       "unary",      "binary",   "scale",               "surrogate",
    "softmax",     "log_softmax",      "cross_entropy", "dropout", "drop_path",         "concat",
    "slice",       "pad",              "reshape",    "transpose", "reduce_sum",         "reduce_max", "cast"};

constexpr std::string_view op_name(Op op) { return op_names[static_cast<int>(op)]; }

}  // namespace bitloom::ops
