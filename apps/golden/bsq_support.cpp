#include "apps/golden/bsq_support.h"

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <iostream>

#include "engine/data/normalize.h"
#include "models/registry.h"
#include "ops/shaping.h"
#include "quant/bsq/files.h"

namespace bitloom::golden {

namespace {

std::string model_file(const Case& c, const std::string& name) {
    namespace fs = std::filesystem;
    const char* folder = std::getenv("BITLOOM_MODELS");
    const fs::path path =
        (folder ? fs::path(folder) : fs::absolute(c.file().path()).parent_path().parent_path() / "models") / name;
    require(fs::exists(path), "needs ", path.string(), ": set BITLOOM_MODELS to the folder of the trained networks");
    return path.string();
}

bsq::ActivationOptions activations_of(const std::string& mode) {
    using bsq::ActivationKind;
    bsq::ActivationOptions options;
    if (mode == "relu") return options;
    if (mode == "relu6" || mode == "pact") {
        options.blocks.kind = bsq::activation_kind(mode);
    } else if (mode == "v0") {
        options.blocks = {ActivationKind::relu6, 4};
        options.stem = {ActivationKind::relu6, 8};
    } else {
        int bits = -1;
        const char* end = mode.data() + mode.size();
        const bool number =
            mode.starts_with("act") && std::from_chars(mode.data() + 3, end, bits).ptr == end && mode.size() > 3;
        require(number && bits >= 0 && bits <= bsq::max_bits, "an activation mode that is not known: '", mode, "'");
        options.blocks = {bsq::default_activation(bits), bits};
    }
    return options;
}

}  // namespace

std::string scale_name(const std::string& what) { return what == "weight" ? "scale" : what + "scale"; }

Tensor planes_of(const Case& c, const std::string& what, const Module* layer) {
    return bsq::planes_from_file(layer, c.tensor("p" + what), c.tensor("n" + what));
}

bsq::BitTensor bit_tensor_of(const Case& c, const std::string& what, const Module* layer) {
    return {planes_of(c, what, layer), static_cast<float>(c.tensor(scale_name(what)).item()), false};
}

void expect_bits(const Case& c, const std::string& what, const bsq::BitTensor& got) {
    const auto files = bsq::planes_to_file(nullptr, got.planes);
    expect_equal("p" + what, files[0], c.tensor("p" + what));
    expect_equal("n" + what, files[1], c.tensor("n" + what));
    expect_close(scale_name(what), static_cast<double>(got.scale), c.tensor(scale_name(what)).item(), 1e-6);
}

void expect_factors(const Case& c, const std::string& dataset, int bits) {
    if (!c.has(dataset)) return;
    std::vector<float> factors;
    for (int b = 0; b < bits; ++b) factors.push_back(bsq::plane_factor(b, bits));
    expect_equal(dataset, Tensor::from({bits}, factors), c.tensor(dataset));
}

Tensor effective(const bsq::BitTensor& tensor) {
    Parameter parameter(Tensor::zeros(tensor.shape()));
    const auto weight = std::make_shared<bsq::BitWeight>(parameter);
    weight->set(tensor);
    Tape tape(Tape::Mode::inference);
    Context context{tape};
    const Tensor value = parameter.effective(context).value();
    parameter.detach();
    return value;
}

Tensor channels_last(const Tensor& x) { return x.rank() == 4 ? ops::transposed(x, {0, 2, 3, 1}) : x; }
Tensor channels_first(const Tensor& x) { return x.rank() == 4 ? ops::transposed(x, {0, 3, 1, 2}) : x; }

void informative(const std::string& text) { std::cout << "informative " << text << std::endl; }

bool is_quantizer_free(const std::string& mode) {
    return mode == "relu" || mode == "relu6" || mode == "pact" || mode == "act0";
}

GoldenNetwork golden_network(const Case& c, const std::string& weights, const std::string& mode) {
    require(weights == "fp" || weights == "w8", "weights that are not known: '", weights, "'");
    GoldenNetwork result;
    ModelOptions options;
    options.name = "resnet20";
    result.network = make_model(options);
    bsq::BitNetworkOptions bit_options;
    bit_options.quantize_shortcut = mode == "v0";
    result.bits = std::make_unique<bsq::BitNetwork>(*result.network, bit_options);
    result.alphas = bsq::attach_activations(*result.network, activations_of(mode));
    bsq::read_network(model_file(c, weights == "fp" ? "bsq_resnet20_fp.h5" : "bsq_resnet20_8bit.h5"), *result.bits);
    return result;
}

Tensor normalized_images(const Tensor& images) {
    const Shape shape{images.dim(1), images.dim(2), images.dim(3)};
    Tensor result = Tensor::empty(images.shape());
    // The data set that per-pixel normalisations would need is none here: the published one is fixed.
    Normalization normalization;
    normalization.mean = {0.4914f, 0.4822f, 0.4465f};
    normalization.std = {0.2023f, 0.1994f, 0.2010f};
    for (std::int64_t i = 0; i < images.dim(0); ++i)
        normalization.apply(images.read<std::uint8_t>() + i * shape.numel(), shape,
                            result.write<float>() + i * shape.numel());
    return result;
}

}  // namespace bitloom::golden
