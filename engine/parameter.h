#pragma once
// Parameter: a named leaf of the tape, with its gradient, its optimizer group, its projection and its weight transforms.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/tensor.h"
#include "engine/transform.h"

namespace bitloom {

class Parameter {
   public:
    Parameter() = default;
    explicit Parameter(Tensor initial) : value(std::move(initial)) {}
    Parameter(const Parameter&) = delete;
    Parameter& operator=(const Parameter&) = delete;

    std::string path;  ///< dotted name in the module tree, "stage2.block0.conv1.weight"; set by Module::assign_paths
    Tensor value;
    Tensor grad;            ///< of value's shape after Tape::backward; undefined where no gradient flowed
    int group = 0;          ///< optimizer group
    bool trainable = true;  ///< false freezes it: no gradient, no step, no decay
    std::function<void(Parameter&)> projection;  ///< run after every optimizer step; may read other tensors
    std::vector<std::shared_ptr<WeightTransform>> transforms;

    /// The value that layers use: the leaf sent through the transforms. Without a recording tape it is cached under the
    /// versions of the leaf and of the transforms' state.
    Var effective(Context& context);
    /// Removes every transform.
    void detach() { transforms.clear(), cache_ = Tensor(); }

   private:
    friend class Tape;
    std::vector<std::uint64_t> fingerprint() const;
    Tape* tape_ = nullptr;
    std::uint64_t tape_generation_ = 0;
    int tape_slot_ = -1;
    Tensor cache_;
    std::vector<std::uint64_t> cache_key_;
};

}  // namespace bitloom
