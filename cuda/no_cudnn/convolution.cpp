#include "cuda/cudnn_convolution.h"

namespace bitloom::cuda::cudnn_convolution {

namespace {
[[noreturn]] void missing() { fail("cuda: this build has no cuDNN"); }
}  // namespace

bool takes(Pass, const ops::Conv2dGeometry&, DType) { return false; }
void forward(const ops::Conv2dGeometry&, const Tensor&, const Tensor&, Tensor&) { missing(); }
void backward_data(const ops::Conv2dGeometry&, const Tensor&, const Tensor&, Tensor&) { missing(); }
void backward_weights(const ops::Conv2dGeometry&, const Tensor&, const Tensor&, Tensor&) { missing(); }

}  // namespace bitloom::cuda::cudnn_convolution
