#include "engine/module.h"

#include <algorithm>

namespace bitloom {

namespace {
std::string join(const std::string& prefix, std::string_view name) {
    return prefix.empty() ? std::string(name) : prefix + "." + std::string(name);
}
}  // namespace

Var Module::call(Context& context, std::span<const Var> inputs) {
    // An observer sees leaves, and any module whose forward a transform replaced (its children then do not run).
    const bool observed = context.observer && (is_leaf() || layer_transform);
    if (observed) context.observer->before_call(*this, inputs);
    Var output;
    if (layer_transform) {
        output = layer_transform->forward(context, *this, inputs);
    } else if (activation_transform) {
        require(inputs.size() == 1, path_, ": an activation transform needs one input, got ", inputs.size());
        output = activation_transform->apply(context, *this, inputs[0]);
    } else {
        output = forward(context, inputs);
    }
    if (output_transform) output = output_transform->apply(context, *this, output);
    if (observed) context.observer->after_call(*this, inputs, output);
    return output;
}

Module& Module::at(std::string_view path) {
    Module* module = this;
    std::string_view rest = path;
    while (!rest.empty()) {
        const std::string_view head = rest.substr(0, rest.find('.'));
        const auto found = std::find_if(module->children_.begin(), module->children_.end(),
                                        [&](const auto& child) { return child.first == head; });
        require(found != module->children_.end(), "module: no '", head, "' in '", module->path_, "' (looking for '", path,
                "')");
        module = found->second;
        rest = head.size() == rest.size() ? std::string_view() : rest.substr(head.size() + 1);
    }
    return *module;
}

/// Calls f(path, Parameter* or nullptr, Tensor* or nullptr) for everything the tree owns, in checkpoint order.
template <class F>
void Module::visit_state(const std::string& prefix, F&& f) {
    const auto visit_transform = [&](const std::string& owner, Transform* transform) {
        if (!transform) return;
        TransformState state = transform->state();
        const std::string base = join(owner, transform->name());
        for (auto& [name, parameter] : state.parameters) f(join(base, name), parameter, nullptr);
        for (auto& [name, buffer] : state.buffers) f(join(base, name), nullptr, buffer);
    };
    for (auto& [name, parameter] : parameters_) {
        const std::string path = join(prefix, name);
        f(path, parameter, nullptr);
        for (const auto& transform : parameter->transforms) visit_transform(path, transform.get());
    }
    for (auto& [name, buffer] : buffers_) f(join(prefix, name), nullptr, buffer);
    visit_transform(prefix, layer_transform.get());
    visit_transform(prefix, activation_transform.get());
    visit_transform(join(prefix, "output"), output_transform.get());
    for (auto& [name, child] : children_) child->visit_state(join(prefix, name), f);
}

std::vector<std::pair<std::string, Parameter*>> Module::named_parameters() {
    std::vector<std::pair<std::string, Parameter*>> found;
    visit_state("", [&](const std::string& path, Parameter* parameter, Tensor*) {
        if (parameter) found.emplace_back(path, parameter);
    });
    return found;
}

std::vector<std::pair<std::string, Tensor*>> Module::named_buffers() {
    std::vector<std::pair<std::string, Tensor*>> found;
    visit_state("", [&](const std::string& path, Parameter*, Tensor* buffer) {
        if (buffer) found.emplace_back(path, buffer);
    });
    return found;
}

std::vector<Module*> Module::modules() {
    std::vector<Module*> all{this};
    for (auto& [name, child] : children_) {
        const std::vector<Module*> below = child->modules();
        all.insert(all.end(), below.begin(), below.end());
    }
    return all;
}

std::int64_t Module::parameter_count() {
    std::int64_t count = 0;
    for (auto& [path, parameter] : named_parameters()) count += parameter->value.numel();
    return count;
}

void Module::to(Device device) {
    visit_state("", [&](const std::string&, Parameter* parameter, Tensor* buffer) {
        Tensor& t = parameter ? parameter->value : *buffer;
        t = t.to(device);
        if (parameter) parameter->grad = Tensor();
    });
}

void Module::to(DType dtype) {
    visit_state("", [&](const std::string&, Parameter* parameter, Tensor* buffer) {
        Tensor& t = parameter ? parameter->value : *buffer;
        if (is_floating(t.dtype())) t = t.to(dtype);
        if (parameter) parameter->grad = Tensor();
    });
}

void Module::assign_paths(const std::string& prefix) {
    path_ = prefix;
    for (auto& [name, parameter] : parameters_) parameter->path = join(prefix, name);
    for (auto& [name, child] : children_) child->assign_paths(join(prefix, name));
}

void Module::register_parameter(std::string name, Parameter& parameter) {
    if (parameter.value.defined()) parameters_.emplace_back(std::move(name), &parameter);
}
void Module::register_buffer(std::string name, Tensor& buffer) { buffers_.emplace_back(std::move(name), &buffer); }
void Module::register_child(std::string name, Module& child) {
    for (const auto& [existing, other] : children_)
        require(existing != name, "module: two children of ", type(), " are called '", name, "'");
    children_.emplace_back(std::move(name), &child);
}
Module& Module::adopt(std::string name, std::unique_ptr<Module> child) {
    Module& reference = *child;
    owned_.push_back(std::move(child));
    register_child(std::move(name), reference);
    return reference;
}

}  // namespace bitloom
