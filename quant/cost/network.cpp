#include "quant/cost/network.h"

#include <algorithm>

#include "engine/error.h"
#include "engine/graph.h"
#include "engine/module_device.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "models/layers/layer.h"
#include "models/layers/pooling.h"

namespace bitloom::cost {

namespace {

using layers::LayerType;

Shape without_batch(const Shape& shape) {
    Shape rest;
    for (int axis = 1; axis < shape.rank(); ++axis) rest.append(shape[axis]);
    return rest;
}

LayerKind kind_of(const GraphCall& call) {
    const auto* layer = dynamic_cast<const layers::Layer*>(call.module);
    require(layer != nullptr, "costs: ", call.path, " is a ", call.type, ", which is no layer");
    switch (layer->layer_type()) {
        case LayerType::conv2d:
        case LayerType::conv_transpose2d: return LayerKind::convolution;
        case LayerType::depthwise_conv2d: return LayerKind::depthwise_convolution;
        case LayerType::dense: return LayerKind::dense;
        case LayerType::batch_norm: return LayerKind::batch_norm;
        case LayerType::relu:
        case LayerType::relu6:
        case LayerType::leaky_relu:
        case LayerType::sigmoid:
        case LayerType::tanh:
        case LayerType::swish:
        case LayerType::softmax: return LayerKind::activation;
        case LayerType::max_pool2d: return LayerKind::max_pool;
        case LayerType::avg_pool2d: return LayerKind::average_pool;
        case LayerType::global_avg_pool2d: return LayerKind::global_average_pool;
        case LayerType::global_max_pool2d: return LayerKind::global_max_pool;
        case LayerType::flatten:
        case LayerType::zero_pad2d:
        case LayerType::option_a_shortcut: return LayerKind::flatten;
        case LayerType::dropout:
        case LayerType::drop_path: return LayerKind::dropout;
        case LayerType::add: return LayerKind::add;
        case LayerType::multiply: return LayerKind::multiply;
        case LayerType::concat: return LayerKind::concat;
        case LayerType::count: break;
    }
    fail("costs: ", call.path, ": no costs are known of ", call.type);
}

std::string activation_name(const GraphCall& call) {
    std::string name = call.type;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    return name == "leakyrelu" ? "leaky_relu" : name;
}

// OHWI to HWIO; depthwise weights are [channels * multiplier, h, w, 1].
void take_kernel(const GraphCall& call, CostLayer& layer) {
    if (const auto* dense = dynamic_cast<const layers::Dense*>(call.module)) {
        layer.kernel = {dense->config().in, dense->config().out};
        layer.bias = dense->bias.value.defined();
    } else if (const auto* conv = dynamic_cast<const layers::Conv2d*>(call.module)) {
        const layers::Conv2dConfig& config = conv->config();
        if (layer.kind == LayerKind::depthwise_convolution)
            layer.kernel = {config.kernel.h, config.kernel.w, config.in, config.out / config.in};
        else
            layer.kernel = {config.kernel.h, config.kernel.w, config.in / config.groups, config.out};
        layer.bias = conv->bias.value.defined();
    } else if (const auto* transposed = dynamic_cast<const layers::ConvTranspose2d*>(call.module)) {
        const layers::ConvTranspose2dConfig& config = transposed->config();
        layer.kernel = {config.kernel.h, config.kernel.w, config.in / config.groups, config.out};
        layer.bias = transposed->bias.value.defined();
    }
}

void take_window(const GraphCall& call, CostLayer& layer) {
    if (const auto* pool = dynamic_cast<const layers::AvgPool2d*>(call.module))
        layer.window = {pool->config().window.h, pool->config().window.w};
    if (const auto* pool = dynamic_cast<const layers::MaxPool2d*>(call.module))
        layer.window = {pool->config().window.h, pool->config().window.w};
    if (layer.kind == LayerKind::global_average_pool || layer.kind == LayerKind::global_max_pool)
        layer.window = {layer.input_shapes[0][0], layer.input_shapes[0][1]};
}

bool any_type(const LayerTypes& types) {
    return types.kernel || types.bias || types.activation || types.gamma || types.beta || types.mean || types.variance ||
           types.average;
}

}  // namespace

std::int64_t CostLayer::input_elements() const {
    std::int64_t elements = 0;
    for (const Shape& shape : input_shapes) elements += shape.numel();
    return elements;
}

CostLayer& CostNetwork::at(const std::string& name) {
    return const_cast<CostLayer&>(static_cast<const CostNetwork*>(this)->at(name));
}

const CostLayer& CostNetwork::at(const std::string& name) const {
    const auto found =
        std::find_if(layers.begin(), layers.end(), [&](const CostLayer& layer) { return layer.name == name; });
    require(found != layers.end(), "no layer '", name, "' in the network");
    return *found;
}

std::vector<int> CostNetwork::producers(int index) const {
    std::vector<int> found;
    for (int producer : layers[static_cast<std::size_t>(index)].inputs) {
        while (producer >= 0 && layers[static_cast<std::size_t>(producer)].kind == LayerKind::dropout)
            producer = layers[static_cast<std::size_t>(producer)].inputs[0];
        found.push_back(producer);
    }
    return found;
}

CostNetwork describe_network(Module& network, const Shape& input, const std::string& softmax,
                             const TypesOfLayer& types) {
    Shape batched{1};
    for (const std::int64_t extent : input) batched.append(extent);
    const Graph graph = Graph::trace(network, batched, DType::f32, device_of(network));
    CostNetwork result;
    result.input = input;
    for (const GraphCall& call : graph.calls()) {
        CostLayer layer;
        layer.name = call.path;
        layer.kind = kind_of(call);
        if (layer.kind == LayerKind::activation) layer.activation = activation_name(call);
        layer.inputs = call.inputs;
        for (const Shape& shape : call.input_shapes) layer.input_shapes.push_back(without_batch(shape));
        layer.output_shape = without_batch(call.output_shape);
        take_kernel(call, layer);
        take_window(call, layer);
        if (types) layer.types = types(*call.module, call.path);
        layer.quantized = any_type(layer.types);
        result.layers.push_back(std::move(layer));
    }
    require(!result.layers.empty(), "costs: the network has no layers");
    if (!softmax.empty()) {
        CostLayer layer;
        layer.name = softmax;
        layer.kind = LayerKind::activation;
        layer.activation = "softmax";
        layer.inputs = {static_cast<int>(result.layers.size()) - 1};
        layer.input_shapes = {result.layers.back().output_shape};
        layer.output_shape = result.layers.back().output_shape;
        result.layers.push_back(std::move(layer));
    }
    return result;
}

std::int64_t operation_count(const CostLayer& layer) {
    switch (layer.kind) {
        case LayerKind::convolution:
            return layer.output_shape[0] * layer.output_shape[1] * layer.kernel.numel();
        case LayerKind::depthwise_convolution:
            return layer.output_elements() * layer.kernel[0] * layer.kernel[1];
        case LayerKind::dense: return layer.kernel.numel();
        case LayerKind::average_pool:
        case LayerKind::global_average_pool: return layer.output_shape[-1] * layer.window.numel();
        case LayerKind::add:
        case LayerKind::subtract:
        case LayerKind::multiply:
        case LayerKind::maximum:
        case LayerKind::minimum:
        case LayerKind::concat: return layer.output_elements();
        default: return layer.input_elements();
    }
}

}  // namespace bitloom::cost
