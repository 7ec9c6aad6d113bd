#pragma once
// Pooling, NHWC.

#include "engine/tape.h"
#include "ops/convolution.h"

namespace bitloom::ops {

struct Pool2dOptions {
    std::int64_t window_h = 2, window_w = 2;
    std::int64_t stride_h = 2, stride_w = 2;
    Padding padding = {};
    bool operator==(const Pool2dOptions&) const = default;
};

/// Output extents floor((n + pads - window) / stride) + 1: without padding a remainder is dropped (13 -> 6). Throws
/// Error for an empty map, a window beyond the padded input, and padding that is not below the window.
Pool2dGeometry pool2d_geometry(const Shape& x, const Pool2dOptions& options);
/// Padding counts as -infinity; the gradient goes to the first maximum in row-major order. At most 256 cells a window.
Var max_pool2d(const Var& x, const Pool2dOptions& options);
/// include_pad: divide by the window's area (PyTorch's default), else by the number of real cells (Keras SAME).
Var avg_pool2d(const Var& x, const Pool2dOptions& options, bool include_pad);
/// [N, H, W, C] -> [N, C]; recorded as avg_pool2d and as reduce_max.
Var global_avg_pool2d(const Var& x);
Var global_max_pool2d(const Var& x);

}  // namespace bitloom::ops
