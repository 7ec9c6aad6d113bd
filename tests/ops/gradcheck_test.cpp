// The gradient check must itself notice a wrong gradient.

#include "tests/ops/gradcheck.h"

#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

namespace bitloom::ops::test {
namespace {

/// y = x0 x1 for one-element inputs, with gradients (slope x1 dy, x0 dy).
Var product(std::span<const Var> in, double slope) {
    const double a = in[0].value().item(), b = in[1].value().item();
    return in[0].tape().record("product", {in[0], in[1]}, Tensor::full({1}, a * b, DType::f64, reference_device),
                               [a, b, slope](BackwardContext& c) {
                                   const double dy = c.grad().item();
                                   c.give(0, Tensor::full({1}, slope * b * dy, DType::f64, reference_device));
                                   c.give(1, Tensor::full({1}, a * dy, DType::f64, reference_device));
                               });
}

std::vector<Tensor> two_inputs() {
    return {Tensor::full({1}, 1.5, DType::f64, reference_device),
            Tensor::full({1}, -0.75, DType::f64, reference_device)};
}

TEST(Gradcheck, AcceptsTheRightGradient) {
    gradcheck([](Tape&, std::span<const Var> in) { return product(in, 1); }, two_inputs());
}

TEST(Gradcheck, RejectsAWrongGradient) {
    const Builder wrong = [](Tape&, std::span<const Var> in) { return product(in, 1.01); };
    EXPECT_NONFATAL_FAILURE(gradcheck(wrong, two_inputs()), "input 0, element 0");
}

TEST(Gradcheck, LeavesFixedInputsAlone) {
    gradcheck([](Tape&, std::span<const Var> in) { return product(in, 1.01); }, two_inputs(), 1e-6, 1e-4, {0});
}

TEST(Gradcheck, RejectsAMissingGradient) {
    const Builder detached = [](Tape& tape, std::span<const Var> in) {
        const std::vector<Var> cut{in[0], tape.constant(in[1].value())};
        return product(cut, 1);
    };
    EXPECT_NONFATAL_FAILURE(gradcheck(detached, two_inputs()), "input 1, element 0");
}

}  // namespace
}  // namespace bitloom::ops::test
