#include "ops/loss.h"

#include "ops/checks.h"
#include "ops/kernels.h"
#include "ops/record.h"

namespace bitloom::ops {

namespace {

Var softmax_of(Op op, const Var& x) {
    const bool log = op == Op::log_softmax;
    require_float(op_name(op), x.value());
    require(x.shape().rank() >= 1 && x.dim(-1) >= 1, op_name(op), ": input ", x.shape(),
            " has no last axis to normalise");
    Tensor y = Tensor::empty_like(x.value());
    kernel(x.device(), "softmax_forward", &OpKernels::softmax_forward)(log, x.value(), y);
    const Tensor saved = y;
    return record(op, {x}, std::move(y), [log, y = saved](BackwardContext& c) {
        Tensor dx = Tensor::empty_like(y);
        kernel(y.device(), "softmax_backward", &OpKernels::softmax_backward)(log, y, c.grad(), dx);
        c.give(0, std::move(dx));
    });
}

void check_labels(const Tensor& logits, const Tensor& labels) {
    require(logits.dtype() == DType::f32 || logits.dtype() == DType::f64,
            "cross_entropy: needs f32 or f64 logits, got ", name_of(logits.dtype()));
    require(logits.rank() == 2 && logits.dim(0) >= 1 && logits.dim(1) >= 1,
            "cross_entropy: logits must be [batch, classes], got ", logits.shape());
    require(labels.shape() == Shape{logits.dim(0)}, "cross_entropy: labels have shape ", labels.shape(), ", expected [",
            logits.dim(0), "]");
    require(labels.dtype() == DType::i32, "cross_entropy: labels must be i32, got ", name_of(labels.dtype()));
    require(labels.device() == logits.device(), "cross_entropy: labels are on ", labels.device(), ", logits on ",
            logits.device());
    if (!labels.device().is_host()) return;  // reading them back would stall the device
    const std::int32_t* label = labels.read<std::int32_t>();
    for (std::int64_t b = 0; b < labels.numel(); ++b)
        require(label[b] >= 0 && label[b] < logits.dim(1), "cross_entropy: label ", label[b], " of sample ", b,
                " is outside [0, ", logits.dim(1), ")");
}

Tensor losses_of(const Tensor& logits, const Tensor& labels, Tensor* probabilities) {
    check_labels(logits, labels);
    Tensor losses = Tensor::empty({logits.dim(0)}, logits.dtype(), logits.device());
    if (probabilities) *probabilities = Tensor::empty_like(logits);
    kernel(logits.device(), "cross_entropy_forward", &OpKernels::cross_entropy_forward)(logits, labels, losses,
                                                                                        probabilities);
    return losses;
}

}  // namespace

Var softmax(const Var& x) { return softmax_of(Op::softmax, x); }
Var log_softmax(const Var& x) { return softmax_of(Op::log_softmax, x); }

Var cross_entropy(const Var& logits, const Tensor& labels) {
    Tensor probabilities;
    const bool save = logits.tape().wants_node({logits});
    const Tensor losses = losses_of(logits.value(), labels, save ? &probabilities : nullptr);
    const double scale = 1.0 / static_cast<double>(logits.dim(0));
    Tensor loss = Tensor::empty({1}, logits.dtype(), logits.device());
    kernel(logits.device(), "reduce_sum", &OpKernels::reduce_sum)(1u, scale, losses, loss);
    return record(Op::cross_entropy, {logits}, std::move(loss), [probabilities, labels, scale](BackwardContext& c) {
        Tensor dlogits = Tensor::empty_like(probabilities);
        kernel(probabilities.device(), "cross_entropy_backward", &OpKernels::cross_entropy_backward)(
            probabilities, labels, scale, c.grad(), dlogits);
        c.give(0, std::move(dlogits));
    });
}

Tensor cross_entropy_per_sample(const Tensor& logits, const Tensor& labels) {
    return losses_of(logits, labels, nullptr);
}

}  // namespace bitloom::ops
