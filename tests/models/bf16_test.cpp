// Networks with bf16 activations: what stays f32, that all of a network's layers take part, and that training follows
// the f32 run.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/data/loader.h"
#include "engine/optim/optimizer.h"
#include "engine/parameter.h"
#include "engine/threads.h"
#include "models/registry.h"
#include "ops/loss.h"

namespace bitloom {
namespace {

Tensor random_images(const Shape& shape, DType dtype, Device device) {
    Tensor x = Tensor::empty(shape, DType::f32, device);
    Rng rng(3, "images");
    fill_uniform(x, -1, 1, rng);
    return x.to(dtype);
}

struct Gradients {
    double loss = 0;
    std::vector<std::vector<double>> values;
};

/// The gradients of one batch of 8 images, at weights that bf16 holds exactly.
Gradients gradients_of(const std::string& name, DType activations, DType parameters, Device device) {
    const ModelOptions options = resolve({.name = name});
    const auto network = make_model(options, 1);
    network->to(DType::bf16);
    network->to(parameters);
    network->to(device);
    const Shape& image = options.input;
    Tape tape;
    Context context{tape, true, 1};
    const Tensor x = random_images({8, image[0], image[1], image[2]}, activations, device);
    const Var logits = (*network)(context, tape.input(x));
    EXPECT_EQ(logits.dtype(), parameters) << name << ": the loss sees logits of full precision";
    Tensor labels = Tensor::empty({8}, DType::i32, device);
    for (int i = 0; i < 8; ++i) labels.write<std::int32_t>()[i] = i % static_cast<int>(options.classes);
    const Var loss = ops::cross_entropy(logits, labels);
    tape.backward(loss);
    Gradients result{loss.value().item(), {}};
    for (const auto& [path, parameter] : network->named_parameters()) {
        EXPECT_TRUE(parameter->grad.defined()) << name << ": " << path << " has no gradient";
        EXPECT_EQ(parameter->grad.dtype(), parameters) << name << ": " << path;
        result.values.push_back(parameter->grad.values<double>());
    }
    return result;
}

/// Of all gradients as one vector.
double relative_error(const Gradients& actual, const Gradients& expected) {
    double error = 0, norm = 0;
    for (std::size_t k = 0; k < expected.values.size(); ++k)
        for (std::size_t i = 0; i < expected.values[k].size(); ++i) {
            const double d = actual.values[k][i] - expected.values[k][i];
            error += d * d;
            norm += expected.values[k][i] * expected.values[k][i];
        }
    return std::sqrt(error / norm);
}

/// Networks on one thread.
class Bf16Networks : public testing::TestWithParam<const char*> {
   protected:
    void SetUp() override { set_threads(1); }
    void TearDown() override { set_threads(0); }
};

/// What bf16 activations cost is shown by the reference device, which computes in f64 and rounds each result once: on
/// few images, whose statistics amplify every rounding, up to a third of the gradient. The fast kernels may cost little
/// more: those by Winograd also round what they multiply.
TEST_P(Bf16Networks, GradientsAreAsCloseToFullPrecisionAsTheFormatAllows) {
    const std::string name = GetParam();
    const Gradients exact = gradients_of(name, DType::f64, DType::f64, reference_device);
    const Gradients rounded = gradients_of(name, DType::bf16, DType::f32, reference_device);
    const Gradients actual = gradients_of(name, DType::bf16, DType::f32, cpu_device);
    const double unavoidable = relative_error(rounded, exact);
    EXPECT_GT(unavoidable, 1e-3) << "nothing was rounded: is this bf16?";
    EXPECT_LT(unavoidable, 0.5);
    EXPECT_LT(relative_error(actual, exact), 1.3 * unavoidable + 1e-3);
    EXPECT_NEAR(rounded.loss, exact.loss, 0.02 * exact.loss);
    EXPECT_NEAR(actual.loss, exact.loss, 0.02 * exact.loss);
}
INSTANTIATE_TEST_SUITE_P(Models, Bf16Networks, testing::Values("resnet20", "svhn_cnn", "mnist_mlp", "lenet5"),
                         [](const auto& info) { return std::string(info.param); });

struct TrainingRun {
    std::vector<double> losses;
    std::vector<Tensor> weights;
};

/// 60 steps of Adam on digits.
TrainingRun train(DType activations) {
    const auto network = make_model({.name = "svhn_cnn"}, 1);
    const auto optimizer = make_optimizer("adam", network->named_parameters(), 3e-3, 0);
    const DataSplits data = load_dataset({.name = "digits", .train_size = 960, .test_size = 1});
    LoaderOptions options;
    options.batch_size = 64;
    options.shuffle = Shuffle::full;
    options.normalization = normalization_by_name("unit", *data.train);
    options.dtype = activations;
    Loader loader(data.train, options);
    TrainingRun run;
    Tape tape;
    Batch batch;
    for (int epoch = 0; epoch < 4; ++epoch) {
        loader.start(epoch);
        while (loader.next(batch)) {
            tape.reset();
            Context context{tape, true, 1, run.losses.size()};
            const Var loss = ops::cross_entropy((*network)(context, tape.input(batch.images)), batch.labels);
            run.losses.push_back(loss.value().item());
            tape.backward(loss);
            optimizer->step();
        }
    }
    for (const auto& [path, parameter] : network->named_parameters()) run.weights.push_back(parameter->value.clone());
    return run;
}

double mean(const std::vector<double>& values, std::size_t first, std::size_t last) {
    double sum = 0;
    for (std::size_t i = first; i < last; ++i) sum += values[i];
    return sum / static_cast<double>(last - first);
}

class Bf16Training : public testing::Test {
   protected:
    void SetUp() override { set_threads(1); }
    void TearDown() override { set_threads(0); }
};

/// The two runs see the same batches from the same weights. Their first losses differ by rounding alone; later ones
/// also by the paths that rounding sends them on, whose means stay together.
TEST_F(Bf16Training, FollowsTheF32Run) {
    const TrainingRun exact = train(DType::f32), rounded = train(DType::bf16);
    ASSERT_EQ(exact.losses.size(), rounded.losses.size());
    EXPECT_NEAR(rounded.losses[0], exact.losses[0], 0.01 * exact.losses[0]);
    const std::size_t n = exact.losses.size();
    for (std::size_t first = 0; first < n; first += n / 4)
        EXPECT_NEAR(mean(rounded.losses, first, first + n / 4), mean(exact.losses, first, first + n / 4), 0.05)
            << "steps from " << first;
    EXPECT_LT(mean(exact.losses, n - 10, n), 0.75 * exact.losses[0]) << "the run did not learn";
    EXPECT_NE(exact.losses, rounded.losses);
}

TEST_F(Bf16Training, RepeatsToTheBit) {
    const TrainingRun first = train(DType::bf16), second = train(DType::bf16);
    EXPECT_EQ(first.losses, second.losses);
    for (std::size_t i = 0; i < first.weights.size(); ++i)
        EXPECT_EQ(std::memcmp(first.weights[i].raw(), second.weights[i].raw(), first.weights[i].bytes()), 0) << i;
}

}  // namespace
}  // namespace bitloom
