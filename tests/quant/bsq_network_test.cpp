// Whole networks in bits: which layers, conversions, tables, sizes, files, adjustment while training, the scheme.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/random.h"
#include "models/registry.h"
#include "ops/loss.h"
#include "quant/bsq/files.h"
#include "quant/bsq/scheme.h"
#include "tests/engine/io/temporary_folder.h"
#include "tests/message_of.h"

namespace bitloom::bsq {
namespace {

std::unique_ptr<Module> network(const std::string& name) {
    ModelOptions options;
    options.name = name;
    return make_model(options, 7);
}
Tensor images_for(const Shape& shape) {
    Rng rng(9, "images");
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    for (float& v : values) v = static_cast<float>(2 * rng.uniform() - 1);
    return Tensor::from(shape, values);
}
std::vector<float> logits(Module& model, const Tensor& images) {
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return model(context, tape.input(images)).value().values<float>();
}

TEST(BitNetwork, ResNet20HasTheLayersAndSizesOfTheSpec) {
    const auto model = network("resnet20");
    BitNetwork bits(*model);
    ASSERT_EQ(bits.layers().size(), 20u);
    EXPECT_EQ(bits.layers().front().path, "conv1");
    EXPECT_EQ(bits.layers().back().path, "fc");
    bits.to_bits(8);
    EXPECT_EQ(bits.sizes().parameters, 268346);
    EXPECT_EQ(bits.sizes().bits, 2146768);
    EXPECT_DOUBLE_EQ(bits.sizes().compression(), 4);
    std::int64_t trainable = 0;
    for (const auto& [path, parameter] : model->named_parameters())
        if (parameter->trainable) trainable += parameter->value.numel();
    EXPECT_EQ(trainable, 4297685);  // 16 planes a weight, 21 scales, batch norms and shortcuts

    // Example of 5.7: five all-zero layers of one bit.
    PrecisionTable table = bits.table();
    const auto set = [&](const std::string& prefix, int n) {
        for (auto& [path, b] : table)
            if (path.starts_with(prefix)) b[0] = n;
    };
    set("conv1", 7), set("layer1", 6), set("layer2", 4), set("layer2.0.conv1", 5), set("layer3", 1), set("layer3.0.conv1", 3);
    for (const BitLayer& layer : bits.layers())
        if (layer.path.starts_with("layer3") && layer.path != "layer3.0.conv1")
            layer.weight->set(strip(bsq::to_bits(Tensor::zeros(layer.weight->shape()), 8), 0));
    bits.set_precision(table);
    EXPECT_EQ(bits.sizes().bits, 538144);
    EXPECT_EQ(bits.sizes().nonzero_bits, 353824);
    EXPECT_NEAR(bits.sizes().compression(), 15.96, 0.005);
    EXPECT_NEAR(bits.sizes().nonzero_compression(), 24.27, 0.005);
    bits.to_fixed();
    EXPECT_EQ(bits.sizes().bits, 353824);  // an all-zero layer has 0 bits there

    BitNetworkOptions v0;
    v0.quantize_shortcut = true;
    const auto other = network("resnet20");
    BitNetwork with_shortcuts(*other, v0);
    EXPECT_EQ(with_shortcuts.layers().size(), 22u);
    with_shortcuts.to_bits(8);
    EXPECT_EQ(with_shortcuts.sizes().parameters, 268346);  // not counted all the same
}

TEST(BitNetwork, RepresentationsComputeTheSameFunction) {
    for (const char* name : {"resnet20", "svhn_cnn"}) {
        const auto model = network(name);
        const Tensor images = images_for({4, 32, 32, 3});
        BitNetwork bits(*model);
        bits.to_bits(5);
        const std::vector<float> in_bits = logits(*model, images);
        bits.requantize();
        EXPECT_EQ(logits(*model, images), in_bits);  // exact planes stay
        bits.to_fixed();
        const std::vector<float> fixed = logits(*model, images);
        bits.fixed_to_bits();
        const std::vector<float> back = logits(*model, images);
        bits.strip(0);
        bits.to_float();
        const std::vector<float> floating = logits(*model, images);
        for (std::size_t i = 0; i < in_bits.size(); ++i) {
            EXPECT_NEAR(fixed[i], in_bits[i], 1e-4f);
            EXPECT_NEAR(back[i], in_bits[i], 1e-4f);
            EXPECT_NEAR(floating[i], in_bits[i], 1e-4f);
        }
    }
}

TEST(BitNetwork, TablesThatDoNotFitAreNamed) {
    const auto model = network("lenet5");
    BitNetwork bits(*model);
    bits.to_bits(4);
    PrecisionTable table = bits.table();
    EXPECT_EQ(precision_table_from_json(to_json(table)), table);
    table[0].second[0] = 5;  // four planes cannot become five
    EXPECT_THROW(bits.set_precision(table), Error);
    table[0].second[0] = 3;
    bits.set_precision(table);
    EXPECT_EQ(bits.layers()[0].weight->bits(), 3);
    table.pop_back();
    EXPECT_THROW(bits.set_precision(table), Error);
    table.push_back({"nowhere", {4, 0}});
    EXPECT_THROW(bits.set_precision(table), Error);
}

TEST(BitNetwork, AFileWhoseTableAndPlanesDisagreeIsRefused) {
    const TemporaryFolder folder;
    const auto model = network("lenet5");
    BitNetwork bits(*model);
    bits.to_bits(4);
    write_network(folder.file("right.h5"), bits, {});
    PrecisionTable table = bits.table();
    ++table[1].second[1];  // of a bias
    {
        const hdf5::File right = hdf5::File::open(folder.file("right.h5"));
        hdf5::File wrong = hdf5::File::create(folder.file("wrong.h5"));
        for (const std::string& name : right.datasets()) wrong.write(name, right.read(name));
        wrong.write_attribute("", "Nbit_dict", to_json(table));
        wrong.close();
    }
    const auto other = network("lenet5");
    BitNetwork read(*other);
    EXPECT_THAT(message_of([&] { read_network(folder.file("wrong.h5"), read); }),
                ::testing::AllOf(::testing::HasSubstr("wrong.h5"),
                                 ::testing::HasSubstr("5 bits of '" + table[1].first + ".bias', there are 4 planes")));
}

TEST(BitNetwork, FilesHoldEveryRepresentation) {
    const TemporaryFolder folder;
    // Dense layers behind a map (svhn_cnn), biases everywhere (lenet5), shortcuts and PACT (resnet20).
    for (const char* name : {"svhn_cnn", "lenet5", "resnet20"}) {
        const Shape shape = std::string(name) == "lenet5" ? Shape{3, 28, 28, 1} : Shape{3, 32, 32, 3};
        const Tensor images = images_for(shape);
        const ActivationOptions activations{{ActivationKind::pact, 6}, {}};
        const auto model = network(name);
        BitNetwork bits(*model);
        const auto alphas = attach_activations(*model, activations);
        ASSERT_FALSE(alphas.empty());
        alphas.front().second->value.fill(3.5);
        for (const char* kind : {"floating", "bits", "fixed"}) {
            if (std::string(kind) == "bits") bits.to_bits(6);
            if (std::string(kind) == "fixed") bits.to_fixed();
            const std::string path = folder.file(std::string(name) + kind + ".h5");
            write_network(path, bits, {"", 3, 91.5, 92.5, {}});
            const auto other = network(name);
            for (const auto& [p, parameter] : other->named_parameters()) parameter->value.fill(0.25);
            BitNetwork read(*other);
            attach_activations(*other, activations);
            const NetworkFile file = read_network(path, read);
            EXPECT_EQ(file.info.epoch, 3);
            EXPECT_EQ(file.info.accuracy, 91.5);
            EXPECT_EQ(file.representation, bits.representation());
            EXPECT_EQ(read.representation(), bits.representation());
            EXPECT_EQ(logits(*other, images), logits(*model, images)) << name << ' ' << kind;
            if (std::string(kind) != "floating") {
                EXPECT_EQ(read.table(), bits.table());
            }
        }
    }
}

TEST(BitNetwork, ClampsNothingButPlanesUnlessAsked) {
    for (const bool as_reference : {false, true}) {
        const auto model = network("resnet20");
        BitNetwork bits(*model);
        bits.to_bits(4);
        if (as_reference) bits.clamp_as_reference();
        for (const auto& [path, parameter] : model->named_parameters()) {
            const bool hit = path.find("downsample") != std::string::npos;
            EXPECT_EQ(static_cast<bool>(parameter->projection), path.ends_with(".bsq.planes") || (as_reference && hit)) << path;
        }
        Parameter& planes = bits.layers()[0].weight->planes();
        planes.value.fill(2.5);
        planes.projection(planes);
        EXPECT_EQ(planes.value.values<float>()[0], 2);
        planes.value.fill(-0.5);
        planes.projection(planes);
        EXPECT_EQ(planes.value.values<float>()[0], 0);
    }
}

std::shared_ptr<const Dataset> random_data(std::int64_t count) {
    Tensor images = Tensor::empty({count, 28, 28, 1}, DType::u8);
    Rng rng(2, "pixels");
    auto* pixel = images.write<std::uint8_t>();
    for (std::int64_t i = 0; i < images.numel(); ++i) pixel[i] = static_cast<std::uint8_t>(rng.next_u32());
    std::vector<std::int32_t> labels;
    for (std::int64_t i = 0; i < count; ++i) labels.push_back(static_cast<std::int32_t>(i % 10));
    return std::make_shared<MemoryDataset>(images, labels, 10);
}

/// Bits per parameter after a short training of LeNet-5 with the scheme.
double trained_bits(const std::string& configuration) {
    const auto model = network("lenet5");
    BsqScheme scheme(scheme_options_from_json(configuration));
    scheme.set_log([](const std::string&) {});
    scheme.attach(*model);
    const auto optimizer = make_sgd(model->named_parameters(), {.learning_rate = 0.1, .momentum = 0.9});
    LoaderOptions options;
    options.batch_size = 32;
    Loader loader(random_data(128), options);
    TrainerOptions trainer_options;
    trainer_options.epochs = 2;
    Trainer trainer(*model, *optimizer,
                    [](Context&, const Var& y, const Batch& b) { return ops::cross_entropy(y, b.labels); }, trainer_options);
    for (const LossTerm& term : scheme.loss_terms()) trainer.add_loss_term(term);
    for (const auto& callback : scheme.callbacks()) trainer.add(callback);
    trainer.fit(loader);
    for (const EpochRecord& record : trainer.history()) EXPECT_GT(record.extra.at("compression"), 1);
    const std::string report = scheme.report(*model);
    const auto at = report.find("\"bits_per_parameter\":");
    return std::stod(report.substr(at + 21));
}

TEST(BsqScheme, AStrongerRegulariserLeavesFewerBits) {
    const double none = trained_bits(R"({"alpha": 0, "interval": 1})");
    const double weak = trained_bits(R"({"alpha": 20, "interval": 1})");
    const double strong = trained_bits(R"({"alpha": 100, "interval": 1})");
    EXPECT_NEAR(none, 8, 0.1);
    EXPECT_LT(weak, none);
    EXPECT_LT(strong, weak);
}

TEST(BsqScheme, ReadsItsConfigurationAndNamesWhatItCannotRead) {
    const SchemeOptions options = scheme_options_from_json(R"({"bits": 5, "alpha": 0.02, "activation": "relu6"})");
    EXPECT_EQ(to_json(scheme_options_from_json(to_json(options))), to_json(options));
    EXPECT_EQ(quant::make_scheme("bsq", to_json(options))->configuration(), to_json(options));
    for (const char* bad : {R"({"alpha": -1})", R"({"interval": 0})", R"({"bits": 17})", R"({"activation": "tanh"})",
                            R"({"nonsense": 1})", R"({"grow": 1})", "[1]", "{"})
        EXPECT_THROW(scheme_options_from_json(bad), UsageError) << bad;
}

}  // namespace
}  // namespace bitloom::bsq
