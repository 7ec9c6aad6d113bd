#include "models/layers/dropout.h"

#include "engine/random.h"
#include "ops/dropout.h"

namespace bitloom::layers {

namespace {
/// The layer's stream of this step. The name is put together in a kept buffer: a step allocates nothing.
PhiloxStream stream_of(const Context& context, std::string_view kind, const std::string& path) {
    thread_local std::string name;
    name.assign(kind).append("/").append(path);
    if (context.device_step) return {stream_key(context.seed, name), 0, context.device_step};
    return stream(context.seed, name, context.step);
}
}  // namespace

Dropout::Dropout(double rate) : Layer(LayerType::dropout), rate_(rate) {
    require(rate >= 0 && rate < 1, "Dropout: rate ", rate, " is not in [0, 1)");
}
Var Dropout::forward(Context& context, std::span<const Var> inputs) {
    if (!context.training || rate_ == 0) return only(inputs);
    return ops::dropout(only(inputs), rate_, stream_of(context, "dropout", path()));
}

DropPath::DropPath(double rate) : Layer(LayerType::drop_path), rate_(rate) {
    require(rate >= 0 && rate < 1, "DropPath: rate ", rate, " is not in [0, 1)");
}
Var DropPath::forward(Context& context, std::span<const Var> inputs) {
    if (!context.training || rate_ == 0) return only(inputs);
    return ops::drop_path(only(inputs), rate_, stream_of(context, "drop_path", path()));
}

}  // namespace bitloom::layers
