#pragma once
// How a backend declares its kernels: by the table's own types, so that each signature stands in the table alone (ops/kernels.h,
// quant/kernels.h).

#include "ops/kernels.h"

namespace bitloom::ops {

namespace detail {
template <class>
struct FunctionOf;
template <class F, class Table>
struct FunctionOf<F* Table::*> {
    using type = F;
};
}  // namespace detail

/// The type of the function that a member of the table points to: `KernelFunction<&OpKernels::dropout> dropout;`.
template <auto member>
using KernelFunction = typename detail::FunctionOf<decltype(member)>::type;

}  // namespace bitloom::ops
