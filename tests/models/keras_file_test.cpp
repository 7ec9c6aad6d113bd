// Keras' own HDF5 files: names in attributes, layers by their order, wrappers, and the real trained networks.

#include "models/keras_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "engine/data/loader.h"
#include "engine/data/readers.h"
#include "engine/train/evaluator.h"
#include "models/import.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/registry.h"
#include "tests/engine/io/temporary_folder.h"
#include "tests/models/keras_writer.h"
#include "tests/models/real_data.h"

namespace bitloom {
namespace {

namespace fs = std::filesystem;
using namespace layers;
using testing::ElementsAre;
using testing::HasSubstr;
using test::counting;
using test::KerasWriter;
using test::norm_weights;

class KerasFiles : public testing::Test {
   protected:
    KerasFiles() {
        network.append<Conv2d>("first", Conv2dConfig{.in = 2, .out = 3, .kernel = {1, 2}});
        network.append<BatchNorm>("norm", keras_batch_norm(3));
        network.append<Dense>("last", DenseConfig{.in = 6, .out = 2, .flattened_from = {1, 2, 3}});
        network.assign_paths();
    }

    /// The file of the network above, under the names that a second model of a process gets.
    void write_usual(const std::string& root, const std::string& model_config = "", bool split = false) const {
        KerasWriter writer(path, root);
        writer.layer("input_2", {});
        writer.layer("conv2d_4", {{"kernel:0", counting({1, 2, 2, 3})}, {"bias:0", counting({3}, 101)}});
        writer.layer("batch_normalization_9", norm_weights(3));
        writer.layer("dense_4", {{"kernel:0", counting({6, 2})}, {"bias:0", counting({2}, 201)}});
        writer.close(model_config, split);
    }
    void expect_usual() {
        EXPECT_THAT(values("first.weight"), ElementsAre(1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12));
        EXPECT_THAT(values("first.bias"), ElementsAre(101, 102, 103));
        EXPECT_THAT(values("norm.weight"), ElementsAre(1, 2, 3));
        EXPECT_THAT(values("norm.bias"), ElementsAre(11, 12, 13));
        EXPECT_EQ(dynamic_cast<BatchNorm&>(network.at("norm")).running_mean.values<float>()[0], 21);
        EXPECT_EQ(dynamic_cast<BatchNorm&>(network.at("norm")).running_var.values<float>()[2], 33);
        EXPECT_THAT(values("last.weight"), ElementsAre(1, 3, 5, 7, 9, 11, 2, 4, 6, 8, 10, 12));
        EXPECT_THAT(values("last.bias"), ElementsAre(201, 202));
    }
    std::vector<float> values(const std::string& parameter) {
        for (const auto& [name, p] : network.named_parameters())
            if (name == parameter) return p->value.values<float>();
        return {};
    }
    std::string refusal() {
        return message_of([&] { load_weights(network, path); });
    }

    Sequential network;
    const TemporaryFolder folder;
    std::string path = folder.file("weights.h5");
};

TEST_F(KerasFiles, OfWholeModelsAndOfWeightsLoadByOrder) {
    write_usual("model_weights");
    EXPECT_EQ(load_weights(network, path).format, WeightFormat::keras_model);
    expect_usual();
    for (const auto& [name, parameter] : network.named_parameters()) parameter->value.fill(0);
    write_usual("");
    load_weights(network, path);
    expect_usual();
}

TEST_F(KerasFiles, LongListsOfNamesComeInParts) {
    write_usual("model_weights", "", true);
    load_weights(network, path);
    expect_usual();
}

TEST_F(KerasFiles, TheOptimizersWeightsAreNoneOfTheNetwork) {
    KerasWriter writer(path, "model_weights");
    writer.layer("a", {{"kernel:0", counting({1, 2, 2, 3})}, {"bias:0", counting({3})}});
    writer.layer("b", norm_weights(3));
    writer.layer("c", {{"kernel:0", counting({6, 2})}, {"bias:0", counting({2})}});
    writer.file().write("optimizer_weights/Adam/a/kernel/m:0", counting({1, 2, 2, 3}));
    writer.close();
    const WeightFile info = load_weights(network, path);
    EXPECT_THAT(info.ignored, ElementsAre("optimizer_weights/Adam/a/kernel/m:0"));
}

TEST_F(KerasFiles, PruningWrappersComeOffAndTheirMasksCount) {
    KerasWriter writer(path, "model_weights");
    Tensor mask = counting({1, 2, 2, 3});
    for (std::int64_t i = 0; i < 12; ++i) mask.write<float>()[i] = static_cast<float>(i % 2);
    writer.layer("prune_low_magnitude_conv_0", {{"kernel:0", counting({1, 2, 2, 3})},
                                                {"bias:0", counting({3})},
                                                {"mask:0", mask},
                                                {"threshold:0", Tensor::from<float>(Shape{}, std::vector<float>{0.5F})},
                                                {"pruning_step:0", Tensor::from<float>(Shape{}, std::vector<float>{7})}});
    writer.layer("norm", norm_weights(3));
    writer.layer("dense", {{"kernel:0", counting({6, 2})}, {"bias:0", counting({2})}});
    writer.close(R"({"class_name": "Functional", "config": {"name": "m", "layers": [
        {"class_name": "PruneLowMagnitude", "config": {"name": "prune_low_magnitude_conv_0",
            "layer": {"class_name": "Conv2D", "config": {"name": "conv_0", "filters": 3}}}}]}})");
    const WeightFile info = load_weights(network, path);
    EXPECT_THAT(values("first.weight"), ElementsAre(0, 4, 0, 10, 2, 0, 8, 0, 0, 6, 0, 12));
    ASSERT_EQ(info.keras_layers.size(), 3u);
    EXPECT_EQ(info.keras_layers[0].name, "conv_0");
    EXPECT_EQ(info.keras_layers[0].class_name, "Conv2D");
    EXPECT_THAT(info.keras_layers[0].config, HasSubstr("\"filters\":3"));
    EXPECT_EQ(info.layer_paths.at("conv_0"), "first");
}

TEST_F(KerasFiles, OneLayerOfTheFileMayBeTwoOfTheNetwork) {
    Sequential separable;
    separable.append<DepthwiseConv2d>("depth", Conv2dConfig{.in = 2, .kernel = {2, 1}, .bias = false});
    separable.append<Conv2d>("point", Conv2dConfig{.in = 2, .out = 3, .kernel = 1});
    separable.append<Conv2d>("folded", Conv2dConfig{.in = 3, .out = 1, .kernel = 1, .bias = false});
    separable.append<BatchNorm>("norm", keras_batch_norm(1));
    separable.assign_paths();
    KerasWriter writer(path, "");
    writer.layer("separable_conv2d", {{"depthwise_kernel:0", counting({2, 1, 2, 1})},
                                      {"pointwise_kernel:0", counting({1, 1, 2, 3})},
                                      {"bias:0", counting({3}, 51)}});
    auto folded = norm_weights(1);
    folded.insert(folded.begin(), {"kernel:0", counting({1, 1, 3, 1}, 61)});
    folded.push_back({"iteration:0", Tensor::from<float>(Shape{}, std::vector<float>{-1})});
    writer.layer("q_conv2d_batchnorm", folded);
    writer.close();
    load_weights(separable, path);
    const auto parameters = separable.named_parameters();
    EXPECT_THAT(parameters[0].second->value.values<float>(), ElementsAre(1, 3, 2, 4));
    EXPECT_THAT(parameters[1].second->value.values<float>(), ElementsAre(1, 4, 2, 5, 3, 6));
    EXPECT_THAT(parameters[2].second->value.values<float>(), ElementsAre(51, 52, 53));
    EXPECT_THAT(parameters[3].second->value.values<float>(), ElementsAre(61, 62, 63));
    EXPECT_THAT(parameters[5].second->value.values<float>(), ElementsAre(11));
}

TEST_F(KerasFiles, TransposedConvolutionsHaveInputsLast) {
    Sequential up;
    up.append<ConvTranspose2d>("up", ConvTranspose2dConfig{.in = 2, .out = 3, .kernel = 1});
    up.assign_paths();
    KerasWriter writer(path, "");
    writer.layer("conv2d_transpose", {{"kernel:0", counting({1, 1, 3, 2})}, {"bias:0", counting({3}, 51)}});
    writer.close();
    load_weights(up, path);
    const auto parameters = up.named_parameters();
    EXPECT_THAT(parameters[0].second->value.values<float>(), ElementsAre(1, 3, 5, 2, 4, 6));  // [out, in] -> [in, out]
    EXPECT_THAT(parameters[1].second->value.values<float>(), ElementsAre(51, 52, 53));
}

TEST_F(KerasFiles, NamesWhereFileAndNetworkPart) {
    KerasWriter shorter(path, "");
    shorter.layer("conv", {{"kernel:0", counting({1, 2, 2, 3})}, {"bias:0", counting({3})}});
    shorter.close();
    EXPECT_THAT(refusal(), HasSubstr("has 1 layers with weights, the network more: nothing is left for 'norm'"));

    KerasWriter other(path, "");
    other.layer("conv", {{"kernel:0", counting({1, 2, 2, 3})}, {"bias:0", counting({3})}});
    other.layer("dense", {{"kernel:0", counting({6, 2})}, {"bias:0", counting({2})}});
    other.close();
    EXPECT_THAT(refusal(), HasSubstr("layer 'dense' (bias, kernel) does not fit the network's 'norm', which needs gamma"));

    KerasWriter longer(path, "");
    longer.layer("conv", {{"kernel:0", counting({1, 2, 2, 3})}, {"bias:0", counting({3})}});
    longer.layer("norm", norm_weights(3));
    longer.layer("dense", {{"kernel:0", counting({6, 2})}, {"bias:0", counting({2})}});
    longer.layer("more", {{"kernel:0", counting({2, 2})}});
    longer.close();
    EXPECT_THAT(refusal(), HasSubstr("layer 'more' (kernel) belongs to no layer of the network"));

    KerasWriter shape(path, "");
    shape.layer("conv", {{"kernel:0", counting({2, 1, 2, 3})}, {"bias:0", counting({3})}});
    shape.layer("norm", norm_weights(3));
    shape.layer("dense", {{"kernel:0", counting({6, 2})}, {"bias:0", counting({2})}});
    shape.close();
    EXPECT_THAT(refusal(), HasSubstr("'conv/conv/kernel:0' has shape [2, 1, 2, 3], the network needs [1, 2, 2, 3]"));
}

TEST_F(KerasFiles, DamagedOnesAreRefusedInWords) {
    {
        hdf5::File file = hdf5::File::create(path);
        file.write("conv/kernel:0", counting({1}));
        file.write_attribute("conv", "weight_names", std::vector<std::string>{"conv/kernel:0"});
        file.write_attribute("", "layer_names", std::vector<std::string>{"conv", "gone"});
        file.close();
    }
    EXPECT_THAT(refusal(), HasSubstr("no dataset 'conv/conv/kernel:0', which 'weight_names' lists"));
    {
        hdf5::File file = hdf5::File::create(path);
        file.write("x", counting({1}));
        file.write_attribute("", "layer_names", std::vector<std::string>{"gone"});
        file.close();
    }
    EXPECT_THAT(refusal(), HasSubstr("no group 'gone', which 'layer_names' lists"));
    {
        hdf5::File file = hdf5::File::create(path);
        file.write("x", counting({1}));
        file.write_attribute("", "layer_names", std::vector<double>{1, 2});
        file.close();
    }
    EXPECT_THAT(refusal(), HasSubstr("holds numbers, not names"));
    write_usual("model_weights", "{\"config\": ");
    EXPECT_THAT(refusal(), HasSubstr("'model_config' is no description of a Keras model"));
}

TEST_F(KerasFiles, TellTheShapeOfAnSvhnNetwork) {
    ModelOptions options{.name = "svhn_cnn", .input = {14, 14, 1}, .classes = 5};
    options.filters = {4, 6};
    options.kernels = {3, 2};
    options.strides = {1, 2};
    options.pooling = {2, 0};
    options.dense_units = {7};
    const auto original = make_model(options, 5);
    {
        KerasWriter writer(path, "model_weights");
        const auto kernel = [&](const std::string& layer, const Shape& keras) {
            // Values do not matter here, only that every layer gets its own.
            writer.layer(layer, {{"kernel:0", counting(keras)}});
        };
        writer.layer("bn", norm_weights(1));
        kernel("conv_0", {3, 3, 1, 4});
        writer.layer("bn_1", norm_weights(4));
        kernel("conv_1", {2, 2, 4, 6});
        writer.layer("bn_2", norm_weights(6));
        kernel("dense_0", {6 * 3 * 3, 7});
        writer.layer("bn_3", norm_weights(7));
        writer.layer("output_dense", {{"kernel:0", counting({7, 5})}, {"bias:0", counting({5})}});
        writer.layer("in", {});
        writer.layer("pool", {});
        writer.close(R"({"class_name": "Functional", "config": {"layers": [
            {"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [null, 14, 14, 1]}},
            {"class_name": "BatchNormalization", "config": {"name": "bn"}},
            {"class_name": "Conv2D", "config": {"name": "conv_0", "strides": [1, 1]}},
            {"class_name": "Conv2D", "config": {"name": "conv_1", "strides": [2, 2]}}]}})");
    }
    // The file lists its pooling nowhere near conv_0 here: it is left to the options.
    ModelOptions asked{.name = "svhn_cnn"};
    asked.pooling = {2, 0};
    const LoadedModel loaded = load_model(asked, path);
    EXPECT_EQ(loaded.options.input, (Shape{14, 14, 1}));
    EXPECT_EQ(loaded.options.classes, 5);
    EXPECT_THAT(loaded.options.filters, ElementsAre(4, 6));
    EXPECT_THAT(loaded.options.kernels, ElementsAre(3, 2));
    EXPECT_THAT(loaded.options.strides, ElementsAre(1, 2));
    EXPECT_THAT(loaded.options.dense_units, ElementsAre(7));
    EXPECT_EQ(describe(loaded.options), describe(options));
}

/// fxp-search.md, 4.1: convolution, ReLU, batch norm four times, pooling after the second and fourth, global maximum.
std::unique_ptr<Sequential> small_sequential() {
    auto network = std::make_unique<Sequential>();
    const std::int64_t widths[] = {1, 32, 32, 64, 64};
    for (int i = 1; i <= 4; ++i) {
        network->append<Conv2d>(cat("conv2d_", i), Conv2dConfig{.in = widths[i - 1], .out = widths[i], .kernel = 3,
                                                               .padding = i == 3 ? PaddingRule::same() : PaddingRule::valid()});
        network->append<ReLU>(cat("relu_", i));
        network->append<BatchNorm>(cat("norm_", i), keras_batch_norm(widths[i]));
        if (i % 2 == 0) network->append<MaxPool2d>(cat("pool_", i / 2));
    }
    network->append<GlobalMaxPool2d>("global");
    network->append<Dense>("dense_1", DenseConfig{.in = 64, .out = 10});
    network->assign_paths();
    return network;
}

TEST(RealKerasFiles, ReachTheirAccuracyOnTheMnistTestSet) {
    const fs::path models = fs::path(test::models_folder()) / "fxp";
    if (!fs::exists(models / "mnist_keras.h5")) GTEST_SKIP() << "no trained networks in " << models;
    const fs::path data = fs::path(test::data_folder()) / "mnist";
    if (!fs::exists(data)) GTEST_SKIP() << "no MNIST in " << data;
    LoaderOptions options;
    options.batch_size = 500;
    Loader loader(read_mnist("mnist", data.string(), "mnist").test, options);
    for (const char* name : {"mnist_keras.h5", "mnist_keras_w.h5"}) {
        const auto network = small_sequential();
        load_weights(*network, (models / name).string());
        const ClassificationMetrics metrics = evaluate(*network, loader);
        EXPECT_NEAR(static_cast<double>(metrics.correct()), 9911, 1) << name;  // fxp-search.md, 7.1: exact or one image off
    }
}

}  // namespace
}  // namespace bitloom
