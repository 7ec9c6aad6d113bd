#include "quant/bsq/bit_network.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "engine/io/flag_values.h"
#include "engine/io/json_values.h"
#include "engine/train/callback.h"
#include "models/layers/convolution.h"
#include "models/layers/dense.h"
#include "ops/kernels.h"

namespace bitloom::bsq {

namespace {

using Json = nlohmann::ordered_json;

bool is_shortcut(const std::string& path) { return path.find("downsample") != std::string::npos; }

/// Weight and bias of the layers that can be written in bits; null for others.
std::array<Parameter*, 2> parameters_of(Module& module) {
    if (auto* dense = dynamic_cast<layers::Dense*>(&module)) return {&dense->weight, &dense->bias};
    if (auto* convolution = dynamic_cast<layers::Conv2d*>(&module)) return {&convolution->weight, &convolution->bias};
    if (auto* transposed = dynamic_cast<layers::ConvTranspose2d*>(&module))
        return {&transposed->weight, &transposed->bias};
    return {nullptr, nullptr};
}

bool is_dense(const BitLayer& layer) { return dynamic_cast<layers::Dense*>(layer.module) != nullptr; }

double ratio(std::int64_t parameters, std::int64_t bits) {
    return bits == 0 ? std::numeric_limits<double>::infinity()
                     : 32.0 * static_cast<double>(parameters) / static_cast<double>(bits);
}

std::string percentages(const BitWeight& tensor) {
    std::string line;
    for (const double percent : nonzero_percentages(tensor.bit_tensor())) {
        char number[32];
        std::snprintf(number, sizeof number, "%6.2f", percent);
        line += (line.empty() ? "" : "%, ") + std::string(number);
    }
    return line + "%";
}

const char* state_prefix = "bsq.";

}  // namespace

double BitSizes::compression() const { return ratio(parameters, bits); }
double BitSizes::nonzero_compression() const { return ratio(parameters, nonzero_bits); }
double BitSizes::bits_per_parameter() const { return static_cast<double>(bits) / static_cast<double>(parameters); }
double BitSizes::nonzero_bits_per_parameter() const {
    return static_cast<double>(nonzero_bits) / static_cast<double>(parameters);
}

std::string to_json(const PrecisionTable& table) {
    Json json = Json::object();
    for (const auto& [path, bits] : table) json[path] = {bits[0], bits[1]};
    return json.dump();
}

PrecisionTable precision_table_from_json(const std::string& text) {
    PrecisionTable table;
    try {
        const Json json = json_from_text<Json>(text);
        require(json.is_object(), "it is no object");
        for (const auto& [path, value] : json.items()) {
            const std::vector<std::int64_t> bits = integers_from_json(value);
            require(bits.size() == 2, in_quotes(path), " has ", bits.size(), " precisions, not 2");
            for (const std::int64_t b : bits)
                require(b >= 0 && b <= max_bits, in_quotes(path), ": ", b, " bits are not in 0..", max_bits);
            table.push_back({path, {static_cast<int>(bits[0]), static_cast<int>(bits[1])}});
        }
    } catch (const std::exception& error) {
        fail("cannot read the precision table ", in_quotes(text), ": ", error.what());
    }
    return table;
}

BitNetwork::BitNetwork(Module& network, BitNetworkOptions options) : network_(network), options_(options) {
    for (Module* module : network.modules()) {
        const auto [weight, bias] = parameters_of(*module);
        if (!weight || (is_shortcut(module->path()) && !options.quantize_shortcut)) continue;
        BitLayer layer;
        layer.path = module->path();
        layer.module = module;
        layer.shortcut = is_shortcut(layer.path);
        layer.weight = std::make_shared<BitWeight>(*weight, options.forward_clamp);
        if (bias->value.defined()) layer.bias = std::make_shared<BitWeight>(*bias, options.forward_clamp);
        if (layer.bias) layer.bias->leave_out(!options.fixed_bias);
        layers_.push_back(std::move(layer));
    }
    require(!layers_.empty(), "bit planes: the network has no convolution and no dense layer");
    for (const auto& tensor : tensors())
        require(tensor->parameter().transforms.empty(), tensor->parameter().path,
                ": another scheme is attached to it; bit planes take the parameter's place");
}

std::vector<std::shared_ptr<BitWeight>> BitNetwork::tensors() const {
    std::vector<std::shared_ptr<BitWeight>> all;
    for (const BitLayer& layer : layers_) {
        all.push_back(layer.weight);
        if (layer.bias) all.push_back(layer.bias);
    }
    return all;
}

Representation BitNetwork::representation() const { return layers_.front().weight->representation(); }

void BitNetwork::to_bits(int bits) {
    for (const auto& tensor : tensors())
        if (tensor->representation() == Representation::floating)
            tensor->to_bits(tensor->has_precision() ? tensor->bits() : bits);
}
void BitNetwork::to_float() {
    for (const auto& tensor : tensors()) tensor->to_float();
}
void BitNetwork::to_fixed() {
    for (const auto& tensor : tensors()) tensor->to_fixed();
}
void BitNetwork::fixed_to_bits() {
    for (const auto& tensor : tensors()) tensor->fixed_to_bits();
}

void BitNetwork::requantize(int convolution_bits, int dense_bits) {
    for (const BitLayer& layer : layers_) {
        layer.weight->set(
            bsq::requantize(layer.weight->bit_tensor(), is_dense(layer) ? dense_bits : convolution_bits, options_.grow));
        if (layer.bias) layer.bias->set(bsq::requantize(layer.bias->bit_tensor(), dense_bits, options_.grow));
    }
}

void BitNetwork::strip(double threshold) {
    for (const auto& tensor : tensors()) tensor->set(bsq::strip(tensor->bit_tensor(), threshold));
}

PrecisionTable BitNetwork::table() const {
    PrecisionTable table;
    for (const BitLayer& layer : layers_)
        table.push_back({layer.path, {layer.weight->bits(), layer.bias ? layer.bias->bits() : 0}});
    return table;
}

void BitNetwork::set_precision(const PrecisionTable& table) {
    for (const auto& [path, bits] : table)
        require(std::any_of(layers_.begin(), layers_.end(), [&path = path](const BitLayer& layer) { return layer.path == path; }),
                "the precision table has a layer '", path, "', which the network does not have");
    for (const BitLayer& layer : layers_) {
        const auto found =
            std::find_if(table.begin(), table.end(), [&](const auto& entry) { return entry.first == layer.path; });
        require(found != table.end(), "the precision table has no entry for '", layer.path, "'");
        layer.weight->set_bits(found->second[0]);
        // 0 stands for a layer without bias, too: it then says nothing (5.9).
        if (layer.bias && found->second[1] > 0) layer.bias->set_bits(found->second[1]);
    }
}

BitSizes BitNetwork::sizes() const {
    BitSizes sizes;
    for (const BitLayer& layer : layers_) {
        if (layer.shortcut) continue;
        for (const auto& tensor : {layer.weight, layer.bias}) {
            if (!tensor) continue;
            sizes.parameters += tensor->count();
            sizes.bits += tensor->count() * tensor->bits();
            if (!(tensor->bits() <= 1 && tensor->all_zero())) sizes.nonzero_bits += tensor->count() * tensor->bits();
        }
    }
    return sizes;
}

std::string BitNetwork::statistics() const {
    std::string text;
    for (const BitLayer& layer : layers_) {
        text += "module." + layer.path + "\nWeight: " + percentages(*layer.weight) + "\n";
        if (layer.bias) text += "Bias:   " + percentages(*layer.bias) + "\n";
    }
    return text;
}

std::shared_ptr<GroupLasso> BitNetwork::group_lasso(bool reweigh) const {
    return std::make_shared<GroupLasso>(tensors(), sizes().parameters, reweigh);
}

void BitNetwork::clamp_as_reference() {
    const bool fixed = representation() == Representation::fixed;
    const auto has = [](const std::string& path, const char* part) { return path.find(part) != std::string::npos; };
    for (const auto& [path, parameter] : network_.named_parameters()) {
        if (!parameter->trainable || parameter->projection || path.ends_with(".bsq.scale")) continue;
        if (has(path, "bn") || (fixed ? !has(path, "weight") : has(path, "scale"))) continue;
        parameter->projection = clamped_to(fixed ? -1 : 0, fixed ? 1 : 2);
    }
}

void BitNetwork::save(Checkpoint& checkpoint) const {
    for (const auto& tensor : tensors()) {
        const std::string base = state_prefix + tensor->parameter().path;
        checkpoint.integers[base + ".representation"] = static_cast<std::int64_t>(tensor->representation());
        checkpoint.integers[base + ".bits"] = tensor->bits();
        checkpoint.integers[base + ".zero"] = tensor->zero();
    }
}

void BitNetwork::load(const Checkpoint& checkpoint) {
    for (const auto& tensor : tensors()) {
        const std::string base = state_prefix + tensor->parameter().path;
        const std::int64_t representation = integer_field(checkpoint, base + ".representation");
        const std::int64_t bits = integer_field(checkpoint, base + ".bits");
        require(representation >= 0 && representation <= 2 && bits >= 0 && bits <= max_bits, "checkpoint: '", base,
                "' is in no representation that there is");
        tensor->reshape_for(static_cast<Representation>(representation), static_cast<int>(bits),
                            integer_field(checkpoint, base + ".zero") != 0);
    }
}

}  // namespace bitloom::bsq
