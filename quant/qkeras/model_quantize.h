#pragma once
// model_quantize: quantizers for the layers of a network from a dictionary, by layer name and then by class
// (svhn-qkeras.md, section 5.2).
//
// {"conv_0": {"kernel_quantizer": "quantized_bits(4,0,alpha=1)", "bias_quantizer": "quantized_bits(4)"},
//  "QConv2D": {"kernel_quantizer": "ternary()"}, "conv_act_1": "quantized_relu(3)",
//  "QActivation": {"relu": "quantized_relu(4)"}, "QBatchNormalization": {}}
//
// A layer takes what stands under its path, else what stands under its class with a Q in front. Without a kernel quantizer it
// stays as it is; a bias quantizer only counts where there is a bias; "activation_quantizer" (or "activation") of a
// convolution or dense layer quantizes its output. Activations: a quantizer under their path, or "QActivation": one for
// all, or a map from the name of the function. Batch norms only where their path or "QBatchNormalization" is there: keys
// gamma_, beta_, mean_, variance_, inverse_quantizer; {} stands for the source's defaults. Average poolings:
// average_quantizer, activation_quantizer. Quantizers are text or {"class_name": ..., "config": {...}}.

#include <string>
#include <vector>

#include "engine/module.h"
#include "quant/qkeras/folding.h"
#include "quant/qkeras/quantizer.h"

namespace bitloom::quant::qkeras {

struct ModelQuantizeOptions {
    Settings settings{};
    /// Layers of the dictionary that the network lacks are passed over (predefined dictionaries), else an error.
    bool allow_missing_layers = false;
    /// Convolutions right in front of a batch norm are folded; quantizers are then also looked up under QConv2DBatchnorm and
    /// QDepthwiseConv2DBatchnorm. Needs `input`.
    bool fold_batch_norm = false;
    FoldingMode folding_mode = FoldingMode::ema_stats;
    std::int64_t ema_freeze_delay = -1;
    Shape input{};  ///< of an image, [height, width, channels]
};

/// Throws UsageError in one line that names the entry: no valid JSON, a layer that the network does not have, an unknown
/// class, key or quantizer.
void model_quantize(Module& network, const std::string& dictionary, const ModelQuantizeOptions& options = {});

/// The dictionary of the width scan: kernels and biases binary(alpha=1) for 1 bit, ternary(alpha=1) for 2, else
/// quantized_bits(bits,0,alpha=1); every ReLU quantized_relu(activation_bits,0). Throws UsageError unless 1 to 16 bits.
std::string scan_dictionary(std::int64_t weight_bits, std::int64_t activation_bits);

/// dense_binary, mix, binary, ternary, 4bit, 4bitBinary.
std::vector<std::string> predefined_dictionary_names();
/// Throws UsageError for another name.
std::string predefined_dictionary(const std::string& name);

/// What a module computes with, as text; empty where there is nothing.
struct QuantizedLayer {
    std::string path, type;
    std::string kernel, bias, activation;
    bool folded = false, batch_norm = false;
};
/// All layers that have a quantizer, in the network's order.
std::vector<QuantizedLayer> quantized_layers(Module& network);

}  // namespace bitloom::quant::qkeras
