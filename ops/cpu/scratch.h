#pragma once
// Scratch memory of threads that work side by side.

#include "engine/tensor.h"

namespace bitloom::ops::cpu {

/// Memory for `parts` threads, `size` values each. Between them lies a gap that nobody touches: processors fetch ahead
/// of what a thread reads and writes at a stride, and lines of a neighbour that are fetched like that must be won back
/// at every write. (Two threads side by side were as slow as one, with strides of up to 4 KiB and a gap of 8 KiB.)
template <class T>
class ScratchParts {
   public:
    ScratchParts(int parts, std::int64_t size)
        : memory_(Tensor::empty({parts, size + (parts > 1 ? gap : 0)}, dtype_of<T>())), first_(memory_.write<T>()) {}
    T* part(int i) const { return first_ + i * memory_.dim(1); }

   private:
    static constexpr std::int64_t gap = (std::int64_t{128} << 10) / static_cast<std::int64_t>(sizeof(T));
    Tensor memory_;
    T* first_;
};

}  // namespace bitloom::ops::cpu
