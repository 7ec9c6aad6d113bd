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
    for (std::size_t i = 0; i < transforms.size(); ++i) {
        // A mask behind another transform costs no pass of its own where that one can take it along.
        const auto mask = i + 1 < transforms.size() ? transforms[i + 1]->as_mask() : std::nullopt;
        const Var masked = mask ? transforms[i]->apply_masked(context, *this, weight, *mask) : Var();
        i += masked.defined();
        weight = masked.defined() ? masked : transforms[i]->apply(context, *this, weight);
    }
    if (cacheable) {
        cache_ = weight.value();
        cache_key_ = std::move(key);
    }
    return weight;
}

}  // namespace bitloom
