#include "quant/cost/attached.h"

#include <algorithm>
#include <climits>
#include <cmath>

#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "quant/qkeras/layers.h"
#include "quant/qkeras/number_type.h"
#include "quant/qkeras/parse.h"

namespace bitloom::cost {

namespace {

using quant::qkeras::number_type;

std::optional<DataType> type_of(const Parameter& parameter) {
    const auto quantizer = quant::qkeras::quantizer_of(parameter);
    if (!quantizer) return std::nullopt;
    return number_type(quantizer->quantizer().quantizer());
}

// What the kernel's values say beyond its quantizer.
void take_values(const Parameter& kernel, bool trained_weights, LayerTypes& types) {
    const auto quantizer = quant::qkeras::quantizer_of(kernel);
    if (!quantizer) return;
    const bool finds_scale =
        quantizer->quantizer().quantizer().alpha.kind == quant::qkeras::Alpha::Kind::automatic_po2;
    if (!finds_scale && !trained_weights) return;
    const quant::qkeras::QuantizedWeight weight = quantizer->quantize(kernel.value);
    if (finds_scale && weight.scale.defined()) {
        int low = INT_MAX, high = INT_MIN;
        for (const double scale : weight.scale.values<double>()) {
            if (!(scale > 0)) continue;  // a channel of zeros has none
            const int exponent = static_cast<int>(std::lround(std::log2(scale)));
            low = std::min(low, exponent), high = std::max(high, exponent);
        }
        if (low <= high) types.scale_exponents = {low, high};
    }
    if (trained_weights) {
        std::vector<float> values = weight.values.values<float>();
        std::sort(values.begin(), values.end());
        types.distinct_weights = std::unique(values.begin(), values.end()) - values.begin();
    }
}

template <class Layer>
void take_kernel(const Layer& layer, bool trained_weights, LayerTypes& types) {
    types.kernel = type_of(layer.weight);
    if (layer.bias.value.defined()) types.bias = type_of(layer.bias);
    take_values(layer.weight, trained_weights, types);
}

}  // namespace

DataType type_of_text(std::string_view quantizer) { return number_type(quant::qkeras::parse_quantizer(quantizer)); }

LayerTypes attached_types(const Module& layer, bool trained_weights) {
    LayerTypes types;
    if (const auto* dense = dynamic_cast<const layers::Dense*>(&layer)) take_kernel(*dense, trained_weights, types);
    if (const auto* conv = dynamic_cast<const layers::Conv2d*>(&layer)) take_kernel(*conv, trained_weights, types);
    if (const auto activation = quant::qkeras::activation_quantizer_of(layer))
        types.activation = number_type(activation->quantizer().quantizer());
    if (const auto* norm = quant::qkeras::batch_norm_quantizers_of(layer)) {
        const auto optional_type = [](const std::optional<quant::qkeras::Quantizer>& q) -> std::optional<DataType> {
            if (!q) return std::nullopt;
            return number_type(*q);
        };
        types.gamma = optional_type(norm->gamma);
        types.beta = optional_type(norm->beta);
        types.mean = optional_type(norm->mean);
        types.variance = optional_type(norm->variance);
    }
    return types;
}

CostNetwork describe_attached(Module& network, const Shape& input, bool trained_weights) {
    return describe_network(network, input, "output_softmax", [trained_weights](const Module& layer, const std::string&) {
        return attached_types(layer, trained_weights);
    });
}

}  // namespace bitloom::cost
