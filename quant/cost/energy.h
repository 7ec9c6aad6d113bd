#pragma once
// Energy of one inference in pJ, after Horowitz (ISSCC 2014) as QTools uses it (svhn-qkeras.md, section 5.9).

#include <cstdint>
#include <string_view>
#include <vector>

#include "quant/cost/qtools.h"

namespace bitloom::cost {

/// Energies of one operation at a width; never negative.
double fixed_add_energy(double bits);
double fixed_multiply_energy(double bits);
/// 16 bits and below cost as fp16, others as fp32.
double float_add_energy(int bits);
double float_multiply_energy(int bits);
/// Of a 64-bit word, from a memory of 2^log2_bits bits.
double sram_word_energy(double log2_bits);

/// Where tensors live: `fixed` costs nothing (wired into the circuit).
enum class Memory { sram, dram, fixed };
/// Throws UsageError for another name.
Memory memory_named(std::string_view name);

struct EnergyOptions {
    Memory weights = Memory::sram, activations = Memory::sram;
    double least_sram_bits = 8.0 * 16 * 1024 * 1024;  ///< a memory is at least so large
    bool io_in_dram = false;  ///< read inputs of the network and write its outputs through DRAM (rd_wr_on_io)
};

/// Of moving `elements` numbers of `bits` bits.
double memory_energy(Memory memory, std::int64_t elements, int bits, const EnergyOptions& options);

struct LayerEnergy {
    double inputs = 0, outputs = 0, parameters = 0, operations = 0;  ///< each rounded to two decimals
    double counted = 0;  ///< what enters the total: depends on the kind of layer

    double all() const { return inputs + outputs + parameters + operations; }
};

/// One entry a layer; dropouts cost nothing.
std::vector<LayerEnergy> layer_energies(const CostNetwork& network, const std::vector<LayerFlow>& flow,
                                        const EnergyOptions& options);
/// Sum of the counted parts, cut to whole pJ.
std::int64_t total_energy(const std::vector<LayerEnergy>& energies);
/// Sum of all four parts of all layers, cut to whole pJ.
std::int64_t total_energy_of_all(const std::vector<LayerEnergy>& energies);

}  // namespace bitloom::cost
