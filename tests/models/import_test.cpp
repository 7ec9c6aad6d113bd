// Weights from files: the layouts, what is refused, and the real networks against the logits of the original programs.

#include "models/import.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/data/normalize.h"
#include "engine/data/readers.h"
#include "engine/io/checkpoint.h"
#include "engine/io/hdf5.h"
#include "engine/parameter.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/normalization.h"
#include "models/layers/sequential.h"
#include "models/registry.h"
#include "tests/engine/io/temporary_folder.h"
#include "tests/models/real_data.h"

namespace bitloom {
namespace {

namespace fs = std::filesystem;
using namespace layers;
using testing::ElementsAre;
using testing::HasSubstr;

Tensor counting(const Shape& shape) {
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i + 1);
    return Tensor::from(shape, values);
}

/// conv (2 -> 3, 1x2), depthwise (3, 2x1), norm, dense from a [1, 2, 3] map.
class Import : public testing::Test {
   protected:
    Import() {
        network.append<Conv2d>("conv", Conv2dConfig{.in = 2, .out = 3, .kernel = {1, 2}});
        network.append<DepthwiseConv2d>("depth", Conv2dConfig{.in = 3, .kernel = {2, 1}, .bias = false});
        network.append<BatchNorm>("norm", keras_batch_norm(3));
        network.append<Dense>("fc", DenseConfig{.in = 6, .out = 2, .flattened_from = {1, 2, 3}});
        network.assign_paths();
    }

    /// Writes the PyTorch layout without the datasets named in `without`; `more` adds or replaces some.
    void write_torch(const std::vector<std::string>& without = {},
                     const std::function<void(hdf5::File&)>& more = {}) const {
        hdf5::File file = hdf5::File::create(path);
        const auto put = [&](const std::string& name, const Shape& shape) {
            if (std::find(without.begin(), without.end(), name) == without.end()) file.write(name, counting(shape));
        };
        put("conv.weight", {3, 2, 1, 2});
        put("conv.bias", {3});
        put("depth.weight", {3, 1, 2, 1});
        for (const char* name : {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}) put(name, {3});
        put("fc.weight", {2, 6});
        put("fc.bias", {2});
        if (more) more(file);
        file.close();
    }
    std::string refusal() {
        return message_of([&] { load_weights(network, path); });
    }
    std::vector<float> values(const std::string& parameter) {
        for (const auto& [name, p] : network.named_parameters())
            if (name == parameter) return p->value.values<float>();
        return {};
    }

    Sequential network;
    const TemporaryFolder folder;
    std::string path = folder.file("weights.h5");
};

TEST_F(Import, PyTorchLayoutIsBroughtIntoOurs) {
    write_torch({}, [](hdf5::File& file) {
        file.write("norm.num_batches_tracked", Tensor::full({}, 41, DType::i32));
        file.write_strings("_names", {"conv.weight"});
        file.write("v0/conv.weight", counting({5}));
        file.write_attribute("", "mean_rgb", std::vector<double>{0.5, 0.25, 0.125});
        file.write_attribute("", "std_rgb", std::vector<double>{1, 2, 4});
    });
    const WeightFile info = load_weights(network, path);
    EXPECT_EQ(info.format, WeightFormat::pytorch);
    EXPECT_THAT(info.mean_rgb, ElementsAre(0.5f, 0.25f, 0.125f));
    EXPECT_THAT(info.std_rgb, ElementsAre(1, 2, 4));
    EXPECT_THAT(info.ignored, testing::UnorderedElementsAre("_names", "v0/conv.weight"));
    EXPECT_THAT(values("conv.weight"), ElementsAre(1, 3, 2, 4, 5, 7, 6, 8, 9, 11, 10, 12));  // [o, i, w] -> [o, w, i]
    EXPECT_THAT(values("depth.weight"), ElementsAre(1, 2, 3, 4, 5, 6));
    EXPECT_THAT(values("fc.weight"), ElementsAre(1, 3, 5, 2, 4, 6, 7, 9, 11, 8, 10, 12));  // (c, w) -> (w, c)
    EXPECT_THAT(values("norm.weight"), ElementsAre(1, 2, 3));
    auto& norm = dynamic_cast<BatchNorm&>(network.at("norm"));
    EXPECT_THAT(norm.running_var.values<float>(), ElementsAre(1, 2, 3));
    EXPECT_EQ(norm.num_batches_tracked.item(), 41);
}

TEST_F(Import, ReachesNetworksOfAnotherDeviceAndType) {
    write_torch({}, [](hdf5::File& file) { file.write("norm.num_batches_tracked", Tensor::full({1}, 7, DType::i32)); });
    network.to(DType::f64);
    network.to(reference_device);
    load_weights(network, path);
    auto& conv = dynamic_cast<Conv2d&>(network.at("conv"));
    EXPECT_EQ(conv.weight.value.dtype(), DType::f64);
    EXPECT_EQ(conv.weight.value.device(), reference_device);
    EXPECT_EQ(conv.weight.value.values<double>()[1], 3);
    EXPECT_EQ(dynamic_cast<BatchNorm&>(network.at("norm")).num_batches_tracked.item(), 7);
}

TEST_F(Import, CodesAreScaledInFloat32InTheWrittenOrder) {
    const float scale = 0.7688180804252625f;
    const std::vector<std::int32_t> codes{-255, 255, 1, 77, 100, -3, 0, 5, 6, 7, 8, 9};
    write_torch({"fc.weight"}, [&](hdf5::File& file) {
        file.write("fc.code", Tensor::from<std::int32_t>({2, 6}, codes));
        file.write_attribute("fc.code", "n", 8.0);
        file.write("fc.scale", Tensor::full({}, scale));
    });
    load_weights(network, path);
    std::vector<float> expected;
    for (const std::size_t i : {0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11})
        expected.push_back(scale * (static_cast<float>(codes[i]) / 255.0f));
    EXPECT_EQ(values("fc.weight"), expected);
}

TEST_F(Import, RefusesCodesThatItCannotRead) {
    const auto with_bias_code = [&](std::int64_t code, bool bits, bool scale) {
        write_torch({"fc.bias"}, [&](hdf5::File& file) {
            file.write_i64("fc.biascode", {77, code});
            if (bits) file.write_attribute("fc.biascode", "n", 8.0);
            if (scale) file.write("fc.biasscale", Tensor::full({1}, 2));
        });
    };
    with_bias_code(-255, true, true);
    load_weights(network, path);
    EXPECT_THAT(values("fc.bias"), ElementsAre(2 * (77.0f / 255.0f), -2));
    with_bias_code(-256, true, true);
    EXPECT_THAT(refusal(), HasSubstr("code -256"));
    with_bias_code(-25, true, false);
    EXPECT_THAT(refusal(), HasSubstr("no scale"));
    with_bias_code(-25, false, true);
    EXPECT_THAT(refusal(), HasSubstr("attribute n"));
}

TEST_F(Import, KerasLayoutIsBroughtIntoOurs) {
    hdf5::File file = hdf5::File::create(path);
    file.write("conv/kernel", counting({1, 2, 2, 3}));
    file.write("conv/bias", counting({3}));
    file.write("conv/code", counting({12}));
    file.write("depth/depthwise_kernel", counting({2, 1, 3, 1}));
    for (const char* name : {"norm/gamma", "norm/beta", "norm/moving_mean", "norm/moving_variance"})
        file.write(name, counting({3}));
    file.write("fc/kernel", counting({6, 2}));
    file.write("fc/bias", counting({2}));
    file.close();
    const WeightFile info = load_weights(network, path);
    EXPECT_EQ(info.format, WeightFormat::keras);
    EXPECT_THAT(info.ignored, ElementsAre("conv/code"));
    EXPECT_THAT(values("conv.weight"), ElementsAre(1, 4, 7, 10, 2, 5, 8, 11, 3, 6, 9, 12));  // [w, i, o] -> [o, w, i]
    EXPECT_THAT(values("depth.weight"), ElementsAre(1, 4, 2, 5, 3, 6));                      // [h, c] -> [c, h]
    EXPECT_THAT(values("fc.weight"), ElementsAre(1, 3, 5, 7, 9, 11, 2, 4, 6, 8, 10, 12));
    EXPECT_EQ(dynamic_cast<BatchNorm&>(network.at("norm")).running_var.values<float>()[2], 3);
}

TEST_F(Import, KerasKernelsKeepTheirRowsAndColumns) {
    Sequential wide;
    wide.append<Conv2d>("conv", Conv2dConfig{.in = 1, .out = 1, .kernel = {2, 3}, .bias = false});
    wide.assign_paths();
    hdf5::File file = hdf5::File::create(path);
    file.write("conv/kernel", counting({2, 3, 1, 1}));
    file.close();
    load_weights(wide, path);
    EXPECT_THAT(wide.named_parameters()[0].second->value.values<float>(), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST_F(Import, NamesWhatDoesNotFit) {
    write_torch({"conv.bias"});
    EXPECT_THAT(refusal(), HasSubstr(path + ": no dataset 'conv.bias'"));
    write_torch({"norm.running_var"});
    EXPECT_THAT(refusal(), HasSubstr("norm.running_var"));
    write_torch({"conv.weight"}, [](hdf5::File& file) { file.write("conv.weight", counting({3, 1, 2, 2})); });
    EXPECT_THAT(refusal(), HasSubstr("shape [3, 1, 2, 2], the network needs [3, 2, 1, 2]"));
    write_torch({}, [](hdf5::File& file) { file.write("relu1.alpha", counting({1})); });
    EXPECT_THAT(refusal(), HasSubstr("'relu1.alpha' belongs to no layer"));
    write_torch({"fc.bias"}, [](hdf5::File& file) {
        file.write("fc.bias", Tensor::from<float>({2}, std::vector<float>{1, std::numeric_limits<float>::quiet_NaN()}));
    });
    EXPECT_THAT(refusal(), HasSubstr("not finite"));
    write_torch({"norm.running_var"}, [](hdf5::File& file) {
        file.write("norm.running_var", Tensor::from<float>({3}, std::vector<float>{1, -1, 2}));
    });
    EXPECT_THAT(refusal(), HasSubstr("variance"));
    write_torch({}, [](hdf5::File& file) { file.write("norm.num_batches_tracked", counting({2})); });
    EXPECT_THAT(refusal(), HasSubstr("2 values instead of one"));
    std::ofstream(path) << "no HDF5 file";
    EXPECT_THAT(refusal(), HasSubstr(path));
    EXPECT_THAT(message_of([&] { load_weights(network, path + ".missing"); }), HasSubstr(".missing"));
}

TEST_F(Import, CheckpointRebuildsItsModel) {
    ModelOptions options;
    options.name = "lenet5";
    options.classes = 4;
    const auto model = make_model(options, 3);
    Checkpoint checkpoint;
    checkpoint.model = describe(options);
    checkpoint.config = R"({"normalize": "unit"})";
    gather(*model, checkpoint);
    save_checkpoint(path, checkpoint);

    const LoadedModel loaded = load_model(ModelOptions{.name = "lenet5"}, path);
    EXPECT_EQ(loaded.options.classes, 4);
    EXPECT_EQ(loaded.file.config, checkpoint.config);
    const auto expected = model->named_parameters(), found = loaded.network->named_parameters();
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i)
        EXPECT_EQ(found[i].second->value.values<float>(), expected[i].second->value.values<float>()) << found[i].first;
    EXPECT_THAT(message_of([&] { load_model(ModelOptions{.name = "mnist_mlp"}, path); }),
                HasSubstr("'lenet5', not of 'mnist_mlp'"));
    EXPECT_THAT(message_of([&] { load_weights(network, path); }), HasSubstr(path));
}

std::string real_model(const std::string& name) { return (fs::path(test::models_folder()) / name).string(); }

TEST(RealModels, LoadWithTheirVariantAndEveryTensor) {
    if (!fs::exists(real_model("ec2t_resnet20_t45.h5")))
        GTEST_SKIP() << "no trained networks in " << test::models_folder();
    const auto zeros = [](Module& network) {
        std::int64_t count = 0;
        for (const auto& [path, parameter] : network.named_parameters())
            for (const float v : parameter->value.values<float>()) count += v == 0;
        return count;
    };
    const LoadedModel t45 = load_model(ModelOptions{.name = "resnet20"}, real_model("ec2t_resnet20_t45.h5"));
    EXPECT_EQ(t45.options.variant, "A");
    EXPECT_EQ(zeros(*t45.network), 121792);  // ec2t-micronet.md, 8
    const LoadedModel t64 = load_model(ModelOptions{.name = "resnet20"}, real_model("ec2t_resnet20_t64.h5"));
    EXPECT_EQ(zeros(*t64.network), 172322);
    const LoadedModel b = load_model(ModelOptions{.name = "resnet20"}, real_model("bsq_resnet20_8bit.h5"));
    EXPECT_EQ(b.options.variant, "B");
    EXPECT_EQ(b.options.classes, 10);
    for (const char* name : {"gpfq_cifar10_quantized_4bit_s5.h5", "gpfq_cifar10_quantized_ternary_s2.h5"})
        EXPECT_EQ(load_model(ModelOptions{.name = "gpfq_cnn"}, real_model(name)).file.format, WeightFormat::keras);
    EXPECT_THAT(message_of([] { load_model(ModelOptions{.name = "resnet32"}, real_model("bsq_resnet20_fp.h5")); }),
                HasSubstr("layer1.3.conv1"));
    EXPECT_THAT(message_of([] {
                    load_model(ModelOptions{.name = "resnet20", .variant = "A"}, real_model("bsq_resnet20_fp.h5"));
                }),
                HasSubstr("variant B, not A"));
    EXPECT_THAT(message_of([] { load_model(ModelOptions{.name = "resnet20"}, real_model("ec2t_lenet5_fp.h5")); }),
                HasSubstr("ec2t_lenet5_fp.h5"));
}

TEST(RealModels, LeNetFlattensItsMapInOurOrder) {
    const std::string path = real_model("ec2t_lenet5_fp.h5");
    if (!fs::exists(path)) GTEST_SKIP() << "no trained networks in " << test::models_folder();
    const LoadedModel loaded = load_model(ModelOptions{.name = "lenet5"}, path);
    const std::vector<float> ours = dynamic_cast<Dense&>(loaded.network->at("fc1")).weight.value.values<float>();
    const std::vector<float> theirs = hdf5::File::open(path).read("fc1.weight").values<float>();
    for (std::size_t o : {0u, 119u})
        for (std::size_t h = 0; h < 5; ++h)
            for (std::size_t w = 0; w < 5; ++w)
                for (std::size_t c = 0; c < 16; ++c)
                    ASSERT_EQ(ours[o * 400 + (h * 5 + w) * 16 + c], theirs[o * 400 + c * 25 + h * 5 + w]);
}

TEST(RealModels, LogitsEqualThoseOfTheOriginalPrograms) {
    const std::string golden_path = (fs::path(test::golden_folder()) / "parity_cifar10.h5").string();
    if (!fs::exists(golden_path)) GTEST_SKIP() << "no golden values at " << golden_path;
    if (!fs::exists(test::models_folder())) GTEST_SKIP() << "no trained networks in " << test::models_folder();
    const std::string cifar = test::cifar10_test_batch();
    if (cifar.empty()) GTEST_SKIP() << "no CIFAR-10 test_batch.bin below " << test::data_folder();
    const auto images = read_cifar_files({cifar}, 1, 10);
    const hdf5::File golden = hdf5::File::open(golden_path);
    int compared = 0;
    for (const std::string& name : golden.groups()) {
        const std::string path = real_model(name + ".h5");
        if (!fs::exists(path)) continue;
        SCOPED_TRACE(name);
        const LoadedModel loaded = load_model(ModelOptions{.name = "resnet20"}, path);
        Normalization normalization;
        normalization.mean = loaded.file.mean_rgb;
        normalization.std = loaded.file.std_rgb;
        const std::vector<double> mean = golden.attribute_f64(name, "mean_rgb");
        EXPECT_EQ(normalization.mean, std::vector<float>(mean.begin(), mean.end()))
            << "the files disagree on the normalisation";
        Tensor batch = Tensor::empty({64, 32, 32, 3});
        std::vector<std::uint8_t> pixels(32 * 32 * 3);
        for (std::int64_t i = 0; i < 64; ++i) {
            images->read(i, pixels.data());
            normalization.apply(pixels.data(), images->image_shape(), batch.write<float>() + i * 3072);
        }
        Tape tape(Tape::Mode::inference);
        Context context{tape};
        const std::vector<float> logits = (*loaded.network)(context, tape.input(batch)).value().values<float>();
        const std::vector<float> expected = golden.read(name + "/logits_first64").values<float>();
        ASSERT_EQ(logits.size(), expected.size());
        double worst = 0;
        for (std::size_t i = 0; i < logits.size(); ++i)
            worst = std::max(worst, std::abs(static_cast<double>(logits[i]) - expected[i]));
        EXPECT_LE(worst, 2e-4);
        RecordProperty(name, cat(worst));
        ++compared;
    }
    EXPECT_GE(compared, 1);
}

}  // namespace
}  // namespace bitloom
