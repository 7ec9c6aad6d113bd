// Training with the kernels of a GPU, run by the emulation: batches made on the device are the host's bit for bit,
// steps replayed from a captured one are those that were not captured, and both give what the CPU gives.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "emulated_device.h"
#include "engine/data/loader.h"
#include "engine/optim/optimizer.h"
#include "engine/train/callbacks.h"
#include "engine/train/trainer.h"
#include "engine/training_kernels.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/dropout.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/layers/shaping.h"
#include "ops/loss.h"

namespace bitloom::cuda::test {
namespace {

using testing::HasSubstr;

std::shared_ptr<const Dataset> noise_images(std::int64_t count, const Shape& image, int classes) {
    Tensor images = Tensor::empty({count, image[0], image[1], image[2]}, DType::u8);
    Rng rng(5, "images");
    std::uint8_t* out = images.write<std::uint8_t>();
    for (std::int64_t i = 0; i < images.numel(); ++i) out[i] = static_cast<std::uint8_t>(rng.below(256));
    std::vector<std::int32_t> labels;
    for (std::int64_t n = 0; n < count; ++n) labels.push_back(static_cast<std::int32_t>(n % classes));
    return std::make_shared<MemoryDataset>(images, labels, classes);
}

template <class T>
std::vector<std::uint8_t> bits_of(const Tensor& tensor) {
    const std::vector<T> values = tensor.values<T>();
    const auto* first = reinterpret_cast<const std::uint8_t*>(values.data());
    return {first, first + values.size() * sizeof(T)};
}

struct BatchCase {
    const char* augmentations;
    const char* normalization;
    Shuffle shuffle;
    DType dtype;
};

class Batches : public testing::TestWithParam<BatchCase> {
   protected:
    void SetUp() override { install_emulation(); }
};

TEST_P(Batches, MadeOnTheDeviceAreTheHostsBitForBit) {
    const BatchCase& c = GetParam();
    // Images of two data sets through a selection: the device finds each where it lies.
    const Shape image{9, 7, 3};
    const auto first = noise_images(14, image, 4), second = noise_images(9, image, 4);
    const auto joined = std::make_shared<ConcatDataset>(std::vector<std::shared_ptr<const Dataset>>{
        std::make_shared<Subset>(first, std::vector<std::int64_t>{13, 0, 5, 5, 2, 9, 11}), second});
    LoaderOptions options;
    options.batch_size = 5;
    options.shuffle = c.shuffle;
    options.reservoir = 4;
    options.seed = 11;
    options.normalization = normalization_by_name(c.normalization, *joined);
    options.augmentation = parse_augmentations(c.augmentations);
    options.dtype = c.dtype;
    Loader host(joined, options);
    options.device = emulated_gpu;
    options.data_on_device = DataOnDevice::on;
    Loader device(joined, options);
    ASSERT_TRUE(device.data_on_device());
    ASSERT_FALSE(host.data_on_device());
    for (const std::int64_t epoch : {0, 3}) {
        host.start(epoch, 1);
        device.start(epoch, 1);
        Batch expected, made;
        int batches = 0;
        while (host.next(expected)) {
            ASSERT_TRUE(device.next(made));
            EXPECT_EQ(made.indices, expected.indices);
            EXPECT_EQ(made.images.device(), emulated_gpu);
            EXPECT_EQ(made.images.shape(), expected.images.shape());
            EXPECT_EQ(bits_of<std::int32_t>(made.labels), bits_of<std::int32_t>(expected.labels));
            if (c.dtype == DType::f32) {
                EXPECT_EQ(bits_of<float>(made.images), bits_of<float>(expected.images));
            }
            if (c.dtype == DType::f64) {
                EXPECT_EQ(bits_of<double>(made.images), bits_of<double>(expected.images));
            }
            if (c.dtype == DType::bf16) {
                EXPECT_EQ(bits_of<bf16>(made.images), bits_of<bf16>(expected.images));
            }
            ++batches;
        }
        EXPECT_FALSE(device.next(made));
        EXPECT_EQ(batches, 3);
    }
}

INSTANTIATE_TEST_SUITE_P(All, Batches,
                         testing::Values(BatchCase{"none", "none", Shuffle::none, DType::f32},
                                         BatchCase{"none", "per-pixel", Shuffle::full, DType::bf16},
                                         BatchCase{"crop2", "unit", Shuffle::full, DType::f32},
                                         BatchCase{"crop2,flip", "0.5,0.4,0.3/0.2,0.3,0.4", Shuffle::full, DType::f32},
                                         BatchCase{"crop12,flip", "per-channel", Shuffle::full, DType::bf16},
                                         BatchCase{"flip,shift0.2", "per-pixel", Shuffle::reservoir, DType::f32},
                                         BatchCase{"shift1", "unit", Shuffle::none, DType::f64},
                                         BatchCase{"cutout3,crop1,flip", "0.5,0.4,0.3", Shuffle::full, DType::f32},
                                         BatchCase{"cutout4,shift0.3,cutout5,crop3,flip", "per-pixel", Shuffle::full,
                                                   DType::f32}));

TEST(DataOnDevice, StaysWithTheHostWhereTheDeviceCannot) {
    install_emulation();
    const auto images = noise_images(6, {4, 4, 1}, 2);
    LoaderOptions options;
    options.device = emulated_gpu;
    options.augmentation = parse_augmentations("rotate8");
    EXPECT_FALSE(Loader(images, options).data_on_device());
    options.data_on_device = DataOnDevice::on;
    try {
        Loader loader(images, options);
        FAIL() << "the device cannot rotate";
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), HasSubstr("the device has no augmentation 'rotate8'"));
    }
    options.augmentation.clear();
    options.data_on_device = DataOnDevice::off;
    EXPECT_FALSE(Loader(images, options).data_on_device());
}

/// Every kind of layer that does something of its own in training.
std::unique_ptr<Module> network() {
    using namespace layers;
    auto net = std::make_unique<Sequential>();
    // Without a bias: the normalisation takes it out again, and Adam makes large steps of the rounding that is left.
    net->append<Conv2d>("conv", Conv2dConfig{.in = 1, .out = 4, .kernel = 3, .bias = false});
    net->append<BatchNorm>("bn", pytorch_batch_norm(4));
    net->append<ReLU>("relu");
    net->append<MaxPool2d>("pool");
    net->append<Flatten>("flatten");
    net->append<Dropout>("dropout", 0.25);
    net->append<DropPath>("drop_path", 0.1);
    net->append<Dense>("fc", DenseConfig{.in = 3 * 3 * 4, .out = 3, .logits = true});
    net->assign_paths();
    for (Module* module : net->modules())
        if (auto* layer = dynamic_cast<Layer*>(module)) layer->initialize(7);
    return net;
}

struct Outcome {
    std::vector<std::vector<float>> state;  // parameters and buffers
    std::vector<EpochRecord> history;
    bool replayed = false;
    std::string obstacle;
};

LossFunction loss() {
    return [](Context&, const Var& logits, const Batch& batch) { return ops::cross_entropy(logits, batch.labels); };
}

/// Sees whether steps were replayed, and lets the learning rate fall in the middle of an epoch.
class Watch final : public Callback {
   public:
    explicit Watch(Outcome& run) : run_(run) {}
    std::string name() const override { return "watch"; }
    bool replayable() const override { return true; }
    void after_step(Trainer& trainer) override {
        run_.replayed |= trainer.replays_steps();
        if (trainer.state().step == 7) trainer.optimizer().set_learning_rate(2e-3);
    }

   private:
    Outcome& run_;
};

Outcome train(Device device, bool graph, DataOnDevice data) {
    install_emulation();
    const auto images = noise_images(22, {8, 8, 1}, 3);
    const auto net = network();
    net->to(device);
    const auto optimizer = make_adam(net->named_parameters(), {.learning_rate = 1e-2});
    LoaderOptions loading;
    loading.batch_size = 4;  // 22 images: the last batch has two
    loading.shuffle = Shuffle::full;
    loading.augmentation = parse_augmentations("crop1,flip");
    loading.device = device;
    loading.data_on_device = data;
    Loader loader(images, loading);
    loading.augmentation.clear();
    loading.shuffle = Shuffle::none;
    Loader validation(images, loading);
    TrainerOptions options;
    options.epochs = 3;
    options.step_graph = graph;
    Trainer trainer(*net, *optimizer, loss(), options);
    Outcome run;
    trainer.add(std::make_shared<Watch>(run));
    run.history = trainer.fit(loader, &validation).history;
    run.obstacle = trainer.graph_obstacle();
    for (const auto& [path, parameter] : net->named_parameters()) run.state.push_back(parameter->value.values<float>());
    for (const auto& [path, buffer] : net->named_buffers()) run.state.push_back(buffer->values<float>());
    return run;
}

TEST(CapturedSteps, AreThoseThatWereNotCaptured) {
    const Outcome plain = train(emulated_gpu, false, DataOnDevice::on);
    EXPECT_FALSE(plain.replayed);
    for (const DataOnDevice data : {DataOnDevice::on, DataOnDevice::off}) {
        const Outcome replayed = train(emulated_gpu, true, data);
        EXPECT_TRUE(replayed.replayed);
        EXPECT_EQ(replayed.obstacle, "");
        EXPECT_EQ(replayed.state, plain.state);
        ASSERT_EQ(replayed.history.size(), plain.history.size());
        for (std::size_t e = 0; e < plain.history.size(); ++e) {
            EXPECT_EQ(replayed.history[e].loss, plain.history[e].loss);
            EXPECT_EQ(replayed.history[e].accuracy, plain.history[e].accuracy);
            EXPECT_EQ(replayed.history[e].validation_loss, plain.history[e].validation_loss);
        }
    }
}

TEST(CapturedSteps, GiveWhatTheCpuGives) {
    const Outcome cpu = train(cpu_device, true, DataOnDevice::automatic);
    EXPECT_FALSE(cpu.replayed);
    const Outcome gpu = train(emulated_gpu, true, DataOnDevice::automatic);
    ASSERT_TRUE(gpu.replayed);
    ASSERT_EQ(gpu.state.size(), cpu.state.size());
    for (std::size_t i = 0; i < cpu.state.size(); ++i)
        for (std::size_t k = 0; k < cpu.state[i].size(); ++k)
            EXPECT_NEAR(gpu.state[i][k], cpu.state[i][k], 2e-4 * std::max(1.0f, std::abs(cpu.state[i][k])));
    for (std::size_t e = 0; e < cpu.history.size(); ++e) {
        EXPECT_NEAR(gpu.history[e].loss, cpu.history[e].loss, 1e-4);
        EXPECT_EQ(gpu.history[e].accuracy, cpu.history[e].accuracy);
        EXPECT_NEAR(gpu.history[e].validation_loss, cpu.history[e].validation_loss, 1e-3);
    }
}

/// Makes a weight NaN behind the trainer's back, after `step` steps, and remembers another one.
class Poison final : public Callback {
   public:
    Poison(Parameter& poisoned, Parameter& other, std::int64_t step)
        : poisoned_(poisoned), other_(other), step_(step) {}
    std::string name() const override { return "poison"; }
    bool replayable() const override { return true; }
    void after_step(Trainer& trainer) override {
        if (trainer.state().step != step_) return;
        poisoned_.value.fill(std::numeric_limits<double>::quiet_NaN());
        before = other_.value.values<float>();
    }
    std::vector<float> before;

   private:
    Parameter &poisoned_, &other_;
    std::int64_t step_;
};

TEST(CapturedSteps, StopUpdatingWhereTheLossIsNotFinite) {
    install_emulation();
    for (const bool graph : {false, true}) {
        const auto net = network();
        net->to(emulated_gpu);
        auto parameters = net->named_parameters();
        Parameter& first = *parameters.front().second;
        Parameter& last = *parameters.back().second;
        const auto optimizer = make_sgd(net->named_parameters(), {.learning_rate = 1e-2, .momentum = 0.9});
        LoaderOptions loading;
        loading.batch_size = 4;
        loading.device = emulated_gpu;
        Loader loader(noise_images(40, {8, 8, 1}, 3), loading);
        TrainerOptions options;
        options.epochs = 2;
        options.step_graph = graph;
        Trainer trainer(*net, *optimizer, loss(), options);
        const auto poison = std::make_shared<Poison>(last, first, 14);
        trainer.add(poison);
        try {
            trainer.fit(loader);
            ADD_FAILURE() << "the loss was NaN";
        } catch (const DivergedError& error) {
            EXPECT_THAT(error.what(), HasSubstr("the loss is not finite in epoch 2, batch 5 (step 15)"));
        }
        EXPECT_EQ(first.value.values<float>(), poison->before);
    }
}

/// Works on the host: scales by a number that the host knows.
class HostScale final : public ActivationTransform {
   public:
    std::string_view name() const override { return "host_scale"; }
    Var apply(Context&, Module&, const Var& x) override { return x; }
};

TEST(CapturedSteps, AreNotMadeWhereATransformWorksOnTheHost) {
    install_emulation();
    const auto net = network();
    net->at("fc").output_transform = std::make_shared<HostScale>();
    net->to(emulated_gpu);
    const auto optimizer = make_sgd(net->named_parameters(), {.learning_rate = 1e-2});
    LoaderOptions loading;
    loading.batch_size = 4;
    loading.device = emulated_gpu;
    Loader loader(noise_images(24, {8, 8, 1}, 3), loading);
    Trainer trainer(*net, *optimizer, loss(), TrainerOptions{});
    trainer.fit(loader);
    EXPECT_FALSE(trainer.replays_steps());
    EXPECT_THAT(trainer.graph_obstacle(), HasSubstr("'host_scale' of fc works on the host"));
}

/// Reads a value on the host in every step, though it claims not to.
LossFunction reading_loss() {
    return [](Context&, const Var& logits, const Batch& batch) {
        const Var value = ops::cross_entropy(logits, batch.labels);
        value.value().item();
        return value;
    };
}

TEST(CapturedSteps, FallBackWhereTheStepReadsFromTheDevice) {
    install_emulation();
    std::vector<std::vector<float>> weights;
    for (const LossFunction& f : {loss(), reading_loss()}) {
        const auto net = network();
        net->to(emulated_gpu);
        const auto optimizer = make_sgd(net->named_parameters(), {.learning_rate = 1e-2});
        LoaderOptions loading;
        loading.batch_size = 4;
        loading.device = emulated_gpu;
        Loader loader(noise_images(24, {8, 8, 1}, 3), loading);
        Trainer trainer(*net, *optimizer, f, TrainerOptions{});
        trainer.fit(loader);
        EXPECT_EQ(trainer.replays_steps(), weights.empty());
        EXPECT_THAT(trainer.graph_obstacle(), weights.empty()
                                                  ? testing::Matcher<std::string>(testing::IsEmpty())
                                                  : testing::Matcher<std::string>(HasSubstr("inside a captured step")));
        weights.push_back(net->named_parameters().front().second->value.values<float>());
    }
    EXPECT_EQ(weights[0], weights[1]);
}

}  // namespace
}  // namespace bitloom::cuda::test
