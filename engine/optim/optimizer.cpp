#include "engine/optim/optimizer.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace bitloom {

Optimizer::Optimizer(NamedParameters parameters, ParameterGroup group) : groups_{group} {
    require(group.learning_rate >= 0, "optimizer: negative learning rate ", group.learning_rate);
    require(group.weight_decay >= 0, "optimizer: negative weight decay ", group.weight_decay);
    std::unordered_set<const Parameter*> seen;
    for (auto& [path, parameter] : parameters) {
        require(parameter, "optimizer: parameter '", path, "' is null");
        if (seen.insert(parameter).second) parameters_.emplace_back(std::move(path), parameter);
    }
    state_.resize(parameters_.size());
    rows_.reserve(parameters_.size());
}

OptimRow Optimizer::make_row(std::size_t index, std::size_t slot_count) {
    auto& [path, parameter] = parameters_[index];
    Tensor& value = parameter->value;
    const Tensor& grad = parameter->grad;
    require(grad.shape() == value.shape() && grad.dtype() == value.dtype(), "optimizer: the gradient of ", path, " is ",
            name_of(grad.dtype()), grad.shape(), ", the parameter ", name_of(value.dtype()), value.shape());
    require(parameter->group >= 0 && parameter->group < static_cast<int>(groups_.size()), "optimizer: ", path,
            " is in group ", parameter->group, " of ", groups_.size());
    State& state = state_[index];
    while (state.slots.size() < slot_count) state.slots.push_back(Tensor::zeros_like(value));
    const ParameterGroup& group = groups_[static_cast<std::size_t>(parameter->group)];
    OptimRow row;
    row.dtype = value.dtype();
    row.count = value.numel();
    row.value = value.raw_write();
    row.gradient = grad.raw();
    for (std::size_t k = 0; k < slot_count; ++k) {
        require(state.slots[k].shape() == value.shape() && state.slots[k].dtype() == value.dtype(), "optimizer: ", path,
                " is now ", name_of(value.dtype()), value.shape(), ", its state ", name_of(state.slots[k].dtype()),
                state.slots[k].shape(), ": reset the state of a parameter that changes");
        row.state[k] = state.slots[k].raw_write();
    }
    row.learning_rate = group.learning_rate;
    row.weight_decay = group.weight_decay;
    ++state.steps;
    row.step = convention() == Convention::keras ? steps_ : state.steps;
    return row;
}

void Optimizer::step() {
    prepare();
    upload();
    apply();
}

void Optimizer::prepare() {
    ++steps_;
    rows_.clear();
    const std::size_t slot_count = slots().size();
    const Parameter* first = nullptr;
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        Parameter* parameter = parameters_[i].second;
        if (!parameter->trainable || !parameter->grad.defined()) continue;
        if (!first) first = parameter;
        require(parameter->value.device() == first->value.device() && parameter->grad.device() == first->value.device(),
                "optimizer: ", parameters_[i].first, " or its gradient is not on ", first->value.device(),
                " like the parameters before it");
        rows_.push_back(make_row(i, slot_count));
    }
    if (!first) return;
    device_ = first->value.device();
    // Room for all parameters, so that the address stays.
    const auto room = static_cast<std::int64_t>(parameters_.size() * sizeof(OptimRow));
    if (!device_.is_host() && (!device_rows_.defined() || device_rows_.device() != device_))
        device_rows_ = Tensor::empty({room}, DType::u8, device_);
}

void Optimizer::upload() {
    if (rows_.empty() || device_.is_host()) return;
    const auto bytes = static_cast<std::int64_t>(rows_.size() * sizeof(OptimRow));
    Tensor target = device_rows_.rows(0, bytes);
    target.copy_from(Tensor::wrap({bytes}, DType::u8, rows_.data()));
}

void Optimizer::apply() {
    if (!rows_.empty()) {
        OptimRows rows(rows_);
        rows.where = device_;
        if (!device_.is_host()) {
            rows.device = static_cast<const OptimRow*>(device_rows_.raw());
            rows.halted = halted_.defined() ? halted_.read<std::int32_t>() : nullptr;
        }
        update(optim_kernels(device_), rows);
    }
    for (auto& [path, parameter] : parameters_)
        if (parameter->projection && parameter->trainable) parameter->projection(*parameter);
}

void Optimizer::clear_gradients() {
    for (auto& [path, parameter] : parameters_) parameter->grad = Tensor();
}

void Optimizer::set_learning_rate(double rate) {
    for (ParameterGroup& group : groups_) group.learning_rate = rate;
}

std::vector<std::pair<std::string, Tensor>> Optimizer::state() const {
    std::vector<std::pair<std::string, Tensor>> all;
    const std::vector<std::string> names = slots();
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        const State& state = state_[i];
        if (state.steps == 0) continue;
        const std::string& path = parameters_[i].first;
        for (std::size_t k = 0; k < names.size(); ++k) all.emplace_back(path + "/" + names[k], state.slots[k]);
        all.emplace_back(path + "/step", Tensor::full({1}, static_cast<double>(state.steps), DType::f64));
    }
    return all;
}

void Optimizer::load_state(const std::vector<std::pair<std::string, Tensor>>& state, std::int64_t steps) {
    std::unordered_map<std::string, const Tensor*> given;
    for (const auto& [name, tensor] : state) given.emplace(name, &tensor);
    const auto take = [&](const std::string& name) {
        const auto found = given.find(name);
        require(found != given.end(), "optimizer: the saved state lacks '", name, "'");
        const Tensor* tensor = found->second;
        given.erase(found);
        return tensor;
    };
    const std::vector<std::string> names = slots();
    std::vector<State> loaded(parameters_.size());
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
        const auto& [path, parameter] = parameters_[i];
        if (!given.contains(path + "/step")) continue;
        loaded[i].steps = static_cast<std::int64_t>(take(path + "/step")->item());
        for (const std::string& name : names) {
            const Tensor& source = *take(path + "/" + name);
            require(source.shape() == parameter->value.shape(), "optimizer: saved state '", path, "/", name,
                    "' has shape ", source.shape(), ", the parameter ", parameter->value.shape());
            Tensor slot = Tensor::empty_like(parameter->value);
            slot.copy_from(source);
            loaded[i].slots.push_back(std::move(slot));
        }
    }
    if (!given.empty()) {
        const auto first = std::min_element(given.begin(), given.end(),
                                            [](const auto& a, const auto& b) { return a.first < b.first; });
        fail("optimizer: ", name(), " has no use for the saved state '", first->first, "'");
    }
    state_ = std::move(loaded);
    steps_ = steps;
}

void Optimizer::reset() {
    for (State& state : state_) state = State();
    steps_ = 0;
}

void Optimizer::reset(const Parameter& parameter) {
    for (std::size_t i = 0; i < parameters_.size(); ++i)
        if (parameters_[i].second == &parameter) state_[i] = State();
}

}  // namespace bitloom
