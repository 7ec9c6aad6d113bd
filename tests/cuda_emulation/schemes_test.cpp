// Compression schemes with the kernels of a GPU, run by the emulation: steps as the CPU makes them, captured steps as plain
// ones while masks and planes change, checkpoints, reports and files from networks whose tensors lie on the device.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "device_memory.h"
#include "emulated_device.h"
#include "engine/data/loader.h"
#include "engine/io/checkpoint.h"
#include "engine/optim/optimizer.h"
#include "engine/random.h"
#include "engine/train/evaluator.h"
#include "engine/train/trainer.h"
#include "models/layers/activation.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"
#include "models/layers/pooling.h"
#include "models/layers/sequential.h"
#include "models/layers/shaping.h"
#include "models/registry.h"
#include "ops/loss.h"
#include "ops/pointwise.h"
#include "ops/shaping.h"
#include "quant/bsq/files.h"
#include "quant/bsq/scheme.h"
#include "quant/cost/attached.h"
#include "quant/pruning/pruner.h"
#include "quant/qkeras/model_quantize.h"
#include "quant/scheme.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom::cuda::test {
namespace {

using testing::HasSubstr;

/// A scheme (or several) with its configuration.
struct SchemeCase {
    std::string title;
    std::vector<std::string> names;
    std::string json;
    double gradient_tolerance = 2e-2;  ///< relative L2; codes of activations at the edge of a step may differ
};
const std::vector<SchemeCase>& cases() {
    static const std::vector<SchemeCase> all{
        {"qkeras", {"qkeras"}, R"j({"bits": 4})j"},
        {"qkeras_found_scales", {"qkeras"},
         R"j({"dictionary": {"QConv2D": {"kernel_quantizer": "quantized_bits(4,0,alpha='auto_po2')", "bias_quantizer": "quantized_bits(4)"},
             "QDense": {"kernel_quantizer": "ternary(alpha='auto')", "bias_quantizer": "quantized_bits(4)"},
             "QActivation": {"relu": "quantized_relu(4,1)"}}})j"},
        {"qkeras_by_chance", {"qkeras"},
         R"j({"dictionary": {"QConv2D": {"kernel_quantizer": "stochastic_binary(alpha='auto_po2')"},
             "QDense": {"kernel_quantizer": "quantized_bits(4,0,alpha=1,use_stochastic_rounding=True)"},
             "QActivation": {"relu": "quantized_relu(6,2,use_stochastic_rounding=True)"}}})j"},
        {"qkeras_batch_norm", {"qkeras"},
         R"j({"dictionary": {"QConv2D": {"kernel_quantizer": "quantized_bits(6,0,alpha=1)"}, "QBatchNormalization": {},
             "QActivation": {"relu": "quantized_relu(6,2)"}}})j"},
        {"pruning", {"pruning"},
         R"j({"schedule": "polynomial", "final_sparsity": 0.6, "begin_step": 1, "end_step": 11, "frequency": 2, "scale_to_run": false})j", 1e-4},
        {"qkeras_pruning", {"qkeras", "pruning"},
         R"j({"qkeras": {"bits": 4}, "pruning": {"final_sparsity": 0.5, "begin_step": 0, "end_step": 8, "frequency": 3, "gradient": "masked", "scale_to_run": false}})j"},
        {"bsq", {"bsq"}, R"j({"bits": 6, "alpha": 0.3, "interval": 1, "threshold": 3})j", 1e-4},
        {"bsq_activations", {"bsq"}, R"j({"bits": 4, "alpha": 0.3, "interval": 1, "activation_bits": 4, "activation": "pact"})j"},
        {"bsq_kept_momentum", {"bsq"},
         R"j({"bits": 6, "alpha": 3, "interval": 1, "activation_bits": 6, "activation": "relu6", "keep_momentum": true})j"},
    };
    return all;
}

const SchemeCase& case_of(const std::string& title) {
    return *std::find_if(cases().begin(), cases().end(), [&](const SchemeCase& c) { return c.title == title; });
}

std::shared_ptr<const Dataset> noise_images(std::int64_t count, const Shape& image, int classes) {
    Tensor images = Tensor::empty({count, image[0], image[1], image[2]}, DType::u8);
    Rng rng(5, "images");
    std::uint8_t* out = images.write<std::uint8_t>();
    for (std::int64_t i = 0; i < images.numel(); ++i) out[i] = static_cast<std::uint8_t>(rng.below(256));
    std::vector<std::int32_t> labels;
    for (std::int64_t n = 0; n < count; ++n) labels.push_back(static_cast<std::int32_t>(n % classes));
    return std::make_shared<MemoryDataset>(images, labels, classes);
}

std::unique_ptr<Module> network() {
    using namespace layers;
    auto net = std::make_unique<Sequential>();
    net->append<Conv2d>("conv_0", Conv2dConfig{.in = 1, .out = 6, .kernel = 3, .bias = false});
    net->append<BatchNorm>("bn_0", pytorch_batch_norm(6));
    net->append<ReLU>("relu_0");
    net->append<MaxPool2d>("pool");
    net->append<Conv2d>("conv_1", Conv2dConfig{.in = 6, .out = 8, .kernel = 2, .bias = true});
    net->append<ReLU>("relu_1");
    net->append<Flatten>("flatten");
    net->append<Dense>("fc", DenseConfig{.in = 2 * 2 * 8, .out = 3, .logits = true});
    net->assign_paths();
    for (Module* module : net->modules())
        if (auto* layer = dynamic_cast<Layer*>(module)) layer->initialize(7);
    return net;
}

LossFunction loss() {
    return [](Context&, const Var& logits, const Batch& batch) { return ops::cross_entropy(logits, batch.labels); };
}

/// A network with schemes, its optimizer and its trainer, on a device.
struct TrainingRun {
    TrainingRun(const SchemeCase& c, Device where, bool graph, std::int64_t epochs, const std::string& checkpoint = "")
        : device(where), net(network()), schemes(c.names, c.json) {
        install_emulation();
        schemes.set_log([](const std::string&) {});
        schemes.attach(*net, {8, 8, 1});
        schemes.adapt_initial_weights(*net);
        net->to(device);
        optimizer = make_sgd(net->named_parameters(), {.learning_rate = 2e-2, .momentum = 0.9});
        LoaderOptions loading;
        loading.batch_size = 4;  // 30 images: the last batch has two
        loading.shuffle = Shuffle::full;
        loading.device = device;
        const auto images = noise_images(30, {8, 8, 1}, 3);
        loader = std::make_unique<Loader>(images, loading);
        loading.shuffle = Shuffle::none;
        validation = std::make_unique<Loader>(images, loading);
        TrainerOptions options;
        options.epochs = epochs;
        options.step_graph = graph;
        options.checkpoint = checkpoint;
        options.model_description = "{}";
        trainer = std::make_unique<Trainer>(*net, *optimizer, loss(), options);
        schemes.add_to(*trainer);
    }
    std::vector<std::vector<float>> state() {
        std::vector<std::vector<float>> all;
        for (const auto& [path, parameter] : net->named_parameters()) all.push_back(parameter->value.values<float>());
        for (const auto& [path, buffer] : net->named_buffers()) all.push_back(buffer->values<float>());
        return all;
    }

    Device device;
    std::unique_ptr<Module> net;
    quant::SchemeList schemes;
    std::unique_ptr<Optimizer> optimizer;
    std::unique_ptr<Loader> loader, validation;
    std::unique_ptr<Trainer> trainer;
};

class Schemes : public testing::TestWithParam<SchemeCase> {};
std::string title(const testing::TestParamInfo<SchemeCase>& info) { return info.param.title; }

TEST_P(Schemes, CapturedStepsAreThosePlainlyMade) {
    TrainingRun plain(GetParam(), emulated_gpu, false, 3), replayed(GetParam(), emulated_gpu, true, 3);
    plain.trainer->fit(*plain.loader, plain.validation.get());
    EXPECT_FALSE(plain.trainer->replays_steps());
    const int before = captured_steps();
    replayed.trainer->fit(*replayed.loader, replayed.validation.get());
    EXPECT_EQ(replayed.trainer->graph_obstacle(), "");
    // Re-quantization before each epoch gives planes other memory: the step is captured anew.
    EXPECT_EQ(captured_steps() - before, GetParam().names[0] == "bsq" ? 3 : 1);
    EXPECT_EQ(replayed.state(), plain.state());
    ASSERT_EQ(replayed.trainer->history().size(), plain.trainer->history().size());
    for (std::size_t e = 0; e < plain.trainer->history().size(); ++e) {
        const EpochRecord &a = replayed.trainer->history()[e], &b = plain.trainer->history()[e];
        EXPECT_EQ(a.loss, b.loss);
        EXPECT_EQ(a.validation_loss, b.validation_loss);
        EXPECT_EQ(a.extra, b.extra);
    }
    EXPECT_EQ(replayed.schemes.report(*replayed.net), plain.schemes.report(*plain.net));
}

TEST_P(Schemes, AResumedRunEqualsAnUninterruptedOne) {
    const TemporaryFolder folder;
    const std::string path = folder.file("run.h5");
    TrainingRun whole(GetParam(), emulated_gpu, true, 3), first(GetParam(), emulated_gpu, true, 2, path);
    whole.trainer->fit(*whole.loader);
    first.trainer->fit(*first.loader);
    TrainingRun second(GetParam(), emulated_gpu, true, 3, path);
    second.schemes.fit_to(load_checkpoint(path));
    second.trainer->resume(path);
    second.trainer->fit(*second.loader);
    EXPECT_EQ(second.state(), whole.state());
    EXPECT_EQ(second.schemes.report(*second.net), whole.schemes.report(*whole.net));
}

/// Takes what memory others give back after each epoch, and expects to find it as it left it.
class Squatter final : public Callback {
public:
    std::string name() const override { return "squatter"; }
    bool replayable() const override { return true; }
    void after_epoch(Trainer& trainer) override {
        for (const auto& [path, parameter] : trainer.model().named_parameters())
            for (int copy = 0; copy < 3; ++copy)
                held_.push_back(Tensor::full(parameter->value.shape(), 42, DType::f32, emulated_gpu));
    }
    void expect_untouched() const {
        for (const Tensor& tensor : held_)
            for (const float v : tensor.values<float>()) ASSERT_EQ(v, 42) << tensor.shape();
    }

private:
    std::vector<Tensor> held_;
};

TEST(SchemesOnTheDevice, ReplaysWriteNoMemoryThatWasGivenBack) {
    // Evaluation between epochs caches effective weights and lets go of older ones.
    const SchemeCase planes{"planes", {"bsq"}, R"j({"bits": 6, "alpha": 0.3, "interval": 50})j"};
    for (const SchemeCase& c : {case_of("qkeras"), case_of("qkeras_found_scales"), case_of("qkeras_pruning"), planes}) {
        SCOPED_TRACE(c.title);
        TrainingRun run(c, emulated_gpu, true, 5);
        const auto squatter = std::make_shared<Squatter>();
        run.trainer->add(squatter);
        run.trainer->fit(*run.loader, run.validation.get());
        EXPECT_EQ(run.trainer->graph_obstacle(), "");
        squatter->expect_untouched();
    }
}

/// The gradients of one step of a network, and its loss.
struct Step {
    double loss = 0;
    std::vector<std::pair<std::string, std::vector<float>>> gradients;
};
Step one_step(Module& net, const quant::SchemeList& schemes, Device device, const Shape& image, int classes) {
    Tensor images = Tensor::empty({4, image[0], image[1], image[2]});
    Rng rng(3, "step");
    fill_normal(images, 0, 1, rng);
    std::vector<std::int32_t> labels;
    for (int n = 0; n < 4; ++n) labels.push_back(n % classes);
    net.to(device);
    Tape tape;
    Context context{tape, true, 1, 5};
    const Var y = net(context, tape.input(images.to(device)));
    Var total = ops::cross_entropy(y, Tensor::from({4}, labels, device));
    Step step;
    step.loss = total.value().item();
    std::vector<LossTerm> terms;
    for (const auto& scheme : schemes.schemes())
        for (const LossTerm& term : scheme->loss_terms()) terms.push_back(term);
    for (const LossTerm& term : terms) {
        const Var extra = term(context);
        step.loss += extra.value().item();
        total = ops::add(total, ops::reshape(extra, total.shape().extents()));
    }
    tape.backward(total);
    for (const auto& [path, parameter] : net.named_parameters())
        if (parameter->grad.defined()) step.gradients.emplace_back(path, parameter->grad.values<float>());
    return step;
}

TEST_P(Schemes, AStepOfResNet20IsThatOfTheCpu) {
    install_emulation();
    const auto run = [&](Device device) {
        const auto net = make_model({.name = "resnet20", .input = {8, 8, 3}}, 3);
        const quant::SchemeList schemes(GetParam().names, GetParam().json);
        schemes.attach(*net, {8, 8, 3});
        return one_step(*net, schemes, device, {8, 8, 3}, 10);
    };
    const Step cpu = run(cpu_device), gpu = run(emulated_gpu);
    EXPECT_NEAR(gpu.loss, cpu.loss, 1e-3 * cpu.loss);
    ASSERT_EQ(gpu.gradients.size(), cpu.gradients.size());
    double error = 0, norm = 0;
    for (std::size_t i = 0; i < cpu.gradients.size(); ++i) {
        EXPECT_EQ(gpu.gradients[i].first, cpu.gradients[i].first);
        for (std::size_t k = 0; k < cpu.gradients[i].second.size(); ++k) {
            const double a = gpu.gradients[i].second[k], b = cpu.gradients[i].second[k];
            error += (a - b) * (a - b);
            norm += b * b;
        }
    }
    EXPECT_GT(norm, 0);
    EXPECT_LE(std::sqrt(error / norm), GetParam().gradient_tolerance);
}

INSTANTIATE_TEST_SUITE_P(All, Schemes, testing::ValuesIn(cases()), title);

TEST(SchemesOnTheDevice, FoldedNormsCountStepsOnTheHostAndAreNotCaptured) {
    const SchemeCase folded{"folded", {"qkeras"}, R"j({"bits": 6, "fold_batch_norm": true, "ema_freeze_delay": 9})j"};
    TrainingRun gpu(folded, emulated_gpu, true, 2), cpu(folded, cpu_device, false, 2);
    gpu.trainer->fit(*gpu.loader, gpu.validation.get());
    cpu.trainer->fit(*cpu.loader, cpu.validation.get());
    EXPECT_FALSE(gpu.trainer->replays_steps());
    EXPECT_THAT(gpu.trainer->graph_obstacle(), HasSubstr("'folding' of conv_0 works on the host"));
    EXPECT_NEAR(gpu.trainer->history()[0].loss, cpu.trainer->history()[0].loss, 0.02);
}

TEST(SchemesOnTheDevice, PruningTakesTheMasksOfTheCpu) {
    TrainingRun cpu(case_of("pruning"), cpu_device, false, 1), gpu(case_of("pruning"), emulated_gpu, false, 1);
    for (TrainingRun* run : {&cpu, &gpu}) {
        run->trainer->fit(*run->loader, run->validation.get());
        EXPECT_EQ(run->trainer->history().size(), 1u);
    }
    const auto a = quant::pruning::sparsity_of(*cpu.net), b = quant::pruning::sparsity_of(*gpu.net);
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].pruned, b[i].pruned);
        EXPECT_GT(b[i].pruned, 0);
        EXPECT_GE(b[i].zeros, b[i].pruned);
        EXPECT_EQ(b[i].latent_zeros, b[i].pruned);
    }
    EXPECT_EQ(quant::pruning::strip_pruning(*gpu.net), static_cast<int>(b.size()));
    EXPECT_THAT(quant::pruning::sparsity_text(b), HasSubstr("weights are zero"));
}

TEST(SchemesOnTheDevice, BitPlanesLiveThroughAllRepresentations) {
    install_emulation();
    const TemporaryFolder folder;
    std::vector<std::vector<std::vector<float>>> states;
    std::vector<std::string> words;
    for (const Device device : {cpu_device, emulated_gpu}) {
        const auto net = make_model({.name = "resnet20", .input = {8, 8, 3}}, 3);
        net->to(device);
        bsq::BitNetwork bits(*net);
        bsq::attach_activations(*net, {{bsq::ActivationKind::pact, 4}, {}});
        net->to(device);
        bits.to_bits(8);
        for (const auto& tensor : bits.tensors()) {
            // Planes as training leaves them.
            Tensor moved = tensor->planes().value.to(cpu_device).clone();
            Rng rng(11, "planes");
            Tensor noise = Tensor::empty(moved.shape());
            fill_uniform(noise, 0, 0.4, rng);
            float* p = moved.write<float>();
            for (std::int64_t i = 0; i < moved.numel(); ++i) p[i] = std::min(2.0f, p[i] + noise.read<float>()[i]);
            tensor->planes().value.copy_from(moved);
        }
        bits.requantize();
        bits.strip(1.5);
        words.push_back(bsq::to_json(bits.table()) + bits.statistics());
        const std::string path = folder.file(cat(device.kind == DeviceKind::cpu ? "cpu" : "gpu", ".h5"));
        bsq::write_network(path, bits, {"resnet20", 1, 0, 0, {}});
        bits.to_fixed();
        bits.fixed_to_bits();
        bits.to_float();
        bsq::read_network(path, bits);
        std::vector<std::vector<float>> all;
        for (const auto& tensor : bits.tensors()) all.push_back(tensor->planes().value.values<float>());
        all.push_back({static_cast<float>(bits.sizes().bits), static_cast<float>(bits.sizes().nonzero_bits)});
        states.push_back(std::move(all));
    }
    EXPECT_EQ(words[1], words[0]);
    EXPECT_EQ(states[1], states[0]);
}

TEST(SchemesOnTheDevice, CostModelsAndAdaptedWeightsReadThroughTheHost) {
    install_emulation();
    std::vector<std::vector<float>> weights;
    std::vector<std::string> reports;
    for (const Device device : {cpu_device, emulated_gpu}) {
        const auto net = network();
        net->to(device);
        const quant::SchemeList schemes({"qkeras"}, case_of("qkeras_found_scales").json);
        schemes.attach(*net, {8, 8, 1});
        schemes.adapt_initial_weights(*net);
        for (const auto& [path, parameter] : net->named_parameters()) weights.push_back(parameter->value.values<float>());
        reports.push_back(schemes.report(*net));
        const cost::CostNetwork described = cost::describe_attached(*net, {8, 8, 1}, true);
        reports.back() += std::to_string(described.layers.size());
    }
    EXPECT_EQ(reports[0], reports[1]);
    for (std::size_t i = 0; i < weights.size() / 2; ++i) EXPECT_EQ(weights[i], weights[i + weights.size() / 2]);
}

TEST(EmulatedMemory, KeepsTheHostOut) {
    install_emulation();
    if (!emulation::memory_is_protected()) GTEST_SKIP() << "skipped: the processor has no protection keys";
    const Tensor t = Tensor::full({4}, 3, DType::f32, emulated_gpu);
    EXPECT_EQ(t.values<float>()[2], 3);
    EXPECT_DEATH(std::fprintf(stderr, "%f", static_cast<double>(t.read<float>()[2])), "the host touches the memory of the device");
}

}  // namespace
}  // namespace bitloom::cuda::test
