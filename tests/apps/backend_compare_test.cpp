// backend_compare: what it prints, and that it sees a kernel that computes something else.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "apps/common/backend_comparison.h"
#include "cuda/backend.h"
#include "engine/io/atomic_file.h"
#include "engine/random.h"
#include "models/registry.h"
#include "ops/kernels.h"
#include "quant/bsq/scheme.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::run;
using test::TemporaryFolder;
using ::testing::HasSubstr;
using Json = nlohmann::json;

Tensor normal_images(const Shape& shape) {
    Tensor images = Tensor::empty(shape);
    Rng rng(3, "images");
    fill_normal(images, 0, 1, rng);
    return images;
}

Comparison compare_svhn_cnn() {
    ModelOptions model;
    model.name = "svhn_cnn";
    const auto network = make_model(model, 1);
    ComparisonOptions options;
    options.devices = {cpu_device};
    options.repetitions = 1;
    const Tensor before = network->named_parameters().front().second->value.clone();
    Comparison comparison = compare_backends(*network, normal_images({4, 32, 32, 3}), 10, options);
    EXPECT_EQ(network->named_parameters().front().second->value.values<float>(), before.values<float>());
    for (const auto& [path, buffer] : network->named_buffers())
        if (path.ends_with("running_mean")) {
            for (const float value : buffer->values<float>()) EXPECT_EQ(value, 0) << path << ": left as it was";
        }
    return comparison;
}

/// Calls of one kernel, all shapes.
int calls_of(const Comparison& comparison, const std::string& name) {
    int calls = 0;
    for (const ComparedCall& row : comparison.kernels)
        if (row.name == name) calls += row.calls;
    return calls;
}

TEST(BackendCompare, SeesTheKernelsOfBitPlanes) {
    ModelOptions model;
    model.name = "svhn_cnn";
    const auto network = make_model(model, 1);
    bsq::BsqScheme scheme(bsq::scheme_options_from_json(R"({"bits": 5, "activation": "pact", "activation_bits": 4})"));
    scheme.attach(*network);
    ComparisonOptions options;
    options.devices = {cpu_device};
    options.repetitions = 1;
    const Comparison comparison = compare_backends(*network, normal_images({4, 32, 32, 3}), 10, options);
    // Three convolutions and three dense layers, the last with a bias; all activations but the first.
    EXPECT_EQ(calls_of(comparison, "planes_to_weights"), 7);
    EXPECT_EQ(calls_of(comparison, "planes_backward"), 7);
    EXPECT_EQ(calls_of(comparison, "activation_forward"), 4);
    EXPECT_EQ(calls_of(comparison, "activation_backward"), 4);
    for (const ComparedCall& row : comparison.kernels)
        EXPECT_TRUE(row.passed()) << row.name << ' ' << row.detail << ": " << row.figures[0].error;
}

TEST(BackendCompare, SeesEveryKernelAndLayerOfAStep) {
    const auto began = std::chrono::steady_clock::now();
    const Comparison comparison = compare_svhn_cnn();
    const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - began;
    EXPECT_EQ(calls_of(comparison, "conv2d_forward"), 3);
    EXPECT_EQ(calls_of(comparison, "conv2d_backward_weights"), 3);
    EXPECT_EQ(calls_of(comparison, "conv2d_backward_data"), 3) << "the images ask for a gradient";
    EXPECT_EQ(calls_of(comparison, "dense_forward"), 3);
    EXPECT_EQ(calls_of(comparison, "max_pool2d_backward"), 3);
    EXPECT_EQ(calls_of(comparison, "cross_entropy_forward"), 1);
    int convolutions = 0;
    for (const ComparedCall& row : comparison.layers) convolutions += row.detail == "Conv2d";
    EXPECT_EQ(convolutions, 3);
    for (const auto* rows : {&comparison.kernels, &comparison.layers})
        for (const ComparedCall& row : *rows) {
            EXPECT_TRUE(row.passed()) << row.name << ' ' << row.detail << ": " << row.figures[0].error;
            EXPECT_GT(row.figures[0].seconds, 0) << row.name;
            EXPECT_LE(row.figures[0].seconds, whole.count()) << row.name;
        }
    const auto conv = std::find_if(comparison.kernels.begin(), comparison.kernels.end(),
                                   [](const ComparedCall& row) { return row.name == "conv2d_forward"; });
    EXPECT_EQ(conv->accumulation, 27) << "3x3 cells of 3 channels";
    EXPECT_EQ(conv->figures[0].exact, true);
}

void halved_relu(ops::UnaryOp op, double a, double b, const Tensor& x, Tensor& y) {
    ops::cpu_op_kernels().unary_forward(op, a, b, x, y);
    float* values = y.write<float>();
    values[y.numel() / 2] += 1;
}
void shifted_bias(const Tensor& dy, const Tensor& weight, Tensor& dx) {
    ops::cpu_op_kernels().dense_backward_data(dy, weight, dx);
    dx.write<float>()[0] += 1e-3f;
}

TEST(BackendCompare, SeesAKernelThatIsWrong) {
    ops::OpKernels faulty = ops::cpu_op_kernels();
    faulty.unary_forward = halved_relu;
    faulty.dense_backward_data = shifted_bias;
    ops::register_op_kernels(DeviceKind::cpu, faulty);
    const Comparison comparison = compare_svhn_cnn();
    ops::register_op_kernels(DeviceKind::cpu, ops::cpu_op_kernels());
    for (const ComparedCall& row : comparison.kernels) {
        const bool broken = row.name == "unary_forward relu" || row.name == "dense_backward_data";
        EXPECT_EQ(row.passed(), !broken) << row.name << ' ' << row.detail;
        if (broken) {
            EXPECT_EQ(row.figures[0].exact, false) << row.name;
        }
    }
    for (const ComparedCall& row : comparison.layers)
        EXPECT_EQ(row.passed(), row.detail != "ReLU" && row.detail != "Dense") << row.name;
}

TEST(BackendCompare, PrintsItsTablesAndWritesThem) {
    const TemporaryFolder folder;
    const std::string out = folder / "run";
    const auto result =
        run("backend_compare", {"--model=lenet5", "--batch=2", "--repetitions=1", "--threads=1", "--out-dir=" + out});
    EXPECT_EQ(result.status, 0) << result.err;
    EXPECT_THAT(result.out, HasSubstr("kernels"));
    EXPECT_THAT(result.out, HasSubstr("conv2d_backward_weights"));
    EXPECT_THAT(result.out, HasSubstr("layers, forward and backward"));
    EXPECT_THAT(result.out, HasSubstr(" 0 beyond their tolerance"));
    const Json json = Json::parse(read_file(out + "/comparison.json"));
    EXPECT_GT(json["kernels"].size(), 10u);
    EXPECT_TRUE(json["cuda"].contains("ops conv2d_forward"));
    // The schemes' kernels stand beside those of the operations.
    for (const char* name : {"quant quantize", "quant quantize_scaled", "quant batch_norm_quantize_backward",
                             "bsq planes_to_weights", "bsq group_lasso", "bsq activation_backward"})
        EXPECT_EQ(json["cuda"].at(name) == "missing", !cuda::compiled()) << name;
    EXPECT_EQ(run("backend_compare", {"--model=alexnet"}).status, 2);
    EXPECT_EQ(run("backend_compare", {"--weights=" + (folder / "none.h5")}).status, 1);
}

}  // namespace
}  // namespace bitloom
