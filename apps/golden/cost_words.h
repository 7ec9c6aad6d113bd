#pragma once
// What the golden cases of cost models say in words: networks, settings, printed Python values.

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "quant/cost/bits.h"
#include "quant/cost/energy.h"
#include "quant/cost/network.h"
#include "quant/cost/qtools.h"

namespace bitloom::golden {

/// Parts of `text` between separators that stand outside of parentheses and quotes, without blanks around them.
std::vector<std::string> split_outside(std::string_view text, char separator);
inline std::vector<std::string> comma_list(std::string_view text) { return split_outside(text, ','); }

/// Lists, tuples, OrderedDict([(key, value), ...]), strings, numbers, True, False, None as Python prints them. Throws
/// Error for anything else.
nlohmann::json python_literal(std::string_view text);

struct CostSettings {
    cost::QToolsOptions types;
    cost::EnergyOptions energy;
    bool source_given = false;
};
/// "for_reference 1; sources quantized_bits(16,6,1); keras_quantizer fp32; fp16; sram/fixed; min_sram 8*16*2^20 bits;
/// rd_wr_on_io 0"; parts may also be set off by commas, names joined by '/', values by '='. What is not said stays at the
/// settings of run_qtool.
CostSettings cost_settings(std::string_view words);

/// The quantizers behind "NAME ... = a, b, c" or "NAME x = a, y = b" among the parts that semicolons divide; none where there
/// is no such part.
std::vector<cost::DataType> listed_types(std::string_view words, std::string_view name);

/// "784 -> QDense 300 binary/binary -> quantized_relu(4,0) -> QAdaptiveActivation quantized_relu 4 -> ... -> softmax", up to
/// the first semicolon; dense layers are named d0, d1, ... Without an arrow: the network of qenergy_reference.
cost::CostNetwork dense_network_of_words(std::string_view words);
/// The settings beside it; what is not said about the network of qenergy_reference stays as that case has it.
CostSettings dense_settings_of_words(std::string_view words);

/// "input 28x28x1; c1 Conv2D 32 3x3 SAME; b1 BN; a1 Activation relu; mp1 MaxPool2; c2 QConv2D 32 3x3 SAME
/// binary/binary; ...; flatten; dense Dense 1 softmax". Empty: that network as it stands in qkeras.h5.
cost::CostNetwork convolutional_network_of_words(std::string_view words);

/// "Dense,QDense: parameters+activations; default: activations"
std::map<std::string, cost::CountedParts> counted_parts(std::string_view words);

}  // namespace bitloom::golden
