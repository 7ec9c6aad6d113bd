// svhn_qtool: number types, energy, size and operations of a network (svhn-qkeras.md, sections 2.6 and 5.9 to 5.11).

#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "apps/common/common_flags.h"
#include "apps/common/fold_scores.h"
#include "apps/common/report.h"
#include "apps/common/run_folder.h"
#include "apps/common/scheme_flags.h"
#include "apps/common/text.h"
#include "engine/error.h"
#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "engine/io/program.h"
#include "models/registry.h"
#include "quant/checkpoints.h"
#include "quant/cost/attached.h"
#include "quant/cost/bits.h"
#include "quant/cost/energy.h"
#include "quant/cost/flops.h"

namespace bitloom {
namespace {

struct QtoolFlags {
    std::string weights, model = "svhn_cnn";
    std::string source = "quantized_bits(16,6,1)", quantizer = "fp32", accumulator = "fp32";
    std::string weights_memory = "sram", activations_memory = "sram";
    double least_sram = 8.0 * 16 * 1024 * 1024;
    bool for_reference = false, io_in_dram = false, trained = false, json = false;
};

void add_qtool_flags(Flags& flags, QtoolFlags& values) {
    flags.group("Network");
    flags.add("weights", values.weights, "checkpoint or Keras file, with the quantizers that it records, or plain HDF5; none: --model as it is built");
    flags.add("model", values.model, "network; a checkpoint knows its own", {.choices = model_names()});
    flags.group("Cost model");
    flags.add("source", values.source, "number type of the images: a quantizer, or fp16, fp32, int8, int16, int32");
    flags.add("keras-quantizer", values.quantizer, "number type of weights that are not quantized");
    flags.add("keras-accumulator", values.accumulator, "of products and sums of layers that are not quantized");
    flags.add("for-reference", values.for_reference, "take every layer as not quantized");
    flags.add("weights-memory", values.weights_memory, "where weights lie", {.choices = {"sram", "dram", "fixed"}});
    flags.add("activations-memory", values.activations_memory, "where activations lie",
              {.choices = {"sram", "dram", "fixed"}});
    flags.add("min-sram", values.least_sram, "least size of a memory, bits", {.min = 0});
    flags.add("rd-wr-on-io", values.io_in_dram, "read images and write results through DRAM");
    flags.add("inference", values.trained, "cost shifters by the number of distinct weights of --weights");
    flags.add("json", values.json, "print the number types of all layers as JSON instead of the tables");
}

cost::DataType number_type(const std::string& text) {
    return cost::is_standard_type(text) ? cost::standard_type(text) : cost::type_of_text(text);
}

std::string words(const std::optional<cost::DataType>& type) {
    if (!type) return "-";
    if (type->is_float()) return cat("fp", type->bits);
    if (type->kind == cost::NumberKind::fixed)
        return cat(type->is_signed ? "s" : "u", type->bits, ".", type->fraction());
    return cat(type->name, " ", type->bits);
}

struct Model {
    std::unique_ptr<Module> network;
    ModelOptions options;
};

Model load(const QtoolFlags& values, const SchemeFlags& scheme_flags, bool model_given) {
    Model model;
    if (!values.weights.empty()) {
        if (!scheme_flags.bits.empty() || !scheme_flags.schemes.empty())
            throw UsageError("--weights brings its own schemes: leave out --bits and --scheme");
        quant::CompressedModel loaded = quant::load_compressed(
            {.name = model_given || !is_checkpoint(values.weights) ? values.model : ""}, values.weights);
        model.network = std::move(loaded.network);
        model.options = resolve(loaded.options);
        return model;
    }
    model.options = resolve({.name = values.model});
    model.network = make_model(model.options);
    make_schemes(scheme_flags).attach(*model.network);
    return model;
}

int run(int argc, char** argv) {
    QtoolFlags values;
    SchemeFlags scheme_flags;
    CommonFlags common;
    Flags flags("svhn_qtool",
                "Number types, energy of one inference, size in bits and operations of a network, layer by layer, as "
                "QTools of QKeras counts them.");
    add_common_flags(flags, common);
    add_qtool_flags(flags, values);
    add_scheme_flags(flags, scheme_flags);
    flags.example("", "the published float network: 3.918 uJ, 170816 bits");
    flags.example("--bits 4", "the same with 4-bit weights and activations");
    flags.example("--weights runs/svhn/quant_4bit_0/model_best.h5 --out-dir runs/cost", "a trained network; tables as files");
    flags.parse(argc, argv);
    parse_device(common.device);

    const cost::QToolsOptions types{.source = number_type(values.source),
                                    .keras_quantizer = number_type(values.quantizer),
                                    .keras_accumulator = number_type(values.accumulator),
                                    .for_reference = values.for_reference};
    const cost::EnergyOptions energy_options{.weights = cost::memory_named(values.weights_memory),
                                             .activations = cost::memory_named(values.activations_memory),
                                             .least_sram_bits = values.least_sram,
                                             .io_in_dram = values.io_in_dram};
    const Model model = load(values, scheme_flags, flags.given("model"));
    const cost::CostNetwork network = cost::describe_attached(*model.network, model.options.input, values.trained);
    const std::vector<cost::LayerFlow> flow = cost::propagate_types(network, types);
    const std::vector<cost::LayerEnergy> energies = cost::layer_energies(network, flow, energy_options);
    const cost::ModelBits bits = cost::model_bits(network);
    const std::vector<cost::LayerFlops> flops = cost::count_flops(network);
    const std::string map = cost::data_type_map(network, flow);

    ReportTable layers{{"layer", "input", "weight", "accumulator", "output", "param bits", "act bits", "MFLOP", "inputs pJ",
                        "outputs pJ", "params pJ", "ops pJ", "counted pJ"},
                       {},
                       {}};
    layers.rows.push_back({"input_1", "-", "-", "-", words(types.source), "0", cat(bits.layers[0].activations), "-", "-", "-",
                           "-", "-", "-"});
    std::string csv = "layer,param_bits,act_bits,flops,inputs_pJ,outputs_pJ,parameters_pJ,op_cost_pJ,counted_pJ\n";
    csv += cat("input_1,0,", bits.layers[0].activations, ",0,0,0,0,0,0\n");
    for (std::size_t i = 0; i < network.layers.size(); ++i) {
        const cost::LayerBits& size = bits.layers[i + 1];
        const cost::LayerEnergy& energy = energies[i];
        std::int64_t operations = 0;
        for (const cost::LayerFlops& layer : flops)
            if (layer.name == network.layers[i].name) operations = layer.flops;
        layers.rows.push_back({network.layers[i].name, words(flow[i].inputs[0]), words(flow[i].weight),
                               words(flow[i].accumulator), words(flow[i].output), cat(size.parameters),
                               cat(size.activations), operations > 0 ? fixed(1e-6 * static_cast<double>(operations), 3) : "-",
                               fixed(energy.inputs, 2), fixed(energy.outputs, 2), fixed(energy.parameters, 2),
                               fixed(energy.operations, 2), fixed(energy.counted, 2)});
        csv += cat(network.layers[i].name, ',', size.parameters, ',', size.activations, ',', operations, ',',
                   fixed(energy.inputs, 2), ',', fixed(energy.outputs, 2), ',', fixed(energy.parameters, 2), ',',
                   fixed(energy.operations, 2), ',', fixed(energy.counted, 2), '\n');
    }
    const std::int64_t total = cost::total_energy(energies);
    const ParameterCounts parameters = count_parameters(*model.network);
    const ReportTable totals{
        {"total", "value"},
        {{"parameters", cat(parameters.total)},
         {"parameter bits", cat(bits.parameters)},
         {"activation bits", cat(bits.activations)},
         {"total bits", cat(bits.total())},
         {"flops", cat(cost::total_flops(flops))},
         {"bit operations (ACE)", fixed(cost::arithmetic_computation_effort(network, flow), 0)},
         {"weight bytes", fixed(cost::weight_bytes(network, flow), 0)},
         {"activation bytes", fixed(cost::activation_bytes(network, flow), 0)},
         {"energy pJ", cat(total)},
         {"energy uJ", fixed(1e-6 * static_cast<double>(total), 6)}},
        {}};
    if (!common.out_dir.empty()) {
        make_folder(common.out_dir);
        write_file_atomically(common.out_dir + "/layers.csv", csv);
        write_file_atomically(common.out_dir + "/data_types.json", map + "\n");
        Report report("bitloom: cost of a network");
        report.table("Totals", totals);
        report.table("Layers", layers);
        report.preformatted("Command line", command_line(argc, argv));
        report.settings("Settings", settings_of(flags));
        report.write(common.out_dir + "/report.html");
    }
    if (values.json)
        std::cout << map << "\n";
    else
        std::cout << to_text(layers) << to_text(totals);
    return 0;
}

}  // namespace
}  // namespace bitloom

int main(int argc, char** argv) { return bitloom::run_program(argc, argv, bitloom::run); }
