#include "ops/normalization.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/ops/expect_error.h"

namespace bitloom::ops::test {
namespace {

using Values = std::vector<double>;

Tensor tensor(const Shape& shape, const Values& values) { return Tensor::from(shape, values, reference_device); }

void expect_near(const Tensor& actual, const Values& expected, double tolerance = 1e-12) {
    const Values values = actual.values<double>();
    ASSERT_EQ(values.size(), expected.size());
    for (std::size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], tolerance) << "element " << i;
}

TEST(BatchNormTraining, UsesBiasedMomentsOfEachChannel) {
    Tape tape;
    // Channel 0: 1, 3, 5, 7: mean 4, biased variance 5 (unbiased 20/3). Channel 1: constant 2.
    const Var x = tape.constant(tensor({2, 1, 2, 2}, {1, 2, 3, 2, 5, 2, 7, 2}));
    const Var gamma = tape.constant(tensor({2}, {2, 3})), beta = tape.constant(tensor({2}, {10, -1}));
    Tensor mean, variance;
    const Var y = batch_norm_training(x, gamma, beta, Var(), 4, NormEpilogue::none, mean, variance);
    EXPECT_EQ(mean.values<double>(), (Values{4, 2}));
    EXPECT_EQ(variance.values<double>(), (Values{5, 0}));
    expect_near(y.value(), {8, -1, 10 - 2.0 / 3, -1, 10 + 2.0 / 3, -1, 12, -1});  // sigma = sqrt(5 + 4) = 3
}

TEST(BatchNormTraining, AddsTheResidualBeforeTheRelu) {
    Tape tape;
    const Var x = tape.constant(tensor({2, 1}, {-1, 1}));  // mean 0, variance 1
    const Var gamma = tape.constant(tensor({1}, {1})), beta = tape.constant(tensor({1}, {0}));
    const Var residual = tape.constant(tensor({2, 1}, {3, -3}));
    Tensor mean, variance;
    expect_near(batch_norm_training(x, gamma, beta, residual, 0, NormEpilogue::none, mean, variance).value(), {2, -2});
    expect_near(batch_norm_training(x, gamma, beta, residual, 0, NormEpilogue::relu, mean, variance).value(), {2, 0});
    expect_near(batch_norm_training(x, gamma, beta, Var(), 0, NormEpilogue::relu, mean, variance).value(), {0, 1});
}

TEST(BatchNormTraining, GradientOfTheInputHasNoMeanAndNoProjectionOnTheInput) {
    Tape tape;
    const Values values{0.3, -1.2, 2.5, 0.7, -0.4};
    const Var x = tape.input(tensor({5, 1}, values), true);
    const Var gamma = tape.input(tensor({1}, {1.7}), true), beta = tape.input(tensor({1}, {0.2}), true);
    Tensor mean, variance;
    const Var y = batch_norm_training(x, gamma, beta, Var(), 0, NormEpilogue::none, mean, variance);
    tape.backward(y, tensor({5, 1}, {1, -2, 0.5, 3, 0.25}));
    const Values dx = tape.grad(x).values<double>();
    double sum = 0, projection = 0;
    for (std::size_t i = 0; i < dx.size(); ++i) {
        sum += dx[i];
        projection += dx[i] * values[i];
    }
    EXPECT_NEAR(sum, 0, 1e-12) << "y does not change when x is shifted";
    EXPECT_NEAR(projection, 0, 1e-12) << "without epsilon, y does not change when x is scaled";
    EXPECT_GT(std::abs(dx[0]), 1e-3);
    EXPECT_EQ(tape.grad(beta).values<double>(), (Values{2.75}));
}

TEST(BatchNormTraining, ResidualReceivesTheSameTensorWithoutEpilogueAndTheMaskedOneWithRelu) {
    for (const NormEpilogue epilogue : {NormEpilogue::none, NormEpilogue::relu}) {
        Tape tape;
        const Var x = tape.constant(tensor({2, 1}, {-1, 1}));
        const Var gamma = tape.constant(tensor({1}, {1})), beta = tape.constant(tensor({1}, {0}));
        const Var residual = tape.input(tensor({2, 1}, {0.25, 0.25}), true);
        Tensor mean, variance;
        const Var y = batch_norm_training(x, gamma, beta, residual, 0, epilogue, mean, variance);
        const Tensor seed = tensor({2, 1}, {5, 7});
        tape.backward(y, seed);
        const Tensor& gradient = tape.grad(residual);
        const bool masked = epilogue == NormEpilogue::relu;
        EXPECT_EQ(gradient.values<double>(), masked ? (Values{0, 7}) : (Values{5, 7}));
        EXPECT_EQ(gradient.shares_storage(seed), !masked);
    }
}

TEST(BatchNormTraining, MomentsAreNewTensorsAtEveryCall) {
    Tape tape;
    const Var gamma = tape.constant(tensor({1}, {1})), beta = tape.constant(tensor({1}, {0}));
    Tensor mean, variance;
    batch_norm_training(tape.constant(tensor({2, 1}, {1, 3})), gamma, beta, Var(), 0, NormEpilogue::none, mean,
                        variance);
    const Tensor first = mean;
    batch_norm_training(tape.constant(tensor({2, 1}, {5, 7})), gamma, beta, Var(), 0, NormEpilogue::none, mean,
                        variance);
    EXPECT_EQ(first.item(), 2);
    EXPECT_EQ(mean.item(), 6);
}

TEST(BatchNormInference, UsesTheGivenMomentsAsConstants) {
    Tape tape;
    const Var x = tape.input(tensor({2, 2}, {1, 2, 3, 4}), true);
    const Var gamma = tape.input(tensor({2}, {2, -1}), true), beta = tape.input(tensor({2}, {1, 5}), true);
    const Tensor mean = tensor({2}, {2, 0}), variance = tensor({2}, {3, 15});
    const Var y = batch_norm_inference(x, gamma, beta, Var(), mean, variance, 1, NormEpilogue::none);  // sigma 2, 4
    expect_near(y.value(), {0, 4.5, 2, 4});
    EXPECT_EQ(tape.node_op(0), "batch_norm_inference");
    tape.backward(y, tensor({2, 2}, {1, 10, 2, 20}));
    expect_near(tape.grad(x), {1, -2.5, 2, -5});
    expect_near(tape.grad(gamma), {0.5, 25});
    expect_near(tape.grad(beta), {3, 30});
}

TEST(BatchNormInference, TrainingsOwnMomentsGiveTrainingsOutput) {
    Tape tape;
    const Var x = tape.constant(tensor({3, 2}, {0.5, -1, 2, 0.25, -0.75, 4}));
    const Var gamma = tape.constant(tensor({2}, {1.5, 0.5})), beta = tape.constant(tensor({2}, {0.1, -0.2}));
    Tensor mean, variance;
    const Var trained = batch_norm_training(x, gamma, beta, Var(), 1e-3, NormEpilogue::relu, mean, variance);
    const Var inferred = batch_norm_inference(x, gamma, beta, Var(), mean, variance, 1e-3, NormEpilogue::relu);
    EXPECT_EQ(inferred.value().values<double>(), trained.value().values<double>());
}

TEST(BatchNorm, SaysWhatDisagrees) {
    Tape tape;
    const auto zeros = [&](Shape shape) { return tape.constant(Tensor::zeros(shape, DType::f64, reference_device)); };
    Tensor mean, variance;
    const auto train = [&](Shape x, Shape gamma, Shape beta, Var residual = {}, double epsilon = 1e-3) {
        return [&, x, gamma, beta, residual, epsilon] {
            batch_norm_training(zeros(x), zeros(gamma), zeros(beta), residual, epsilon, NormEpilogue::none, mean,
                                variance);
        };
    };
    expect_error(train({2, 3, 3, 4}, {3}, {4}), "batch_norm_training: gamma has shape [3], expected [4]");
    expect_error(train({2, 3, 3, 4}, {4}, {1, 4}), "batch_norm_training: beta has shape [1, 4], expected [4]");
    expect_error(train({2, 4}, {4}, {4}, zeros({2, 2})),
                 "batch_norm_training: residual has shape [2, 2], expected [2, 4]");
    expect_error(train({4}, {4}, {4}),
                 "batch_norm_training: input must be [..., C] with at least one axis before C, got [4]");
    expect_error(train({0, 4}, {4}, {4}), "batch_norm_training: input [0, 4] is empty, it has no moments");
    expect_error(train({2, 4}, {4}, {4}, {}, -1), "batch_norm_training: epsilon -1 is negative");
    expect_error(
        [&] {
            batch_norm_inference(zeros({2, 4}), zeros({4}), zeros({4}), Var(),
                                 Tensor::zeros({3}, DType::f64, reference_device),
                                 Tensor::zeros({4}, DType::f64, reference_device), 1e-3, NormEpilogue::none);
        },
        "batch_norm_inference: mean has shape [3], expected [4]");
}

}  // namespace
}  // namespace bitloom::ops::test
