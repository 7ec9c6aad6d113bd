#include "quant/cost/energy.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "engine/error.h"
#include "engine/io/flag_values.h"

namespace bitloom::cost {

namespace {

// As Python's round(x, 2): the exact binary value to the nearest, halves to even.
double round_to_cents(double value) {
    char text[400];
    std::snprintf(text, sizeof text, "%.2f", value);
    return std::strtod(text, nullptr);
}

double add_energy(const DataType& type) {
    return type.is_float() ? float_add_energy(type.bits) : fixed_add_energy(type.bits);
}

// A float result makes any gate a float multiplication; otherwise only a true product costs more than an addition.
double gate_energy(const Multiplier& multiplier) {
    if (multiplier.output.is_float()) return multiplier.factor * float_multiply_energy(multiplier.output.bits);
    if (multiplier.gate == Gate::multiply || multiplier.gate == Gate::float_multiply)
        return multiplier.factor * fixed_multiply_energy(multiplier.gate_bits);
    return multiplier.factor * fixed_add_energy(multiplier.gate_bits);
}

double operation_energy(const CostLayer& layer, const LayerFlow& flow) {
    const auto count = static_cast<double>(flow.operations);
    switch (layer.kind) {
        case LayerKind::convolution:
        case LayerKind::depthwise_convolution:
        case LayerKind::dense: return count * (gate_energy(*flow.multiplier) + add_energy(*flow.accumulator));
        case LayerKind::batch_norm: return count * (gate_energy(*flow.divider) + gate_energy(*flow.multiplier));
        case LayerKind::average_pool:
        case LayerKind::global_average_pool: return count * add_energy(*flow.accumulator);
        case LayerKind::add:
        case LayerKind::subtract:
            return count * static_cast<double>(flow.inputs.size() - 1) * add_energy(flow.output);
        case LayerKind::multiply: {
            double sum = 0;
            DataType product = flow.inputs[0];
            for (std::size_t i = 1; i < flow.inputs.size(); ++i) {
                const Multiplier multiplier = make_multiplier(product, flow.inputs[i]);
                sum += gate_energy(multiplier);
                product = multiplier.output;
            }
            return count * sum;
        }
        default: return 0;
    }
}

double parameter_energy(const CostLayer& layer, const LayerFlow& flow, const EnergyOptions& options) {
    const auto read = [&](std::int64_t elements, const DataType& type) {
        return memory_energy(options.weights, elements, type.bits, options);
    };
    if (layer.kind == LayerKind::batch_norm) {
        const std::int64_t channels = layer.output_shape[-1];
        return read(channels, *flow.gamma) + read(channels, *flow.beta) + read(channels, *flow.mean) +
               read(channels, *flow.variance);
    }
    if (!layer.has_kernel()) return 0;
    double energy = read(layer.kernel.numel(), *flow.weight);
    if (flow.bias) energy += read(layer.kernel[-1], *flow.bias);
    return energy;
}

double counted_energy(LayerKind kind, const LayerEnergy& energy) {
    switch (kind) {
        case LayerKind::activation: return energy.outputs;
        case LayerKind::batch_norm: return energy.parameters;
        case LayerKind::max_pool:
        case LayerKind::global_max_pool:
        case LayerKind::add:
        case LayerKind::subtract: return energy.operations;
        default: return energy.inputs + energy.parameters + energy.operations;
    }
}

}  // namespace

double fixed_add_energy(double bits) { return std::max(0.003125 * bits, 0.0); }
double fixed_multiply_energy(double bits) {
    return std::max(0.002994791667 * bits * bits + 0.001041666667 * bits, 0.0);
}
double float_add_energy(int bits) { return bits <= 16 ? 0.4 : 0.9; }
double float_multiply_energy(int bits) { return bits <= 16 ? 1.1 : 3.7; }
double sram_word_energy(double log2_bits) {
    const double l = log2_bits;
    return std::max(9.02427321e-4 * l * l * l - 2.68847858e-2 * l * l + 2.08900804e-1 * l, 0.0);
}

Memory memory_named(std::string_view name) {
    if (name == "sram") return Memory::sram;
    if (name == "dram") return Memory::dram;
    if (name == "fixed") return Memory::fixed;
    throw UsageError(cat("unknown memory ", in_quotes(name), " (sram, dram, fixed)"));
}

double memory_energy(Memory memory, std::int64_t elements, int bits, const EnergyOptions& options) {
    const double total = static_cast<double>(elements) * bits;
    if (memory == Memory::fixed || total <= 0) return 0;
    const double sram =
        std::ceil(total / 64) * sram_word_energy(std::log2(std::max(total, options.least_sram_bits)));
    if (memory == Memory::sram) return sram;
    return 20.3125 * total + (options.io_in_dram ? sram : 0);
}

std::vector<LayerEnergy> layer_energies(const CostNetwork& network, const std::vector<LayerFlow>& flow,
                                        const EnergyOptions& options) {
    const Memory io = options.io_in_dram ? Memory::dram : Memory::sram;
    std::vector<LayerEnergy> energies;
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
        const CostLayer& layer = network.layers[i];
        LayerEnergy energy;
        if (layer.kind != LayerKind::dropout) {
            const std::vector<int> producers = network.producers(static_cast<int>(i));
            double inputs = 0;
            for (std::size_t k = 0; k < producers.size(); ++k)
                inputs += memory_energy(producers[k] < 0 ? io : options.activations, layer.input_shapes[k].numel(),
                                        flow[i].inputs[k].bits, options);
            const bool last = i + 1 == network.layers.size();
            energy.inputs = round_to_cents(inputs);
            energy.outputs = round_to_cents(memory_energy(last ? io : options.activations, layer.output_elements(),
                                                          flow[i].output.bits, options));
            energy.parameters = round_to_cents(parameter_energy(layer, flow[i], options));
            energy.operations = round_to_cents(operation_energy(layer, flow[i]));
            energy.counted = counted_energy(layer.kind, energy);
        }
        energies.push_back(energy);
    }
    return energies;
}

std::int64_t total_energy(const std::vector<LayerEnergy>& energies) {
    double sum = 0;
    for (const LayerEnergy& energy : energies) sum += energy.counted;
    return static_cast<std::int64_t>(sum);
}

std::int64_t total_energy_of_all(const std::vector<LayerEnergy>& energies) {
    double sum = 0;
    for (const LayerEnergy& energy : energies) sum += energy.all();
    return static_cast<std::int64_t>(sum);
}

}  // namespace bitloom::cost
