#pragma once
// The data gradient of convolutions that read an image (or another map of few channels), which oneDNN computes with
// most lanes of its registers empty.

#include "ops/kernels.h"

namespace bitloom::ops::cpu {

/// True where few_channels_backward_data takes it: up to four input channels, a filter row of at most 16
/// values, stride, dilation and groups 1.
bool few_channels(const Conv2dGeometry& g);
/// dx [n, h, w, in_c] from dy [n, oh, ow, out_c] and weight [out_c, kh, kw, in_c].
void few_channels_backward_data(const Conv2dGeometry& g, const float* dy, const float* weight, float* dx);

}  // namespace bitloom::ops::cpu
