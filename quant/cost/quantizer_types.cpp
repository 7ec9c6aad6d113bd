#include "quant/cost/quantizer_types.h"

#include "quant/qkeras/parse.h"

namespace bitloom::cost {

namespace {

using quant::qkeras::Quantizer;
using quant::qkeras::QuantizerKind;

DataType numbers_of(const Quantizer& q) {
    const int bits = static_cast<int>(q.bits), integer = static_cast<int>(q.integer);
    switch (q.kind) {
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_linear:
        case QuantizerKind::quantized_hswish: return fixed_type(bits, integer, q.keep_negative);
        case QuantizerKind::quantized_ulaw: return fixed_type(bits, integer);
        case QuantizerKind::quantized_relu:
            if (bits == 1 && integer == 1) return binary01_type();
            return fixed_type(bits, integer, q.negative_slope != 0);
        case QuantizerKind::quantized_tanh:
        case QuantizerKind::hard_tanh:
        case QuantizerKind::smooth_tanh: return fixed_type(bits, 0);
        case QuantizerKind::quantized_sigmoid:
        case QuantizerKind::hard_sigmoid:
        case QuantizerKind::smooth_sigmoid: return fixed_type(bits, 0, false);
        case QuantizerKind::quantized_po2: return power_of_two_type(bits, true, q.max_value.value_or(-1));
        case QuantizerKind::quantized_relu_po2:
            return power_of_two_type(bits, q.negative_slope != 0, q.max_value.value_or(-1));
        case QuantizerKind::ternary:
        case QuantizerKind::stochastic_ternary: return ternary_type();
        case QuantizerKind::binary: return q.use_01 ? binary01_type() : binary_type();
        case QuantizerKind::stochastic_binary:
        case QuantizerKind::binary_tanh: return binary_type();
        case QuantizerKind::bernoulli:
        case QuantizerKind::binary_sigmoid: return binary01_type();
        case QuantizerKind::count: break;
    }
    return default_type();
}

}  // namespace

DataType type_of(const Quantizer& quantizer) {
    DataType type = numbers_of(quantizer);
    type.name = quantizer.name();
    return type;
}

DataType type_of_text(std::string_view quantizer) { return type_of(quant::qkeras::parse_quantizer(quantizer)); }

}  // namespace bitloom::cost
