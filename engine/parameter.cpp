#include "engine/parameter.h"

namespace bitloom {

std::vector<std::uint64_t> Parameter::fingerprint() const {
    std::vector<std::uint64_t> key{value.id(), value.version()};
    for (const auto& transform : transforms) {
        const TransformState state = transform->state();
        for (const auto& [name, parameter] : state.parameters)
            key.insert(key.end(), {parameter->value.id(), parameter->value.version()});
        for (const auto& [name, buffer] : state.buffers) key.insert(key.end(), {buffer->id(), buffer->version()});
    }
    return key;
}

Var Parameter::effective(Context& context) {
    if (transforms.empty()) return context.tape.leaf(*this);
    bool cacheable = !context.tape.recording() && !context.training;
    for (const auto& transform : transforms) cacheable = cacheable && transform->cacheable();
    std::vector<std::uint64_t> key;
    if (cacheable) {
        key = fingerprint();
        if (cache_.defined() && key == cache_key_) return context.tape.constant(cache_);
    }
    Var weight = transforms.front()->replaces_master() ? context.tape.constant(value) : context.tape.leaf(*this);
    for (const auto& transform : transforms) weight = transform->apply(context, *this, weight);
    if (cacheable) {
        cache_ = weight.value();
        cache_key_ = std::move(key);
    }
    return weight;
}

}  // namespace bitloom
