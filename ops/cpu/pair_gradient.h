#pragma once
// The filter gradient of strided convolutions in bf16, as sums of outer products: a lane holds the values of two
// neighbouring outputs, whose products one instruction adds. Beside oneDNN's kernels, which are as fast on maps that
// lie in the caches, it asks for memory ahead of its use, and two threads take half as long as one.

#include "ops/kernels.h"

namespace bitloom::ops::cpu {

/// True where the kernel below takes it, on an AVX-512 build and not beside AMX: bf16 activations, a kernel of at most
/// 3 x 3, groups and dilation 1, both numbers of channels multiples of 16 and not large, and enough outputs.
/// (Winograd's is faster where it applies.)
bool takes_pair_gradient(const Conv2dGeometry& g, DType activations);

/// dweight [out_c][kh][kw][in_c] of x [n][h][w][in_c] and dy [n][oh][ow][out_c]. Sums over parts of the batch, in their
/// order (parts_for).
void pair_backward_weights(const Conv2dGeometry& g, const bf16* x, const bf16* dy, float* dweight);

}  // namespace bitloom::ops::cpu
