#include "models/layers/sequential.h"

#include "models/layers/activation.h"
#include "models/layers/normalization.h"

namespace bitloom::layers {

Var Sequential::forward(Context& context, std::span<const Var> inputs) {
    require(inputs.size() == 1, path(), ": Sequential takes one input, got ", inputs.size());
    Var x = inputs[0];
    const auto& chain = children();
    for (std::size_t i = 0; i < chain.size(); ++i) {
        Module* next = i + 1 < chain.size() ? chain[i + 1].second : nullptr;
        auto* bn = dynamic_cast<BatchNorm*>(chain[i].second);
        if (bn && dynamic_cast<ReLU*>(next)) {
            x = norm_act(context, *bn, next, x);
            ++i;
        } else {
            x = (*chain[i].second)(context, x);
        }
    }
    return x;
}

}  // namespace bitloom::layers
