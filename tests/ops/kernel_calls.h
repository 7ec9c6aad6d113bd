#pragma once
// One call at least of every kernel of the table, with operands in guarded memory.

#include <functional>
#include <string>
#include <vector>

#include "ops/kernels.h"
#include "tests/ops/guarded_memory.h"

namespace bitloom::ops::test {

struct Call {
    std::string kernel;  ///< a name of for_each_kernel
    std::string detail;
    std::function<void(const OpKernels&, GuardedMemory&)> run;
};

std::vector<Call> all_calls();

/// Makes all calls of a table of kernels that work on host memory: outputs are written whole, nothing beside them, no input
/// is changed, and no result depends on memory beyond an input. Losses are left out in bf16: they are f32.
void expect_guards_untouched(const OpKernels& table, DType dtype, Device device);

}  // namespace bitloom::ops::test
