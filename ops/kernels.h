#pragma once
// The kernel table of the operations: one a device. `ops/reference` (f32, f64, plain loops), `ops/cpu` (f32) and `cuda`
// fill it. Ops check shapes and allocate outputs; kernels compute. Every output is written whole, never added to.
// Activations and their gradients may be bf16 everywhere but in cross_entropy; weights, biases, gamma, beta, moments,
// factors of rows and all gradients of these then are f32 (parameter_dtype), and sums run in f32 at least.
// Layouts: activations NHWC, convolution weights [out][kh][kw][in / groups] (OHWI), dense weights [out][in].

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

#include "engine/kernel_list.h"
#include "engine/random.h"
#include "engine/tensor.h"

namespace bitloom::ops {

struct Conv2dGeometry {
    std::int64_t batch, in_h, in_w, in_c;
    std::int64_t out_h, out_w, out_c;
    std::int64_t kernel_h, kernel_w;
    std::int64_t stride_h = 1, stride_w = 1;
    std::int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
    std::int64_t dilation_h = 1, dilation_w = 1;
    std::int64_t groups = 1;
    bool operator==(const Conv2dGeometry&) const = default;
};

struct Pool2dGeometry {
    std::int64_t batch, in_h, in_w, channels;
    std::int64_t out_h, out_w;
    std::int64_t window_h, window_w;
    std::int64_t stride_h, stride_w;
    std::int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
    bool operator==(const Pool2dGeometry&) const = default;
};

/// What follows a batch normalisation, or a convolution or dense layer that one was folded into, in the same pass.
enum class NormEpilogue { none, relu };

enum class UnaryOp {
    relu,        // max(x, 0); gradient 1 for x > 0
    relu6,       // min(max(x, 0), 6); gradient 1 on the open (0, 6)
    leaky_relu,  // x > 0 ? x : a x
    sigmoid,     // 1 / (1 + exp(-x))
    tanh,
    swish,         // x sigmoid(x)
    hard_sigmoid,  // clip(a x + b, 0, 1): a = 0.5, b = 0.5 hard; a = 0.1875, b = 0.5 smooth (QKeras)
    clamp,         // min(max(x, a), b); gradient 1 on the closed [a, b]
    exp,
    log,
    sqrt,
    square,
    abs,  // gradient sign(x), 0 at 0
    count
};
inline constexpr std::array<std::string_view, static_cast<int>(UnaryOp::count)> unary_names = {
    "relu",  "relu6", "leaky_relu", "sigmoid", "tanh",   "swish", "hard_sigmoid",
    "clamp", "exp",   "log",        "sqrt",    "square", "abs"};

enum class BinaryOp { add, subtract, multiply, divide, maximum, minimum, count };
inline constexpr std::array<std::string_view, static_cast<int>(BinaryOp::count)> binary_names = {
    "add", "subtract", "multiply", "divide", "maximum", "minimum"};

/// Functions of zero gradient that straight-through estimators wrap.
enum class StepFunction {
    round,  // to nearest, ties to even
    floor,
    ceil,
    sign,        // -1, 0, +1
    sign_binary  // -1 for x < 0, else +1
};

/// Named backward rules of straight-through estimators: dx = dy * rule(x).
enum class Surrogate {
    identity,       // 1
    clipped,        // 1 on the closed [low, high], else 0
    clipped_open,   // 1 on the open (low, high), else 0
    clipped_upper,  // 1 on (low, high], else 0
    leaky_clipped,  // 1 on (low, high], slope elsewhere below low, 0 above high
    scaled,         // slope
    tanh,           // 1 - tanh(x)^2
    approx_sign,    // 2 - 2|x| on [-1, 1], else 0 (Bi-Real Net)
    swish_sign,     // b (2 - b x tanh(b x / 2)) / (1 + cosh(b x)), b = slope (BNN+)
    zero            // 0
};
struct SurrogateRule {
    Surrogate rule = Surrogate::identity;
    double low = -1, high = 1, slope = 1;
};

/// Copies `sizes` elements between two strided layouts (rank at most 6; stride 0 broadcasts on the source side).
struct StridedCopy {
    int rank = 0;
    std::array<std::int64_t, 6> sizes{}, source_strides{}, target_strides{};
    std::int64_t source_offset = 0, target_offset = 0;  // elements
};

/// Function pointers, all non-null on reference and cpu. A backend that lacks one leaves it null; the op then throws
/// an Error that names it. `bias`, `residual` and gradients marked optional may be null.
struct OpKernels {
    void (*conv2d_forward)(const Conv2dGeometry&, const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y);
    /// y = epilogue(conv(x) [+ bias] [+ residual]). y may be the residual itself, which is then overwritten.
    void (*conv2d_inference)(const Conv2dGeometry&, const Tensor& x, const Tensor& weight, const Tensor* bias,
                             const Tensor* residual, NormEpilogue, Tensor& y);
    void (*conv2d_backward_data)(const Conv2dGeometry&, const Tensor& dy, const Tensor& weight, Tensor& dx);
    void (*conv2d_backward_weights)(const Conv2dGeometry&, const Tensor& x, const Tensor& dy, Tensor& dweight,
                                    Tensor* dbias);

    /// y[b, o] = sum_i x[b, i] w[o, i] + bias[o]
    void (*dense_forward)(const Tensor& x, const Tensor& weight, const Tensor* bias, Tensor& y);
    /// y = epilogue(dense(x) [+ bias])
    void (*dense_inference)(const Tensor& x, const Tensor& weight, const Tensor* bias, NormEpilogue, Tensor& y);
    void (*dense_backward_data)(const Tensor& dy, const Tensor& weight, Tensor& dx);
    void (*dense_backward_weights)(const Tensor& x, const Tensor& dy, Tensor& dweight, Tensor* dbias);

    /// y = x + bias along the last axis; dbias sums dy over all others.
    void (*bias_forward)(const Tensor& x, const Tensor& bias, Tensor& y);
    void (*bias_backward)(const Tensor& dy, Tensor& dbias);

    /// Normalises over all axes but the last with the batch's biased moments, which it returns in mean and variance:
    /// y = epilogue(gamma (x - mean) / sqrt(variance + epsilon) + beta [+ residual]).
    void (*batch_norm_forward)(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                               double epsilon, NormEpilogue, Tensor& y, Tensor& mean, Tensor& variance);
    /// y is needed (non-null) only with an epilogue. dx and dresidual are optional. Where dresidual equals the masked
    /// dy and there is no epilogue, the op passes dy itself on and asks for no dresidual.
    void (*batch_norm_backward)(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma,
                                const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue, Tensor* dx,
                                Tensor* dresidual, Tensor& dgamma, Tensor& dbeta);
    void (*batch_norm_inference)(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor* residual,
                                 const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue, Tensor& y);
    /// Gradients of the inference form: moments are constants.
    void (*batch_norm_inference_backward)(const Tensor& dy, const Tensor& x, const Tensor* y, const Tensor& gamma,
                                          const Tensor& mean, const Tensor& variance, double epsilon, NormEpilogue,
                                          Tensor* dx, Tensor* dresidual, Tensor& dgamma, Tensor& dbeta);

    /// Padding counts as -infinity; the first maximum in row-major order wins. `argmax` (u8, y's shape) holds the
    /// position in the window, so a window has at most 256 cells; it may be null in inference.
    void (*max_pool2d_forward)(const Pool2dGeometry&, const Tensor& x, Tensor& y, Tensor* argmax);
    void (*max_pool2d_backward)(const Pool2dGeometry&, const Tensor& dy, const Tensor& argmax, Tensor& dx);
    /// include_pad: divides by the window's area (PyTorch), else by the number of real cells (Keras).
    void (*avg_pool2d_forward)(const Pool2dGeometry&, bool include_pad, const Tensor& x, Tensor& y);
    void (*avg_pool2d_backward)(const Pool2dGeometry&, bool include_pad, const Tensor& dy, Tensor& dx);

    void (*unary_forward)(UnaryOp, double a, double b, const Tensor& x, Tensor& y);
    void (*unary_backward)(UnaryOp, double a, double b, const Tensor& x, const Tensor& y, const Tensor& dy, Tensor& dx);
    /// a and b broadcast to y's shape by NumPy's rules.
    void (*binary_forward)(BinaryOp, const Tensor& a, const Tensor& b, Tensor& y);
    /// y = slope x + offset
    void (*scale_forward)(double slope, double offset, const Tensor& x, Tensor& y);
    void (*step_forward)(StepFunction, const Tensor& x, Tensor& y);
    void (*surrogate_backward)(const SurrogateRule&, const Tensor& x, const Tensor& dy, Tensor& dx);

    /// Over the last axis. With `log`, y is the logarithm.
    void (*softmax_forward)(bool log, const Tensor& x, Tensor& y);
    void (*softmax_backward)(bool log, const Tensor& y, const Tensor& dy, Tensor& dx);
    /// losses[b] = logsumexp(z_b) - z_b[label]; probabilities (optional) = softmax. Labels i32.
    void (*cross_entropy_forward)(const Tensor& logits, const Tensor& labels, Tensor& losses, Tensor* probabilities);
    /// dlogits = (probabilities - onehot) * scale * dloss, dloss a one-element tensor on the device.
    void (*cross_entropy_backward)(const Tensor& probabilities, const Tensor& labels, double scale, const Tensor& dloss,
                                   Tensor& dlogits);

    /// y = x / (1 - rate) where the stream's uniform of the element is >= rate, else 0. Its own backward.
    void (*dropout)(double rate, PhiloxStream, const Tensor& x, Tensor& y);
    /// y[n, ...] = x[n, ...] * factors[n]
    void (*row_scale)(const Tensor& factors, const Tensor& x, Tensor& y);

    void (*strided_copy)(const StridedCopy&, const Tensor& source, Tensor& target);
    /// y = factor * sum of x over the axes whose bit is set in `axes`; y has extent 1 there (or none: same element
    /// order).
    void (*reduce_sum)(std::uint32_t axes, double factor, const Tensor& x, Tensor& y);
    /// Maximum over those axes; `argmax` (i32, y's shape, first in row-major order among the reduced) is optional.
    void (*reduce_max)(std::uint32_t axes, const Tensor& x, Tensor& y, Tensor* argmax);
    void (*reduce_max_backward)(std::uint32_t axes, const Tensor& dy, const Tensor& argmax, Tensor& dx);
};

/// Every kernel of the table, for comparisons and lists of what a backend lacks.
inline constexpr auto op_kernel_list =
    std::tuple{NamedKernel{"conv2d_forward", &OpKernels::conv2d_forward},
               NamedKernel{"conv2d_inference", &OpKernels::conv2d_inference},
               NamedKernel{"conv2d_backward_data", &OpKernels::conv2d_backward_data},
               NamedKernel{"conv2d_backward_weights", &OpKernels::conv2d_backward_weights},
               NamedKernel{"dense_forward", &OpKernels::dense_forward},
               NamedKernel{"dense_inference", &OpKernels::dense_inference},
               NamedKernel{"dense_backward_data", &OpKernels::dense_backward_data},
               NamedKernel{"dense_backward_weights", &OpKernels::dense_backward_weights},
               NamedKernel{"bias_forward", &OpKernels::bias_forward},
               NamedKernel{"bias_backward", &OpKernels::bias_backward},
               NamedKernel{"batch_norm_forward", &OpKernels::batch_norm_forward},
               NamedKernel{"batch_norm_backward", &OpKernels::batch_norm_backward},
               NamedKernel{"batch_norm_inference", &OpKernels::batch_norm_inference},
               NamedKernel{"batch_norm_inference_backward", &OpKernels::batch_norm_inference_backward},
               NamedKernel{"max_pool2d_forward", &OpKernels::max_pool2d_forward},
               NamedKernel{"max_pool2d_backward", &OpKernels::max_pool2d_backward},
               NamedKernel{"avg_pool2d_forward", &OpKernels::avg_pool2d_forward},
               NamedKernel{"avg_pool2d_backward", &OpKernels::avg_pool2d_backward},
               NamedKernel{"unary_forward", &OpKernels::unary_forward},
               NamedKernel{"unary_backward", &OpKernels::unary_backward},
               NamedKernel{"binary_forward", &OpKernels::binary_forward},
               NamedKernel{"scale_forward", &OpKernels::scale_forward},
               NamedKernel{"step_forward", &OpKernels::step_forward},
               NamedKernel{"surrogate_backward", &OpKernels::surrogate_backward},
               NamedKernel{"softmax_forward", &OpKernels::softmax_forward},
               NamedKernel{"softmax_backward", &OpKernels::softmax_backward},
               NamedKernel{"cross_entropy_forward", &OpKernels::cross_entropy_forward},
               NamedKernel{"cross_entropy_backward", &OpKernels::cross_entropy_backward},
               NamedKernel{"dropout", &OpKernels::dropout},
               NamedKernel{"row_scale", &OpKernels::row_scale},
               NamedKernel{"strided_copy", &OpKernels::strided_copy},
               NamedKernel{"reduce_sum", &OpKernels::reduce_sum},
               NamedKernel{"reduce_max", &OpKernels::reduce_max},
               NamedKernel{"reduce_max_backward", &OpKernels::reduce_max_backward}};
static_assert(sizeof(OpKernels) == std::tuple_size_v<decltype(op_kernel_list)> * sizeof(void*),
              "list a new kernel here too");

/// Calls f(name, member pointer) for every kernel of the table.
template <class F>
void for_each_kernel(F&& f) {
    for_each_entry(op_kernel_list, f);
}
inline constexpr int op_kernel_count = std::tuple_size_v<decltype(op_kernel_list)>;

/// The table of a device. Throws Error for a backend that is not installed.
const OpKernels& op_kernels(Device device);
void register_op_kernels(DeviceKind kind, const OpKernels& table);

/// `kernel(x.device(), "name", &OpKernels::name)`: the pointer, or an Error saying which kernel the device lacks.
template <class K>
K kernel(Device device, std::string_view name, K OpKernels::*member) {
    K found = op_kernels(device).*member;
    require(found != nullptr, name, ": device ", device, " has no such kernel");
    return found;
}

const OpKernels& reference_op_kernels();  // ops/reference
const OpKernels& cpu_op_kernels();        // ops/cpu

}  // namespace bitloom::ops
