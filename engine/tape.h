#pragma once
// Reverse-mode automatic differentiation: a tape of nodes, each a saved-state closure in an arena that `reset` rewinds.

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

#include "engine/tensor.h"

namespace bitloom {

class Tape;
class Parameter;

/// A tensor on a tape. Cheap to copy. Without a gradient slot it is a constant: nothing is recorded through it.
class Var {
   public:
    Var() = default;
    Var(Tape& tape, Tensor value, int slot = -1) : value_(std::move(value)), tape_(&tape), slot_(slot) {}

    const Tensor& value() const { return value_; }
    const Shape& shape() const { return value_.shape(); }
    std::int64_t dim(int axis) const { return value_.dim(axis); }
    DType dtype() const { return value_.dtype(); }
    Device device() const { return value_.device(); }
    bool defined() const { return tape_ != nullptr; }
    bool requires_grad() const { return slot_ >= 0; }
    Tape& tape() const;
    int slot() const { return slot_; }
    /// Which traced call produced it (engine/graph.h); -1 for inputs and outside a trace.
    int producer = -1;

   private:
    Tensor value_;
    Tape* tape_ = nullptr;
    int slot_ = -1;
};

/// What a node's backward sees.
class BackwardContext {
   public:
    /// d loss / d output, of the output's shape.
    const Tensor& grad() const { return grad_; }
    /// Whether input i wants a gradient; a backward skips the work for those that do not.
    bool needs(int i) const { return inputs_[i] >= 0; }
    /// Hands over d loss / d input i. The first is kept as it is, later ones are added.
    void give(int i, Tensor gradient);

   private:
    friend class Tape;
    BackwardContext(Tape& tape, Tensor grad, const int* inputs) : tape_(tape), grad_(std::move(grad)), inputs_(inputs) {}
    Tape& tape_;
    Tensor grad_;
    const int* inputs_;
};

/// Records the nodes of one forward pass and runs them backward. Not thread-safe: one tape a thread.
class Tape {
   public:
    enum class Mode {
        training,  ///< record
        inference  ///< record nothing; intermediate tensors die with their Vars
    };
    explicit Tape(Mode mode = Mode::training) : mode_(mode), generation_(next_generation()) {}
    Tape(const Tape&) = delete;
    Tape& operator=(const Tape&) = delete;
    ~Tape() { reset(); }

    bool recording() const { return mode_ == Mode::training; }

    /// Puts a tensor on the tape; with `requires_grad`, `grad` gives its gradient after `backward`.
    Var input(Tensor value, bool requires_grad = false);
    /// Puts a parameter on the tape as a leaf; a second call in one pass returns the same slot.
    Var leaf(Parameter& parameter);
    /// A constant: no gradient flows.
    Var constant(Tensor value) { return Var(*this, std::move(value)); }

    /// Records one operation and returns its output. `backward(BackwardContext&)` owns what it saves by value; it is
    /// called at most once, and only when some input needs a gradient. This is also the custom-gradient call: any forward
    /// result can be paired with any backward rule (ARCHITECTURE.md, decision 10).
    template <class Backward>
    Var record(std::string_view op, std::span<const Var> inputs, Tensor output, Backward&& backward) {
        if (!wants_node(inputs)) return Var(*this, std::move(output));
        using F = std::decay_t<Backward>;
        void* memory = arena_.allocate(sizeof(F), alignof(F));
        F* closure = new (memory) F(std::forward<Backward>(backward));
        return add_node(
            op, inputs, std::move(output), closure, [](void* f, BackwardContext& c) { (*static_cast<F*>(f))(c); },
            [](void* f) { static_cast<F*>(f)->~F(); });
    }
    template <class Backward>
    Var record(std::string_view op, std::initializer_list<Var> inputs, Tensor output, Backward&& backward) {
        return record(op, std::span<const Var>(inputs.begin(), inputs.size()), std::move(output),
                      std::forward<Backward>(backward));
    }
    /// True where some input carries a gradient and the tape records, so that an op need save nothing otherwise.
    bool wants_node(std::span<const Var> inputs) const;
    bool wants_node(std::initializer_list<Var> inputs) const {
        return wants_node(std::span<const Var>(inputs.begin(), inputs.size()));
    }

    /// Runs the tape backward from `output`, seeded with `seed` (default: ones; `output` is then usually a scalar loss).
    /// Parameters receive their gradients (overwritten, or added with `accumulate`); saved tensors are freed as nodes finish.
    void backward(const Var& output, Tensor seed = {}, bool accumulate = false);
    /// Gradient of an input put on the tape with `requires_grad`; undefined where none flowed.
    const Tensor& grad(const Var& input) const;

    /// Forgets the pass; the arena's memory is kept for the next one.
    void reset();
    int node_count() const { return static_cast<int>(nodes_.size()); }
    std::string_view node_op(int i) const { return nodes_[i].op; }

   private:
    friend class BackwardContext;
    struct Node {
        std::string_view op;
        void* closure;
        void (*run)(void*, BackwardContext&);
        void (*destroy)(void*);
        const int* inputs;  // slots, -1 where no gradient is wanted
        int output;
    };
    struct Slot {
        Tensor grad;
        bool keep = false;            // an input or a leaf: its gradient survives the pass
        Parameter* parameter = nullptr;
    };
    /// Bump allocator in chunks that reset() rewinds.
    class Arena {
       public:
        void* allocate(std::size_t bytes, std::size_t alignment);
        void rewind() { chunk_ = 0, used_ = 0; }

       private:
        static constexpr std::size_t chunk_bytes = 1 << 16;
        std::vector<std::unique_ptr<std::byte[]>> chunks_;
        std::size_t chunk_ = 0;
        std::size_t used_ = 0;
    };

    Var add_node(std::string_view op, std::span<const Var> inputs, Tensor output, void* closure,
                 void (*run)(void*, BackwardContext&), void (*destroy)(void*));
    int new_slot(bool keep, Parameter* parameter);
    void add_gradient(int slot, Tensor gradient);
    void destroy(Node& node);

    Mode mode_;
    Arena arena_;
    std::vector<Node> nodes_;
    std::vector<Slot> slots_;
    /// Unique over the program's life: a tape may come to lie where another one lay.
    static std::uint64_t next_generation();
    std::uint64_t generation_;  // of leaf(): another one after reset()
};

}  // namespace bitloom
