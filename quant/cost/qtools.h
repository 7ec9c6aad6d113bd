#pragma once
// QTools (Coelho et al., arXiv:2006.10159; svhn-qkeras.md, section 5.9): which number types flow through a network, and
// the multipliers and accumulators that follow from them.

#include <optional>
#include <string>
#include <vector>

#include "quant/cost/arithmetic.h"
#include "quant/cost/network.h"

namespace bitloom::cost {

struct QToolsOptions {
    DataType source = fixed_type(16, 6);  ///< of the network's input
    /// Of the weights of layers that are not quantized. Not set: default_type().
    std::optional<DataType> keras_quantizer = float_type(32);
    /// Of products, sums and outputs of layers that are not quantized. Not set: what follows from the operands.
    std::optional<DataType> keras_accumulator = float_type(32);
    bool for_reference = false;  ///< take every layer as not quantized
};

/// What flows through one layer.
struct LayerFlow {
    std::vector<DataType> inputs;
    DataType output;
    std::optional<DataType> weight, bias;
    std::optional<Multiplier> multiplier;
    std::optional<DataType> accumulator;
    std::optional<DataType> fused_accumulator;  ///< with the scales of an auto_po2 kernel
    std::optional<DataType> gamma, beta, mean, variance;
    std::optional<Multiplier> divider;  ///< of batch normalisation; its multiplier stands in `multiplier`
    std::int64_t operations = 0;
};

/// One entry a layer; dropouts pass their input on. Throws Error for merges without inputs.
std::vector<LayerFlow> propagate_types(const CostNetwork& network, const QToolsOptions& options);

/// The data-type map as JSON: an object a layer (dropouts left out) with input_quantizer_list, output_quantizer, and
/// where the layer has them weight_quantizer, bias_quantizer, multiplier, accumulator, fused_accumulator; and
/// operation_count. int_bits counts the sign of fixed-point types. Shapes have -1 for the batch.
std::string data_type_map(const CostNetwork& network, const std::vector<LayerFlow>& flow);

/// Sum over convolutions and dense layers of operations * input bits * weight bits (bit operations).
double arithmetic_computation_effort(const CostNetwork& network, const std::vector<LayerFlow>& flow);
/// Bytes of kernels and biases; and of activations: outputs of activation layers, and the network's input.
double weight_bytes(const CostNetwork& network, const std::vector<LayerFlow>& flow);
double activation_bytes(const CostNetwork& network, const std::vector<LayerFlow>& flow);

}  // namespace bitloom::cost
