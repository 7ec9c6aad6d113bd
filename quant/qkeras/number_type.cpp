#include "quant/qkeras/number_type.h"

namespace bitloom::quant::qkeras {

cost::DataType number_type(const Quantizer& q) {
    const int bits = static_cast<int>(q.bits), integer = static_cast<int>(q.integer);
    const auto named = [&](cost::DataType type) {
        type.name = std::string(q.name());
        return type;
    };
    switch (q.kind) {
        case QuantizerKind::quantized_relu:
            if (q.bits == 1 && q.integer == 1) return named(cost::binary01_type());
            return named(cost::fixed_type(bits, integer, q.negative_slope > 0));
        case QuantizerKind::quantized_sigmoid:
        case QuantizerKind::hard_sigmoid:
        case QuantizerKind::smooth_sigmoid: return named(cost::fixed_type(bits, 0, false));
        case QuantizerKind::quantized_po2:
        case QuantizerKind::quantized_relu_po2:
            return named(cost::power_of_two_type(bits, q.kind == QuantizerKind::quantized_po2, q.max_value.value_or(-1)));
        case QuantizerKind::ternary:
        case QuantizerKind::stochastic_ternary: return named(cost::ternary_type());
        case QuantizerKind::binary:
            return named(q.use_01 ? cost::binary01_type() : cost::binary_type());
        case QuantizerKind::stochastic_binary:
        case QuantizerKind::binary_tanh: return named(cost::binary_type());
        case QuantizerKind::bernoulli:
        case QuantizerKind::binary_sigmoid: return named(cost::binary01_type());
        case QuantizerKind::quantized_bits:
        case QuantizerKind::quantized_linear:
        case QuantizerKind::quantized_hswish: return named(cost::fixed_type(bits, integer, q.keep_negative));
        default: return named(cost::fixed_type(bits, integer));
    }
}

}  // namespace bitloom::quant::qkeras
