#pragma once
// A kernel that is written for full precision, made to serve bf16 activations too.

#include <tuple>
#include <type_traits>
#include <utility>

#include "engine/tensor.h"

namespace bitloom::ops {

namespace detail {

template <class Arg>
constexpr bool is_tensor = std::is_same_v<std::remove_cv_t<std::remove_pointer_t<std::remove_cvref_t<Arg>>>, Tensor>;

/// The tensor behind an argument; null where an optional one is missing or the argument is none.
template <class Arg>
auto* tensor_of(Arg& argument) {
    if constexpr (!is_tensor<Arg>)
        return static_cast<const Tensor*>(nullptr);
    else if constexpr (std::is_pointer_v<std::remove_cvref_t<Arg>>)
        return argument;
    else
        return &argument;
}

template <class Arg>
bool holds_bf16(Arg& argument) {
    const Tensor* tensor = tensor_of(argument);
    return tensor && tensor->dtype() == DType::bf16;
}

/// One argument while the wide kernel runs: floating-point tensors have stand-ins of the wide type, which are rounded
/// back where the kernel writes.
template <class Arg>
class Stand {
   public:
    static constexpr bool writes =
        is_tensor<Arg> && !std::is_const_v<std::remove_pointer_t<std::remove_reference_t<Arg>>>;

    Stand(Arg argument, DType wide) : argument_(static_cast<Arg>(argument)) {
        if constexpr (is_tensor<Arg>) {
            auto* tensor = tensor_of(argument_);
            if (!tensor || !is_floating(tensor->dtype())) return;
            if constexpr (writes)
                wide_ = Tensor::empty(tensor->shape(), wide, tensor->device());
            else
                wide_ = tensor->to(wide);
        }
    }
    Arg argument() {
        if constexpr (!is_tensor<Arg>) {
            return argument_;
        } else {
            if (!wide_.defined()) return argument_;
            if constexpr (std::is_pointer_v<Arg>)
                return &wide_;
            else
                return wide_;
        }
    }
    void finish() {
        if constexpr (writes)
            if (wide_.defined()) tensor_of(argument_)->copy_from(wide_);
    }

   private:
    Arg argument_;
    Tensor wide_;
};

template <auto kernel, DType wide, class Function>
struct Widened;
template <auto kernel, DType wide, class... Args>
struct Widened<kernel, wide, void (*)(Args...)> {
    static void run(Args... args) {
        if (!(holds_bf16(args) || ...)) return kernel(args...);
        std::tuple<Stand<Args>...> stands(Stand<Args>(args, wide)...);
        std::apply([](auto&... stand) { kernel(stand.argument()...); }, stands);
        std::apply([](auto&... stand) { (stand.finish(), ...); }, stands);
    }
};

}  // namespace detail

/// `kernel`, which computes in the type `wide`, as a kernel that takes bf16 tensors as well: then it runs on widened
/// copies and each floating-point output is rounded once, to its own type. Outputs must be written whole.
template <auto kernel, DType wide>
inline constexpr auto widened = &detail::Widened<kernel, wide, decltype(kernel)>::run;

}  // namespace bitloom::ops
