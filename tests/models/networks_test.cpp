// The networks: parameter counts and names of the specifications, their graphs, descriptions and error messages.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/graph.h"
#include "engine/io/checkpoint.h"
#include "engine/parameter.h"
#include "models/initializers.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/registry.h"
#include "ops/loss.h"
#include "tests/message_of.h"

namespace bitloom {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

ModelOptions named(const std::string& name, const std::string& variant = "") {
    ModelOptions options;
    options.name = name;
    options.variant = variant;
    return options;
}

ParameterCounts counts(const ModelOptions& options) { return count_parameters(*make_model(options)); }

TEST(Networks, HaveTheParametersOfTheSpecifications) {
    EXPECT_EQ(counts(named("svhn_cnn")).trainable, 13892);
    EXPECT_EQ(counts(named("svhn_cnn")).total, 14222);
    // Kernels 432, 2,304, 3,456, 4 x 4 x 24 x 128 and 128 x 10, ten biases; gamma and beta of 3 + 16 + 16 + 24 + 128 channels.
    EXPECT_EQ(counts(named("svhn_cnn_128")).trainable, 56634 + 374);
    EXPECT_EQ(counts(named("svhn_cnn_128")).total, 56634 + 748);
    EXPECT_EQ(counts(named("resnet20", "B")).trainable, 272474);
    EXPECT_EQ(counts(named("resnet20", "A")).trainable, 269722);
    EXPECT_EQ(counts(named("mnist_mlp")).total, 549010);
    EXPECT_EQ(counts(named("mnist_mlp")).trainable, 549010 - 1600);
    EXPECT_EQ(counts(named("gpfq_cnn")).total, 552874);
    EXPECT_EQ(counts(named("gpfq_cnn")).trainable, 552874 - 1152);
    EXPECT_EQ(counts(named("lenet5")).total, 61706);
    // He et al. (2016), table 6: 0.46M, 0.66M, 0.85M and 1.7M for 32, 44, 56 and 110 layers with option A.
    EXPECT_EQ(counts(named("resnet32", "A")).trainable, 464154);
    EXPECT_EQ(counts(named("resnet110", "A")).trainable, 1727962);
    // 464 of the stem, 4,672 + 14,528 + 57,728 of one block a stage, 650 of the last layer.
    EXPECT_EQ(counts(named("resnet8", "B")).trainable, 78042);
}

// bsq.md, 2.1: depths are 6n + 2.
TEST(Networks, ResNetsOfAnyDepthHaveNames) {
    for (const char* name : {"resnet8", "resnet14", "resnet20", "resnet50", "resnet1202"}) EXPECT_TRUE(is_model_name(name)) << name;
    for (const char* name : {"resnet", "resnet2", "resnet21", "resnet020", "resnet1208", "resnet-4"}) {
        EXPECT_FALSE(is_model_name(name)) << name;
        EXPECT_THROW(resolve(named(name)), UsageError) << name;
    }
    EXPECT_EQ(describe(model_options_from_json(describe(named("resnet14")))), describe(named("resnet14")));
}

std::vector<std::string> layer_names(const std::string& model) {
    const auto network = make_model(named(model));
    std::vector<std::string> names;
    for (const auto& [name, child] : network->children()) names.push_back(name);
    return names;
}

TEST(Networks, NameTheirLayersAsTheFilesDo) {
    EXPECT_THAT(
        layer_names("svhn_cnn"),
        ElementsAre("batch_normalization", "conv_0", "max_pooling2d", "batch_normalization_1", "conv_act_0", "conv_1",
                    "max_pooling2d_1", "batch_normalization_2", "conv_act_1", "conv_2", "max_pooling2d_2",
                    "batch_normalization_3", "conv_act_2", "flatten", "dense_0", "batch_normalization_4", "dense_act_0",
                    "dense_1", "batch_normalization_5", "dense_act_1", "output_dense"));
    const auto b = make_model(named("resnet20", "B"));
    EXPECT_EQ(b->at("layer2.0.downsample.0").type(), "Conv2d");
    EXPECT_EQ(b->at("layer2.0.downsample.1").type(), "BatchNorm");
    EXPECT_EQ(b->at("layer3.2.relu2").type(), "ReLU");
    EXPECT_EQ(b->at("fc").type(), "Dense");
    EXPECT_THROW(b->at("layer2.1.downsample"), Error);
    const auto a = make_model(named("resnet20", "A"));
    EXPECT_EQ(a->at("layer2.0.shortcut").type(), "OptionAShortcut");
    EXPECT_EQ(a->at("linear").path(), "linear");
}

TEST(Networks, SvhnCnnHasTheShapesOfItsTable) {
    const auto network = make_model(named("svhn_cnn"));
    const Graph graph = Graph::trace(*network, {2, 32, 32, 3});
    const std::vector<std::pair<const char*, Shape>> table = {{"batch_normalization", {2, 32, 32, 3}},
                                                              {"conv_0", {2, 30, 30, 16}},
                                                              {"max_pooling2d", {2, 15, 15, 16}},
                                                              {"conv_1", {2, 13, 13, 16}},
                                                              {"max_pooling2d_1", {2, 6, 6, 16}},
                                                              {"conv_2", {2, 4, 4, 24}},
                                                              {"max_pooling2d_2", {2, 2, 2, 24}},
                                                              {"flatten", {2, 96}},
                                                              {"dense_0", {2, 42}},
                                                              {"dense_act_1", {2, 64}},
                                                              {"output_dense", {2, 10}}};
    for (const auto& [path, shape] : table) EXPECT_EQ(graph.at(path).output_shape, shape) << path;
    EXPECT_EQ(graph.calls().size(), 21u);
    for (const GraphCall& call : graph.calls())
        EXPECT_THAT(call.inputs, ElementsAre(call.index - 1)) << "a plain chain";
}

TEST(Networks, GraphShowsBothBranchesOfABlock) {
    for (const char* variant : {"A", "B"}) {
        const auto network = make_model(named("resnet20", variant));
        const Graph graph = Graph::trace(*network, {1, 16, 16, 3});
        const auto producers = [&](const std::string& path) {
            std::vector<std::string> names;
            for (const int i : graph.at(path).inputs)
                names.push_back(i < 0 ? "input" : graph.calls()[static_cast<std::size_t>(i)].path);
            return names;
        };
        const bool a = variant == std::string("A");
        EXPECT_THAT(producers("conv1"), ElementsAre("input"));
        EXPECT_THAT(producers("layer1.0.add"), ElementsAre("layer1.0.bn2", "relu"));
        EXPECT_THAT(producers("layer2.0.conv1"), ElementsAre("layer1.2.relu2"));
        EXPECT_THAT(producers("layer2.0.add"),
                    ElementsAre("layer2.0.bn2", a ? "layer2.0.shortcut" : "layer2.0.downsample.1"));
        EXPECT_THAT(producers(a ? "layer2.0.shortcut" : "layer2.0.downsample.0"), ElementsAre("layer1.2.relu2"));
        EXPECT_THAT(producers("layer2.1.conv1"), ElementsAre("layer2.0.relu2"));
        EXPECT_EQ(graph.consumers(graph.at("layer1.2.relu2").index).size(), 2u);
        EXPECT_EQ(graph.at("layer2.0.add").output_shape, (Shape{1, 8, 8, 32}));
        EXPECT_EQ(graph.at("layer3.2.relu2").output_shape, (Shape{1, 4, 4, 64}));
        EXPECT_EQ(graph.at("avgpool").output_shape, (Shape{1, 64}));
        EXPECT_EQ(graph.at(a ? "linear" : "fc").output_shape, (Shape{1, 10}));
    }
}

TEST(Networks, TracingLeavesMovingAveragesAlone) {
    const auto network = make_model(named("svhn_cnn"));
    auto& bn = dynamic_cast<layers::BatchNorm&>(network->at("batch_normalization_1"));
    const auto versions = [&] {
        return std::vector<std::uint64_t>{bn.running_mean.version(), bn.running_var.version(),
                                          bn.num_batches_tracked.version()};
    };
    const auto before = versions();
    Graph::trace(*network, {2, 32, 32, 3});
    EXPECT_EQ(versions(), before);
}

TEST(Networks, EveryOneRunsAndEveryParameterGetsAGradient) {
    for (const std::string& name : model_names()) {
        if (name == "resnet44" || name == "resnet56" || name == "resnet110") continue;  // the same code as 20 and 32
        SCOPED_TRACE(name);
        ModelOptions options = named(name);
        options.classes = 7;
        if (name.starts_with("resnet")) options.input = {8, 8, 3};
        if (name == "gpfq_cnn") options.input = {8, 9, 3};
        options = resolve(options);
        const auto network = make_model(options);
        network->to(reference_device);
        Tape tape;
        Context context{tape};
        context.training = true;
        Tensor x =
            Tensor::empty({3, options.input[0], options.input[1], options.input[2]}, DType::f32, reference_device);
        Rng rng(2, "networks test");
        fill_uniform(x, -1, 1, rng);
        const Var logits = (*network)(context, tape.input(x));
        ASSERT_EQ(logits.shape(), (Shape{3, 7}));
        const Tensor labels = Tensor::from<std::int32_t>({3}, std::vector<std::int32_t>{0, 3, 6}, reference_device);
        tape.backward(ops::cross_entropy(logits, labels));
        for (const auto& [path, parameter] : network->named_parameters()) {
            ASSERT_TRUE(parameter->grad.defined()) << path;
            EXPECT_EQ(parameter->grad.shape(), parameter->value.shape()) << path;
        }
    }
}

TEST(Networks, SeedDecidesInitialValues) {
    const auto weights = [](std::uint64_t seed) {
        std::vector<float> all;
        const auto network = make_model(named("lenet5"), seed);
        for (const auto& [path, parameter] : network->named_parameters()) {
            const std::vector<float> values = parameter->value.values<float>();
            all.insert(all.end(), values.begin(), values.end());
        }
        return all;
    };
    EXPECT_EQ(weights(1), weights(1));
    EXPECT_NE(weights(1), weights(2));
}

TEST(Networks, DescriptionRebuildsTheModel) {
    ModelOptions options = named("svhn_cnn");
    options.input = {28, 28, 1};
    options.filters = {4, 6};
    options.kernels = {5, 3};
    options.strides = {2, 1};
    options.pooling = {1, 0};
    options.dense_units = {9};
    options.activation = "tanh";
    options.classes = 3;
    const std::string json = describe(options);
    const auto network = make_model_from_json(json, 4);
    EXPECT_EQ(describe(model_options_from_json(json)), json);
    EXPECT_EQ(count_parameters(*network).total, counts(options).total);
    const Graph graph = Graph::trace(*network, {1, 28, 28, 1});
    EXPECT_EQ(graph.at("average_pooling2d").output_shape, (Shape{1, 12, 12, 4}));
    EXPECT_EQ(graph.at("conv_act_1").type, "Tanh");
    EXPECT_EQ(graph.at("conv_1").output_shape, (Shape{1, 10, 10, 6}));
    EXPECT_EQ(graph.at("output_dense").output_shape, (Shape{1, 3}));
    for (const std::string& name : model_names())
        EXPECT_EQ(describe(model_options_from_json(describe(named(name)))), describe(named(name)));
}

// svhn-qkeras.md, 4.2: zero padding of 1, dropout of 0.25, a dense layer of 128, an output named "output".
TEST(Networks, TheSourcesOtherBuildersPadDropAndHaveOneDenseLayer) {
    EXPECT_THAT(layer_names("svhn_cnn_128"),
                ElementsAre("batch_normalization", "zero_padding2d", "conv_0", "max_pooling2d", "batch_normalization_1",
                            "conv_act_0", "dropout", "zero_padding2d_1", "conv_1", "max_pooling2d_1", "batch_normalization_2",
                            "conv_act_1", "dropout_1", "zero_padding2d_2", "conv_2", "max_pooling2d_2",
                            "batch_normalization_3", "conv_act_2", "dropout_2", "flatten", "dense_0",
                            "batch_normalization_4", "dense_act_0", "output"));
    ModelOptions options = named("svhn_cnn_128");
    options.pooling = {2, 1, 0};  // 1 pools too, by the maximum
    options.dropout = {0.25, 0, 0.5};
    const auto network = make_model(options);
    const Graph graph = Graph::trace(*network, {2, 32, 32, 3});
    EXPECT_EQ(graph.at("conv_0").output_shape, (Shape{2, 32, 32, 16}));
    EXPECT_EQ(graph.at("max_pooling2d_1").output_shape, (Shape{2, 8, 8, 16}));
    EXPECT_EQ(graph.at("conv_act_2").output_shape, (Shape{2, 8, 8, 24}));
    EXPECT_EQ(graph.at("dense_0").output_shape, (Shape{2, 128}));
    EXPECT_EQ(graph.at("output").output_shape, (Shape{2, 10}));
    EXPECT_DOUBLE_EQ(dynamic_cast<layers::Dropout&>(network->at("dropout_1")).rate(), 0.5);
    EXPECT_EQ(describe(model_options_from_json(describe(options))), describe(options));
    options.dense_units = {64};
    EXPECT_THAT(message_of([&] { make_model(options); }), HasSubstr("dense_units"));
    options = named("svhn_cnn_128");
    options.dropout = {0.25};
    EXPECT_THAT(message_of([&] { make_model(options); }), HasSubstr("one rate a convolution"));
    options.dropout = {0.25, 1, 0};
    EXPECT_THAT(message_of([&] { make_model(options); }), HasSubstr("below 1"));
}

TEST(Networks, RefuseWhatTheyCannotBuild) {
    EXPECT_THROW(make_model(named("resnet21")), UsageError);
    EXPECT_THAT(message_of([] { make_model(named("resnet21")); }), HasSubstr("resnet20"));
    EXPECT_THROW(make_model(named("resnet20", "C")), UsageError);
    EXPECT_THROW(make_model(named("lenet5", "A")), UsageError);
    ModelOptions options = named("svhn_cnn");
    options.kernels = {3, 3};
    EXPECT_THAT(message_of([&] { make_model(options); }), HasSubstr("one value a convolution"));
    options = named("svhn_cnn");
    options.input = {16, 16, 3};
    EXPECT_THAT(message_of([&] { make_model(options); }), HasSubstr("conv_2"));
    options = named("svhn_cnn");
    options.moving_variance = "sometimes";
    EXPECT_THROW(make_model(options), UsageError);
    options = named("gpfq_cnn");
    options.input = {4, 4, 3};
    EXPECT_THROW(make_model(options), UsageError);
    EXPECT_THAT(message_of([] { make_model_from_json("{"); }), HasSubstr("model description"));
    EXPECT_THAT(message_of([] { make_model_from_json(R"({"name": "lenet5"})"); }), HasSubstr("model description"));
    for (const char* classes :
         {"1e24", "1.5", "true", "18446744073709551615"})  // found by the fuzzer: undefined before
        EXPECT_THAT(
            message_of([&] {
                make_model_from_json(cat(R"({"name": "lenet5", "input": [28, 28, 1], "classes": )", classes, "}"));
            }),
            HasSubstr("needs an integer"));
    EXPECT_THAT(message_of([] { make_model_from_json("{\n"); }), testing::Not(HasSubstr("\n")));
    EXPECT_THAT(message_of([] {
                    make_model_from_json(R"({"name": "lenet5", "input": [28, 28, 1], "classes": 10, "depth": 3})");
                }),
                HasSubstr("model description"));
}

}  // namespace
}  // namespace bitloom
