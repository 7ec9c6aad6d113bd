#include "models/regularizers.h"

#include "ops/pointwise.h"
#include "ops/reduction.h"

namespace bitloom {

std::vector<Parameter*> kernels_of(Module& network) {
    std::vector<Parameter*> found;
    for (const auto& [path, parameter] : network.named_parameters()) {
        const bool is_weight = path == "weight" || path.ends_with(".weight");
        if (is_weight && parameter->trainable && parameter->value.rank() >= 2) found.push_back(parameter);
    }
    return found;
}

namespace {

std::function<Var(Context&)> penalty(ops::UnaryOp function, std::vector<Parameter*> parameters, double strength) {
    require(!parameters.empty(), "regularizer: the network has no weights to penalise");
    return [=](Context& context) {
        Var sum;
        for (Parameter* parameter : parameters) {
            const Var term = ops::reduce_sum(ops::unary(function, context.tape.leaf(*parameter)));
            sum = sum.defined() ? ops::add(sum, term) : term;
        }
        return ops::scale(sum, strength);
    };
}

}  // namespace

std::function<Var(Context&)> l1_regularizer(std::vector<Parameter*> parameters, double strength) {
    return penalty(ops::UnaryOp::abs, std::move(parameters), strength);
}

std::function<Var(Context&)> l2_regularizer(std::vector<Parameter*> parameters, double strength) {
    return penalty(ops::UnaryOp::square, std::move(parameters), strength);
}

}  // namespace bitloom
