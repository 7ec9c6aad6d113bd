#include "quant/cost/bits.h"

namespace bitloom::cost {

namespace {

CountedParts parts_of(const BitsOptions& options, const std::string& name) {
    if (const auto found = options.parts.find(name); found != options.parts.end()) return found->second;
    const auto other = options.parts.find("default");
    return other == options.parts.end() ? CountedParts{} : other->second;
}

int bits_or(const std::optional<DataType>& type, int fallback) { return type ? type->bits : fallback; }

std::int64_t parameter_bits(const CostLayer& layer, const BitsOptions& options) {
    if (layer.has_kernel()) {
        std::int64_t bits = layer.kernel.numel() * bits_or(layer.types.kernel, options.reference_bits);
        if (layer.bias) bits += layer.kernel[-1] * bits_or(layer.types.bias, options.reference_bits);
        return bits;
    }
    if (layer.kind != LayerKind::batch_norm) return 0;
    const int scale = bits_or(layer.types.gamma, layer.quantized ? 6 : options.reference_bits);
    const int centre = bits_or(layer.types.beta, layer.quantized ? 5 : options.reference_bits);
    return layer.output_shape[-1] * (scale + centre);
}

std::int64_t activation_bits(const CostLayer& layer, const BitsOptions& options) {
    int bits = 0;
    if (layer.types.activation)
        bits = layer.types.activation->bits;
    else if (layer.activation == "softmax" || layer.activation == "sigmoid")
        bits = options.output_bits;
    else if (!layer.activation.empty() && layer.activation != "linear")
        bits = options.reference_bits;
    return bits * layer.output_elements();
}

}  // namespace

std::map<std::string, CountedParts> BitsOptions::published_parts() {
    std::map<std::string, CountedParts> parts{{"default", {false, true}}};
    for (const char* name : {"Dense", "Conv2D", "DepthwiseConv2D"})
        parts[name] = parts[std::string("Q") + name] = {true, true};
    parts["Activation"] = parts["QActivation"] = {false, true};
    parts["BatchNormalization"] = parts["QBatchNormalization"] = {true, false};
    return parts;
}

std::string keras_class(const CostLayer& layer) {
    const std::string q = layer.quantized ? "Q" : "";
    switch (layer.kind) {
        case LayerKind::convolution: return q + "Conv2D";
        case LayerKind::depthwise_convolution: return q + "DepthwiseConv2D";
        case LayerKind::dense: return q + "Dense";
        case LayerKind::batch_norm: return q + "BatchNormalization";
        case LayerKind::activation: return q + "Activation";
        case LayerKind::max_pool: return "MaxPooling2D";
        case LayerKind::global_max_pool: return "GlobalMaxPooling2D";
        case LayerKind::average_pool: return q + "AveragePooling2D";
        case LayerKind::global_average_pool: return q + "GlobalAveragePooling2D";
        case LayerKind::flatten: return "Flatten";
        case LayerKind::add: return "Add";
        case LayerKind::subtract: return "Subtract";
        case LayerKind::multiply: return "Multiply";
        case LayerKind::maximum: return "Maximum";
        case LayerKind::minimum: return "Minimum";
        case LayerKind::concat: return "Concatenate";
        case LayerKind::dropout: break;
    }
    return "Dropout";
}

ModelBits model_bits(const CostNetwork& network, const BitsOptions& options) {
    ModelBits result;
    const auto count = [&](LayerBits bits) {
        result.parameters += bits.parameters;
        result.activations += bits.activations;
        result.layers.push_back(std::move(bits));
    };
    const bool input_counts = parts_of(options, "InputLayer").activations;
    count({"input_1", 0, input_counts ? network.input.numel() * options.input_bits : 0});
    for (const CostLayer& layer : network.layers) {
        const CountedParts parts = parts_of(options, keras_class(layer));
        count({layer.name, parts.parameters ? parameter_bits(layer, options) : 0,
               parts.activations ? activation_bits(layer, options) : 0});
    }
    return result;
}

}  // namespace bitloom::cost
