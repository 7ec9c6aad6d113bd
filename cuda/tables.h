#pragma once
// The kernel tables that cuda::install registers, each filled where its kernels are.

#include "engine/kernels.h"
#include "engine/optim/kernels.h"
#include "engine/training_kernels.h"
#include "ops/kernels.h"

namespace bitloom::cuda {

const EngineKernels& engine_kernel_table();      // cuda/engine_kernels.cu
const TrainingKernels& training_kernel_table();  // cuda/training/table.cpp
const ops::OpKernels& op_kernel_table();         // cuda/op_table.cpp
const OptimKernels& optim_kernel_table();        // cuda/ops/optimizer.cu

void copy_bytes(const Tensor& source, Tensor& target);  // cuda/copies.cpp; of EngineKernels

}  // namespace bitloom::cuda
