#pragma once
// Recording under the op table.

#include "engine/tape.h"
#include "ops/op_table.h"

namespace bitloom::ops {

/// Tape::record for an op of the table.
template <class Backward>
Var record(Op op, std::span<const Var> inputs, Tensor output, Backward&& backward) {
    return inputs[0].tape().record(op_name(op), inputs, std::move(output), std::forward<Backward>(backward));
}
template <class Backward>
Var record(Op op, std::initializer_list<Var> inputs, Tensor output, Backward&& backward) {
    return record(op, std::span<const Var>(inputs.begin(), inputs.size()), std::move(output), std::forward<Backward>(backward));
}

}  // namespace bitloom::ops
