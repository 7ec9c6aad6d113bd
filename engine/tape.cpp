#include "engine/tape.h"

#include <atomic>

#include "engine/kernels.h"
#include "engine/parameter.h"

namespace bitloom {

Tape& Var::tape() const {
    require(defined(), "var: used before it was put on a tape");
    return *tape_;
}

void BackwardContext::give(int i, Tensor gradient) {
    if (inputs_[i] >= 0) tape_.add_gradient(inputs_[i], std::move(gradient));
}

void* Tape::Arena::allocate(std::size_t bytes, std::size_t alignment) {
    require(bytes <= chunk_bytes, "tape: a node saves ", bytes, " bytes by value, more than a chunk holds");
    std::size_t start = (used_ + alignment - 1) / alignment * alignment;
    if (chunks_.empty() || start + bytes > chunk_bytes) {
        if (!chunks_.empty()) ++chunk_;
        start = 0;
    }
    if (chunk_ >= chunks_.size()) chunks_.push_back(std::make_unique<std::byte[]>(chunk_bytes));
    used_ = start + bytes;
    return chunks_[chunk_].get() + start;
}

Var Tape::input(Tensor value, bool requires_grad) {
    const int slot = requires_grad && recording() ? new_slot(true, nullptr) : -1;
    return Var(*this, std::move(value), slot);
}

Var Tape::leaf(Parameter& parameter) {
    if (!recording() || !parameter.trainable) return Var(*this, parameter.value);
    if (parameter.tape_ != this || parameter.tape_generation_ != generation_) {
        parameter.tape_ = this;
        parameter.tape_generation_ = generation_;
        parameter.tape_slot_ = new_slot(true, &parameter);
    }
    return Var(*this, parameter.value, parameter.tape_slot_);
}

bool Tape::wants_node(std::span<const Var> inputs) const {
    if (!recording()) return false;
    for (const Var& v : inputs)
        if (v.requires_grad()) return true;
    return false;
}

Var Tape::add_node(std::string_view op, std::span<const Var> inputs, Tensor output, void* closure,
                   void (*run)(void*, BackwardContext&), void (*destroy)(void*)) {
    int* slots = static_cast<int*>(arena_.allocate(sizeof(int) * inputs.size(), alignof(int)));
    for (std::size_t i = 0; i < inputs.size(); ++i) slots[i] = inputs[i].slot();
    const int slot = new_slot(false, nullptr);
    nodes_.push_back({op, closure, run, destroy, slots, slot});
    return Var(*this, std::move(output), slot);
}

int Tape::new_slot(bool keep, Parameter* parameter) {
    slots_.push_back({Tensor(), keep, parameter});
    return static_cast<int>(slots_.size()) - 1;
}

void Tape::add_gradient(int slot, Tensor gradient) {
    Tensor& sum = slots_[slot].grad;
    if (!sum.defined()) {
        sum = std::move(gradient);
        return;
    }
    // One storage may be the gradient of several slots (both inputs of an addition): only an unshared one is written.
    if (!sum.unique() && gradient.unique()) std::swap(sum, gradient);
    if (!sum.unique()) sum = sum.clone();
    engine_kernels(sum.device()).add(sum, gradient);
}

void Tape::destroy(Node& node) {
    if (!node.closure) return;
    node.destroy(node.closure);
    node.closure = nullptr;
}

void Tape::backward(const Var& output, Tensor seed, bool accumulate) {
    require(output.requires_grad(), "backward: the output depends on no parameter and on no input with requires_grad");
    if (!seed.defined()) seed = Tensor::full(output.shape(), 1.0, output.dtype(), output.device());
    require(seed.shape() == output.shape(), "backward: seed has shape ", seed.shape(), ", output ", output.shape());
    add_gradient(output.slot(), std::move(seed));
    for (std::size_t i = nodes_.size(); i-- > 0;) {
        Node& node = nodes_[i];
        Slot& slot = slots_[node.output];
        if (slot.grad.defined() && node.closure) {
            BackwardContext context(*this, slot.keep ? slot.grad : std::move(slot.grad), node.inputs);
            node.run(node.closure, context);
        }
        destroy(node);
        if (!slots_[node.output].keep) slots_[node.output].grad = Tensor();
    }
    for (Slot& slot : slots_) {
        if (!slot.parameter || !slot.grad.defined()) continue;
        Tensor& grad = slot.parameter->grad;
        if (accumulate && grad.defined()) {
            engine_kernels(grad.device()).add(grad, slot.grad);
            slot.grad = Tensor();
        } else {
            grad = std::move(slot.grad);
        }
    }
}

const Tensor& Tape::grad(const Var& input) const {
    require(input.requires_grad(), "grad: the variable was not put on the tape with requires_grad");
    return slots_[input.slot()].grad;
}

std::uint64_t Tape::next_generation() {
    static std::atomic<std::uint64_t> last{0};
    return ++last;
}

void Tape::reset() {
    for (Node& node : nodes_) destroy(node);
    nodes_.clear();
    slots_.clear();
    arena_.rewind();
    generation_ = next_generation();
}

}  // namespace bitloom
