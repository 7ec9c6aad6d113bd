#include "ops/cpu/kernels.h"
#include "ops/cpu/onednn.h"
#include "ops/cpu/parallel.h"

namespace bitloom::ops::cpu {

void conv2d_forward(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y) {
    constexpr std::string_view who = "conv2d_forward";
    const float* px = input(x, who);
    const float* pb = optional_input(bias, who);
    input(weight, who);
    float* py = output(y, who);
    if (y.numel() != 0) onednn::convolution_forward(g, px, weight, pb, py);
}

void conv2d_inference(const Conv2dGeometry& g, const Tensor& x, const Tensor& weight, const Tensor* bias,
                      const Tensor* residual, NormEpilogue epilogue, Tensor& y) {
    constexpr std::string_view who = "conv2d_inference";
    const float* px = input(x, who);
    const float *pb = optional_input(bias, who), *pr = optional_input(residual, who);
    input(weight, who);
    float* py = output(y, who);
    if (y.numel() == 0) return;
    if (pr && pr != py) std::copy_n(pr, y.numel(), py);
    onednn::convolution_inference(g, px, weight, pb, pr != nullptr, epilogue == NormEpilogue::relu, py);
}

void conv2d_backward_data(const Conv2dGeometry& g, const Tensor& dy, const Tensor& weight, Tensor& dx) {
    constexpr std::string_view who = "conv2d_backward_data";
    const float* pdy = input(dy, who);
    input(weight, who);
    float* pdx = output(dx, who);
    if (dx.numel() != 0) onednn::convolution_backward_data(g, pdy, weight, pdx);
}

void conv2d_backward_weights(const Conv2dGeometry& g, const Tensor& x, const Tensor& dy, Tensor& dweight,
                             Tensor* dbias) {
    constexpr std::string_view who = "conv2d_backward_weights";
    const float *px = input(x, who), *pdy = input(dy, who);
    float *pdw = output(dweight, who), *pdb = optional_output(dbias, who);
    if (dy.numel() != 0) {
        onednn::convolution_backward_weights(g, px, pdy, pdw, pdb);
    } else {
        dweight.fill(0);
        if (dbias) dbias->fill(0);
    }
}

}  // namespace bitloom::ops::cpu
