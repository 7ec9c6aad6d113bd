#pragma once
// 3x3 convolutions with "same" padding whose output has 16 channels, one register of floats. oneDNN reads one number
// from memory for each multiplication here; with the nine cells of a filter in registers one for every four is enough.
// (Where Winograd's minimal filtering applies, it is faster.)

#include "ops/kernels.h"

namespace bitloom::ops::cpu {

/// True where the kernels below take a forward pass, or a data gradient: 3x3, padding 1 all around, stride, dilation
/// and groups 1, maps of at least 2 x 9, 16 channels on the side that is written, 8 to 64 on the other, and enough
/// images to share among threads. Never where registers hold fewer than 16 floats.
bool takes_direct3x3_forward(const Conv2dGeometry& g);
bool takes_direct3x3_backward_data(const Conv2dGeometry& g);

/// Arrays as in ops/kernels.h; `bias` may be null.
void direct3x3_forward(const Conv2dGeometry& g, const float* x, const float* weight, const float* bias, float* y);
void direct3x3_backward_data(const Conv2dGeometry& g, const float* dy, const float* weight, float* dx);

}  // namespace bitloom::ops::cpu
