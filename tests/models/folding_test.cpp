// Folded batch norms and inference plans against the network as it was.

#include "models/folding.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "engine/data/loader.h"
#include "engine/data/readers.h"
#include "engine/random.h"
#include "engine/threads.h"
#include "engine/train/evaluator.h"
#include "models/import.h"
#include "models/inference_plan.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/registry.h"
#include "ops/pointwise.h"
#include "tests/models/real_data.h"

namespace bitloom {
namespace {

using namespace layers;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;

/// Batch norms as after a training: other than the identity. With `negative`, every third gamma is.
void draw_statistics(Module& network, bool negative = true) {
    Rng rng(3, "folding_test");
    for (Module* module : network.modules()) {
        auto* bn = dynamic_cast<BatchNorm*>(module);
        if (!bn) continue;
        fill_uniform(bn->weight.value, 0.5, 1.5, rng);
        fill_uniform(bn->bias.value, -0.5, 0.5, rng);
        fill_uniform(bn->running_mean, -0.5, 0.5, rng);
        fill_uniform(bn->running_var, 0.5, 2, rng);
        if (!negative) continue;
        float* gamma = bn->weight.value.write<float>();
        for (std::int64_t c = 0; c < bn->weight.value.numel(); c += 3) gamma[c] = -gamma[c];
    }
}

Tensor images(const Shape& shape) {
    Tensor x = Tensor::empty(shape);
    Rng rng(4, "folding_test");
    fill_uniform(x, -1, 1, rng);
    return x;
}

Tensor outputs(Module& network, const Tensor& x) {
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return network(context, tape.constant(x)).value().clone();
}

/// The largest difference, relative to the largest value.
double difference(const Tensor& a, const Tensor& b) {
    EXPECT_EQ(a.shape(), b.shape());
    const auto va = a.values<double>(), vb = b.values<double>();
    double largest = 0, apart = 0;
    for (std::size_t i = 0; i < va.size(); ++i) {
        largest = std::max(largest, std::abs(vb[i]));
        apart = std::max(apart, std::abs(va[i] - vb[i]));
    }
    EXPECT_GT(largest, 0);
    return apart / largest;
}

struct NetworkCase {
    const char* name;
    const char* variant;
    int folded;  ///< expected
    int kept;
    int steps;  ///< of the folded network's plan
    bool negative = true;
};

void PrintTo(const NetworkCase& c, std::ostream* out) { *out << c.name << ' ' << c.variant; }

class FoldedNetworks : public testing::TestWithParam<NetworkCase> {};

TEST_P(FoldedNetworks, GiveTheSameLogits) {
    const NetworkCase& c = GetParam();
    ModelOptions options;
    options.name = c.name;
    options.variant = c.variant;
    options = resolve(options);
    const auto network = make_model(options, 7);
    draw_statistics(*network, c.negative);
    for (const std::int64_t batch : {1, 5}) {
        const Tensor x = images({batch, options.input[0], options.input[1], options.input[2]});
        const Tensor expected = outputs(*network, x);
        InferencePlan plan(*network, x.shape());
        EXPECT_LE(difference(plan.run(x), expected), 1e-5) << "the plan of the network as it is";
    }
    const Tensor x = images({3, options.input[0], options.input[1], options.input[2]});
    const Tensor expected = outputs(*network, x);
    const FoldingReport report = fold_batch_norm(*network, x.shape());
    EXPECT_EQ(static_cast<int>(report.folded.size()), c.folded);
    EXPECT_EQ(static_cast<int>(report.kept.size()), c.kept);
    EXPECT_LE(difference(outputs(*network, x), expected), 1e-5) << "the modules";
    InferencePlan plan(*network, x.shape());
    EXPECT_EQ(static_cast<int>(plan.steps().size()), c.steps) << testing::PrintToString(plan.steps());
    EXPECT_LE(difference(plan.run(x), expected), 1e-5) << "the plan";
    const Tensor first = plan.run(x).clone();
    EXPECT_EQ(difference(plan.run(x), first), 0) << "buffers carry nothing from run to run";
    EXPECT_TRUE(fold_batch_norm(*network, x.shape()).folded.empty()) << "nothing is folded twice";
}

INSTANTIATE_TEST_SUITE_P(
    All, FoldedNetworks,
    testing::Values(NetworkCase{"resnet20", "A", 19, 0, 23},  // 19 convolutions, 2 shortcuts, pooling, linear
                    NetworkCase{"resnet20", "B", 21, 0, 23}, NetworkCase{"svhn_cnn", "", 2, 4, 14},
                    NetworkCase{"svhn_cnn", "", 5, 1, 14, false}, NetworkCase{"gpfq_cnn", "", 0, 7, 19},
                    NetworkCase{"mnist_mlp", "", 0, 2, 6}),
    [](const auto& info) { return cat(info.param.name, info.param.variant, info.param.negative ? "" : "_positive"); });

TEST(Folding, SaysWhyABatchNormIsKept) {
    ModelOptions options;
    options.name = "svhn_cnn";
    const auto network = make_model(options, 7);
    draw_statistics(*network);
    const FoldingReport report = fold_batch_norm(*network, {1, 32, 32, 3});
    EXPECT_THAT(report.folded, ElementsAre("batch_normalization_4", "batch_normalization_5"));
    ASSERT_EQ(report.kept.size(), 4u);
    EXPECT_EQ(report.kept[0].reason, "it is on the network's input");
    EXPECT_EQ(report.kept[1].path, "batch_normalization_1");
    EXPECT_EQ(report.kept[1].reason, "a max pooling is in between and some gamma is not positive");
}

TEST(Folding, LeavesHookedLayersAlone) {
    struct Twice final : ActivationTransform {
        std::string_view name() const override { return "twice"; }
        Var apply(Context&, Module&, const Var& x) override { return ops::add(x, x); }
    };
    Sequential network;
    auto& first = network.append<Conv2d>("first", Conv2dConfig{.in = 3, .out = 4});
    network.append<BatchNorm>("first_bn", pytorch_batch_norm(4));
    network.append<Conv2d>("second", Conv2dConfig{.in = 4, .out = 4});
    network.append<BatchNorm>("second_bn", pytorch_batch_norm(4));
    auto& relu = network.append<ReLU>("relu");
    network.assign_paths();
    for (Module* m : network.modules())
        if (auto* layer = dynamic_cast<Layer*>(m)) layer->initialize(1);
    draw_statistics(network);
    first.output_transform = std::make_shared<Twice>();
    relu.output_transform = std::make_shared<Twice>();
    const Tensor x = images({2, 8, 8, 3});
    const Tensor expected = outputs(network, x);
    const FoldingReport report = fold_batch_norm(network, x.shape());
    EXPECT_THAT(report.folded, ElementsAre("second_bn"));
    ASSERT_EQ(report.kept.size(), 1u);
    EXPECT_EQ(report.kept[0].reason, "first has hooks or transforms");
    EXPECT_LE(difference(outputs(network, x), expected), 1e-5);
    InferencePlan plan(network, x.shape());
    EXPECT_THAT(plan.steps(), ElementsAre("first", "first_bn", "second", "relu")) << "a hooked ReLU is not absorbed";
    EXPECT_LE(difference(plan.run(x), expected), 1e-5);
}

/// conv and a batch norm that a second reader sees the input of.
class Fork final : public Module {
   public:
    Fork()
        : conv_(add<Conv2d>("conv", Conv2dConfig{.in = 2, .out = 2, .kernel = 1})),
          bn_(add<BatchNorm>("bn", pytorch_batch_norm(2))),
          add_(add<Add>("add")) {
        assign_paths();
        conv_.initialize(1);
    }
    std::string_view type() const override { return "Fork"; }

   protected:
    Var forward(Context& context, std::span<const Var> inputs) override {
        const Var y = conv_(context, inputs[0]);
        return add_(context, {bn_(context, y), y});
    }

   private:
    Conv2d& conv_;
    BatchNorm& bn_;
    Add& add_;
};

TEST(Folding, KeepsABatchNormWhoseInputIsReadElsewhere) {
    Fork network;
    draw_statistics(network);
    const Tensor x = images({1, 3, 3, 2}), expected = outputs(network, x);
    const FoldingReport report = fold_batch_norm(network, x.shape());
    ASSERT_EQ(report.kept.size(), 1u);
    EXPECT_EQ(report.kept[0].reason, "something else reads conv");
    InferencePlan plan(network, x.shape());
    EXPECT_LE(difference(plan.run(x), expected), 1e-5);
}

TEST(InferencePlan, SeesWeightsChangedInPlaceAndRefusesOtherInputs) {
    ModelOptions options;
    options.name = "resnet20";
    options.variant = "B";
    const auto network = make_model(options, 7);
    draw_statistics(*network);
    const Tensor x = images({1, 32, 32, 3});
    InferencePlan plan(*network, x.shape());
    plan.run(x);
    for (auto& [path, parameter] : network->named_parameters())
        if (parameter->value.rank() == 4) parameter->value.copy_from(Tensor::full(parameter->value.shape(), 0.01));
    EXPECT_LE(difference(plan.run(x), outputs(*network, x)), 1e-5);
    EXPECT_LT(plan.buffer_bytes(), 5u * 32 * 32 * 16 * sizeof(float)) << "buffers are used again";
    EXPECT_THROW(plan.run(images({2, 32, 32, 3})), Error);
    EXPECT_THROW(plan.run(x.to(DType::f64)), Error);
}

TEST(InferencePlan, OfADoublePrecisionNetworkOnTheReferenceDevice) {
    ModelOptions options;
    options.name = "resnet20";
    options.variant = "A";
    const auto network = make_model(options, 7);
    draw_statistics(*network);
    network->to(DType::f64);
    network->to(reference_device);
    const Tensor x = images({1, 32, 32, 3}).to(DType::f64).to(reference_device);
    const Tensor expected = outputs(*network, x);
    EXPECT_EQ(fold_batch_norm(*network, x.shape()).folded.size(), 19u);
    InferencePlan plan(*network, x.shape());
    EXPECT_LE(difference(plan.run(x), expected), 1e-12);
}

TEST(PlannedNetwork, RunsEveryShapeAndRefusesToTrain) {
    ModelOptions options;
    options.name = "svhn_cnn";
    const auto network = make_model(options, 7);
    draw_statistics(*network, false);
    const Tensor large = images({6, 32, 32, 3}), small = images({2, 32, 32, 3});
    const Tensor expected_large = outputs(*network, large), expected_small = outputs(*network, small);
    fold_batch_norm(*network, small.shape());
    PlannedNetwork planned(*network);
    EXPECT_LE(difference(outputs(planned, large), expected_large), 1e-5);
    EXPECT_LE(difference(outputs(planned, small), expected_small), 1e-5);
    EXPECT_LE(difference(outputs(planned, large), expected_large), 1e-5);
    const Tensor odd = images({17, 32, 32, 3});
    const Tensor expected_odd = outputs(*network, odd);
    const int before = thread_count();
    for (const int threads : {1, 2, 3, 32}) {
        const ThreadScope scope(threads);
        EXPECT_LE(difference(planned.run(odd), expected_odd), 1e-5) << threads << " threads";
        EXPECT_EQ(difference(planned.run(odd), outputs(planned, odd)), 0);
    }
    EXPECT_EQ(thread_count(), before);
    EXPECT_THROW(planned.run(images({17, 32, 32, 4})), Error);
    EXPECT_EQ(thread_count(), before);
    Tape tape;
    Context context{tape};
    EXPECT_THROW(planned(context, tape.constant(large)), Error);
}

TEST(RealModels, FoldedResNet20IsAsGoodAsItsFileSays) {
    const std::string path = (std::filesystem::path(test::models_folder()) / "bsq_resnet20_fp.h5").string();
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "no trained network at " << path;
    const std::string cifar = test::cifar10_test_batch();
    if (cifar.empty()) GTEST_SKIP() << "no CIFAR-10 test_batch.bin below " << test::data_folder();
    const LoadedModel loaded = load_model(ModelOptions{.name = "resnet20"}, path);
    LoaderOptions options;
    options.batch_size = 200;
    options.normalization.mean = loaded.file.mean_rgb;
    options.normalization.std = loaded.file.std_rgb;
    Loader loader(std::shared_ptr<const Dataset>(read_cifar_files({cifar}, 1, 10)), options);
    EXPECT_EQ(fold_batch_norm(*loaded.network, {1, 32, 32, 3}).folded.size(), 21u);
    PlannedNetwork planned(*loaded.network);
    const ClassificationMetrics metrics = evaluate(planned, loader);
    EXPECT_NEAR(static_cast<double>(metrics.correct()), 9255, 1);
    EXPECT_NEAR(metrics.cross_entropy(), 0.343932, 1e-4);
}

}  // namespace
}  // namespace bitloom
