#include "quant/cost/qtools.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "engine/error.h"

namespace bitloom::cost {

namespace {

using Json = nlohmann::ordered_json;

class Propagation {
   public:
    Propagation(const CostNetwork& network, const QToolsOptions& options) : network_(network), options_(options) {}

    std::vector<LayerFlow> run() {
        for (int i = 0; i < static_cast<int>(network_.layers.size()); ++i) flow_.push_back(layer(i));
        return std::move(flow_);
    }

   private:
    LayerFlow layer(int index) {
        const CostLayer& layer = network_.layers[static_cast<std::size_t>(index)];
        LayerFlow flow;
        for (const int producer : network_.producers(index))
            flow.inputs.push_back(producer < 0 ? options_.source : flow_[static_cast<std::size_t>(producer)].output);
        require(!flow.inputs.empty(), layer.name, ": a layer without inputs");
        flow.operations = operation_count(layer);
        flow.output = flow.inputs[0];
        switch (layer.kind) {
            case LayerKind::convolution:
            case LayerKind::depthwise_convolution:
            case LayerKind::dense: products(layer, flow); break;
            case LayerKind::batch_norm: normalization(layer, flow); break;
            case LayerKind::activation:
                flow.output = plain(layer) ? float_output() : layer.types.activation.value_or(float_output());
                break;
            case LayerKind::average_pool:
            case LayerKind::global_average_pool: average(layer, flow); break;
            case LayerKind::add:
            case LayerKind::subtract: flow.output = add_type(flow.inputs); break;
            case LayerKind::multiply: flow.output = multiply_type(flow.inputs); break;
            case LayerKind::maximum:
            case LayerKind::minimum:
            case LayerKind::concat: flow.output = maximum_type(flow.inputs); break;
            default: break;  // poolings and changes of shape pass the type on
        }
        return flow;
    }

    bool plain(const CostLayer& layer) const { return options_.for_reference || !layer.quantized; }
    DataType plain_weight() const { return options_.keras_quantizer.value_or(default_type()); }
    DataType float_output() const { return options_.keras_accumulator.value_or(default_type()); }

    void products(const CostLayer& layer, LayerFlow& flow) const {
        const bool plain_layer = plain(layer);
        flow.weight = plain_layer ? plain_weight() : layer.types.kernel.value_or(default_type());
        if (layer.bias) flow.bias = plain_layer ? plain_weight() : layer.types.bias.value_or(default_type());
        flow.multiplier = make_multiplier(*flow.weight, flow.inputs[0], layer.types.distinct_weights);
        const std::int64_t terms =
            accumulated_terms(layer.kernel, layer.kind == LayerKind::depthwise_convolution);
        const auto sum_of = [&](const DataType& product) {
            return flow.bias ? accumulate(product, terms, *flow.bias) : accumulate(product, terms);
        };
        flow.accumulator = sum_of(flow.multiplier->output);
        if (plain_layer && options_.keras_accumulator) {
            // The circuit stays that of the operands, its width and class of cost become those of the accumulator.
            flow.multiplier->output = *options_.keras_accumulator;
            flow.accumulator = options_.keras_accumulator;
        } else if (!plain_layer && layer.types.scale_exponents) {
            const auto [low, high] = *layer.types.scale_exponents;
            flow.fused_accumulator = sum_of(widen_by_scale(flow.multiplier->output, low, high));
        }
        flow.output = flow.fused_accumulator.value_or(*flow.accumulator);
        if (!plain_layer && layer.types.activation) flow.output = *layer.types.activation;
    }

    // y = x gamma / sqrt(variance) + (beta - mean gamma / sqrt(variance)): a division, a product, a sum.
    void normalization(const CostLayer& layer, LayerFlow& flow) const {
        if (plain(layer)) {
            flow.gamma = flow.beta = flow.mean = flow.variance = plain_weight();
            const DataType out = float_output();
            flow.divider = Multiplier{out.is_float() ? Gate::float_multiply : Gate::multiply, 1,
                                      static_cast<double>(out.bits), out};
            flow.multiplier = flow.divider;
            flow.output = out;
            return;
        }
        // The defaults of QBatchNormalization.
        flow.gamma = layer.types.gamma.value_or(power_of_two_type(6, false, 2048));
        flow.beta = layer.types.beta.value_or(power_of_two_type(5, true));
        flow.mean = layer.types.mean.value_or(power_of_two_type(5, true));
        flow.variance = layer.types.variance.value_or(power_of_two_type(6, false));
        flow.divider = division(*flow.gamma, *flow.variance);
        flow.multiplier = make_multiplier(flow.divider->output, flow.inputs[0]);
        flow.output = sum_type(flow.multiplier->output, *flow.beta);
    }

    // Only a power of two divides without a float: it shifts, or its exponent is subtracted.
    static Multiplier division(const DataType& numerator, const DataType& denominator) {
        if (denominator.kind == NumberKind::power_of_two && !numerator.is_float())
            return make_multiplier(numerator, denominator);
        return Multiplier{Gate::float_multiply, 1, 32, float_type(32)};
    }

    void average(const CostLayer& layer, LayerFlow& flow) const {
        const bool plain_layer = plain(layer);
        flow.accumulator = accumulate(flow.inputs[0], layer.window.numel());
        flow.output = plain_layer && options_.keras_accumulator ? *options_.keras_accumulator : *flow.accumulator;
        if (plain_layer) return;
        if (layer.types.average) {
            flow.weight = layer.types.average;
            flow.multiplier = make_multiplier(*layer.types.average, *flow.accumulator);
            flow.output = to_fixed(flow.multiplier->output);
        }
        if (layer.types.activation) flow.output = *layer.types.activation;
    }

    const CostNetwork& network_;
    const QToolsOptions& options_;
    std::vector<LayerFlow> flow_;
};

Json json_of(const DataType& type) {
    Json json{{"quantizer_type", type.name}, {"bits", type.bits}};
    switch (type.kind) {
        case NumberKind::fixed:
            json["int_bits"] = type.integer + static_cast<int>(type.is_signed);
            json["is_signed"] = static_cast<int>(type.is_signed);
            break;
        case NumberKind::power_of_two:
            json["is_signed"] = static_cast<int>(type.is_signed);
            json["max_value"] = type.max_value;
            break;
        case NumberKind::ternary:
            // Printed as such whatever the width of a product of ternary values.
            json["bits"] = json["int_bits"] = 2;
            json["is_signed"] = 1;
            json["values"] = {0, -1, 1};
            break;
        case NumberKind::binary:
        case NumberKind::binary01:
            json["int_bits"] = type.integer;
            json["is_signed"] = static_cast<int>(type.is_signed);
            json["values"] = type.kind == NumberKind::binary ? Json{-1, 1} : Json{0, 1};
            break;
        case NumberKind::floating: break;
    }
    return json;
}

Json with_shape(Json json, const Shape& shape, bool batched) {
    Json extents = Json::array();
    if (batched) extents.push_back(-1);
    for (const std::int64_t extent : shape) extents.push_back(extent);
    json["shape"] = extents;
    return json;
}

/// The dump calls a sum of exponents by what it is made of.
std::string_view operation_name(Gate gate) { return gate == Gate::add ? "add" : gate_name(gate); }

Json with_operation(Json json, std::string_view operation) {
    json["op_type"] = operation;
    return json;
}

bool has_products(const CostLayer& layer) { return layer.has_kernel(); }

double bytes(std::int64_t elements, int bits) { return static_cast<double>(elements) * bits / 8; }

}  // namespace

std::vector<LayerFlow> propagate_types(const CostNetwork& network, const QToolsOptions& options) {
    return Propagation(network, options).run();
}

std::string data_type_map(const CostNetwork& network, const std::vector<LayerFlow>& flow) {
    Json map = Json::object();
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
        const CostLayer& layer = network.layers[i];
        if (layer.kind == LayerKind::dropout) continue;
        const LayerFlow& f = flow[i];
        Json entry;
        entry["input_quantizer_list"] = Json::array();
        for (const DataType& input : f.inputs) entry["input_quantizer_list"].push_back(json_of(input));
        entry["output_quantizer"] = with_shape(json_of(f.output), layer.output_shape, true);
        if (has_products(layer)) {
            entry["weight_quantizer"] = with_shape(json_of(*f.weight), layer.kernel, false);
            if (f.bias) entry["bias_quantizer"] = with_shape(json_of(*f.bias), Shape{layer.kernel[-1]}, false);
            entry["multiplier"] = with_operation(json_of(f.multiplier->output), operation_name(f.multiplier->gate));
        }
        if (f.accumulator) entry["accumulator"] = with_operation(json_of(*f.accumulator), "add");
        if (f.fused_accumulator) entry["fused_accumulator"] = with_operation(json_of(*f.fused_accumulator), "add");
        entry["operation_count"] = f.operations;
        map[layer.name] = entry;
    }
    return map.dump(2);
}

double arithmetic_computation_effort(const CostNetwork& network, const std::vector<LayerFlow>& flow) {
    double sum = 0;
    for (std::size_t i = 0; i < network.layers.size(); ++i)
        if (has_products(network.layers[i]))
            sum += static_cast<double>(flow[i].operations) * flow[i].inputs[0].bits * flow[i].weight->bits;
    return sum;
}

double weight_bytes(const CostNetwork& network, const std::vector<LayerFlow>& flow) {
    double sum = 0;
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
        const CostLayer& layer = network.layers[i];
        if (!has_products(layer)) continue;
        sum += bytes(layer.kernel.numel(), flow[i].weight->bits);
        if (flow[i].bias) sum += bytes(layer.kernel[-1], flow[i].bias->bits);
    }
    return sum;
}

double activation_bytes(const CostNetwork& network, const std::vector<LayerFlow>& flow) {
    double sum = 0;
    bool first = true;
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
        const std::vector<int> producers = network.producers(static_cast<int>(i));
        if (first && std::find(producers.begin(), producers.end(), -1) != producers.end()) {
            sum += bytes(network.input.numel(), flow[i].inputs[0].bits);
            first = false;
        }
        if (network.layers[i].kind == LayerKind::activation)
            sum += bytes(network.layers[i].output_elements(), flow[i].output.bits);
    }
    return sum;
}

}  // namespace bitloom::cost
