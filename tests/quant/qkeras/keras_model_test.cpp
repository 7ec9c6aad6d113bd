// QKeras' models from Keras files: their quantizers come along.

#include "quant/qkeras/keras_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine/random.h"
#include "models/registry.h"
#include "quant/checkpoints.h"
#include "quant/qkeras/model_quantize.h"
#include "tests/engine/io/temporary_folder.h"
#include "tests/models/keras_writer.h"

namespace bitloom::quant::qkeras {
namespace {

using test::counting;

Tensor drawn(const Shape& shape, std::uint64_t key) {
    Rng rng(key, "keras model test");
    std::vector<float> values(static_cast<std::size_t>(shape.numel()));
    for (float& value : values) value = static_cast<float>(2 * rng.uniform() - 1);
    return Tensor::from(shape, values);
}

std::vector<std::pair<std::string, Tensor>> norm(std::int64_t channels) {
    return {{"gamma:0", drawn({channels}, 1)}, {"beta:0", drawn({channels}, 2)}, {"moving_mean:0", drawn({channels}, 3)},
            {"moving_variance:0", counting({channels})}};
}

const char* const four_bits = R"json({"class_name": "quantized_bits", "config": {"bits": 4, "integer": 0, "symmetric": 0,
    "alpha": 1, "keep_negative": true, "use_stochastic_rounding": false, "qnoise_factor": 1.0}, "shared_object_id": 6})json";

/// One convolution, one dense layer and the output; names of the convolution and of the norms are a process' own.
std::string model_config() {
    return cat(R"json({"class_name": "Functional", "config": {"layers": [
        {"class_name": "InputLayer", "config": {"name": "in", "batch_input_shape": [null, 6, 6, 2]}},
        {"class_name": "BatchNormalization", "config": {"name": "bn"}},
        {"class_name": "PruneLowMagnitude", "config": {"name": "prune_low_magnitude_c", "layer":
            {"class_name": "QConv2D", "config": {"name": "c", "strides": [1, 1], "activation": "linear",
             "kernel_quantizer": )json", four_bits, R"json(, "bias_quantizer": null}}}},
        {"class_name": "MaxPooling2D", "config": {"name": "pool", "pool_size": [2, 2]}},
        {"class_name": "BatchNormalization", "config": {"name": "bn_1"}},
        {"class_name": "QActivation", "config": {"name": "conv_act_0", "activation": "quantized_relu(3,0)"}},
        {"class_name": "QDense", "config": {"name": "dense_0", "kernel_quantizer": "ternary(alpha=1)"}},
        {"class_name": "BatchNormalization", "config": {"name": "bn_2"}},
        {"class_name": "QActivation", "config": {"name": "dense_act_0", "activation":
            {"class_name": "quantized_relu", "config": {"bits": 2, "integer": 0}}}},
        {"class_name": "QDense", "config": {"name": "output_dense", "kernel_quantizer": "binary(alpha=1)",
         "bias_quantizer": )json", four_bits, R"json(}},
        {"class_name": "QActivation", "config": {"name": "output_softmax", "activation": "softmax"}}]}})json");
}

class QKerasFile : public testing::Test {
   protected:
    void write(const std::string& config) const {
        test::KerasWriter writer(path, "model_weights");
        writer.layer("in", {});
        writer.layer("bn", norm(2));
        writer.layer("prune_low_magnitude_c", {{"kernel:0", drawn({3, 3, 2, 3}, 4)}, {"mask:0", counting({3, 3, 2, 3})}});
        writer.layer("pool", {});
        writer.layer("bn_1", norm(3));
        writer.layer("conv_act_0", {});
        writer.layer("dense_0", {{"kernel:0", drawn({12, 5}, 5)}});
        writer.layer("bn_2", norm(5));
        writer.layer("dense_act_0", {});
        writer.layer("output_dense", {{"kernel:0", drawn({5, 4}, 6)}, {"bias:0", drawn({4}, 7)}});
        writer.layer("output_softmax", {});
        writer.close(config);
    }
    const TemporaryFolder folder;
    std::string path = folder.file("weights.h5");
};

std::vector<float> logits(Module& network) {
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    return network(context, tape.input(drawn({3, 6, 6, 2}, 8))).value().values<float>();
}

TEST_F(QKerasFile, BringsItsQuantizers) {
    write(model_config());
    CompressedModel loaded = load_compressed({.name = "svhn_cnn"}, path);
    EXPECT_EQ(loaded.schemes.schemes().size(), 1u);
    std::vector<std::string> found;
    for (const QuantizedLayer& layer : quantized_layers(*loaded.network))
        found.push_back(cat(layer.path, " ", layer.kernel, " ", layer.bias, " ", layer.activation));
    EXPECT_THAT(found, testing::ElementsAre("conv_0 quantized_bits(4,0,0,alpha=1)  ", "conv_act_0   quantized_relu(3,0)",
                                            "dense_0 ternary(alpha=1)  ", "dense_act_0   quantized_relu(2,0)",
                                            "output_dense binary(alpha=1) quantized_bits(4,0,0,alpha=1) "));

    LoadedModel plain = load_model({.name = "svhn_cnn"}, path);
    const std::vector<float> unquantized = logits(*plain.network);
    model_quantize(*plain.network, R"json({"conv_0": {"kernel_quantizer": "quantized_bits(4,0,alpha=1)"},
        "conv_act_0": "quantized_relu(3,0)", "dense_0": {"kernel_quantizer": "ternary(alpha=1)"},
        "dense_act_0": "quantized_relu(2,0)", "output_dense": {"kernel_quantizer": "binary(alpha=1)",
        "bias_quantizer": "quantized_bits(4,0,alpha=1)"}})json");
    EXPECT_EQ(logits(*loaded.network), logits(*plain.network));
    EXPECT_NE(logits(*loaded.network), unquantized);
}

TEST_F(QKerasFile, GivesItsLatentWeightsToAPlainNetwork) {
    write(model_config());
    LoadedModel plain = load_model({.name = "svhn_cnn"}, path);
    const std::unique_ptr<Module> fresh = make_model(plain.options, 77);
    EXPECT_NE(logits(*fresh), logits(*plain.network));
    load_latent_weights(*fresh, path);
    EXPECT_EQ(logits(*fresh), logits(*plain.network));
}

TEST_F(QKerasFile, IsCompressedAlready) {
    write(model_config());
    EXPECT_THROW(load_compressed({.name = "svhn_cnn"}, path, SchemeList({"qkeras"}, R"json({"bits": 8})json")), UsageError);
}

TEST_F(QKerasFile, NamesAQuantizerThatItCannotRead) {
    std::string config = model_config();
    config.replace(config.find("ternary"), 7, "quarter");
    write(config);
    try {
        load_compressed({.name = "svhn_cnn"}, path);
        FAIL();
    } catch (const Error& error) {
        EXPECT_THAT(error.what(), testing::StartsWith(path + ": "));
        EXPECT_THAT(error.what(), testing::HasSubstr("quarter"));
    }
}

TEST(QKerasModel, OfPlainLayersHasNoScheme) {
    WeightFile file;
    file.keras_layers.push_back({"conv_0", "Conv2D", R"json({"name": "conv_0"})json", {}});
    EXPECT_EQ(scheme_of_keras_model(file), "");
    // Functions of Keras are no quantizers.
    file.keras_layers.push_back({"act", "QActivation", R"json({"name": "act", "activation": "relu"})json", {}});
    EXPECT_EQ(scheme_of_keras_model(file), "");
}

TEST(QKerasModel, FoldedConvolutionsAndBatchNorms) {
    WeightFile file;
    file.keras_layers.push_back({"fold", "QConv2DBatchnorm",
                                 R"json({"kernel_quantizer": "quantized_bits(4)", "folding_mode": "batch_stats_folding"})json", {}});
    file.keras_layers.push_back({"qbn", "QBatchNormalization", R"json({"gamma_quantizer": null, "beta_quantizer": "quantized_bits(5)"})json", {}});
    EXPECT_EQ(scheme_of_keras_model(file),
              R"json({"fold_batch_norm":true,"folding_mode":"batch_stats_folding","dictionary":{"fold":{"kernel_quantizer":"quantized_bits(4)"},)json"
              R"json("qbn":{"gamma_quantizer":null,"beta_quantizer":"quantized_bits(5)"}}})json");
}

}  // namespace
}  // namespace bitloom::quant::qkeras
