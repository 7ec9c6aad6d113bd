#pragma once
// The few kernels the engine itself needs, one table a device. (ops/kernels.h has those of the operations.)

#include "engine/tensor.h"

namespace bitloom {

struct EngineKernels {
    void (*fill)(Tensor& target, double value);
    void (*cast)(const Tensor& source, Tensor& target);        ///< same device and shape, other dtype
    void (*copy_bytes)(const Tensor& source, Tensor& target);  ///< same dtype and shape, between host and this device
    void (*add)(Tensor& target, const Tensor& source);         ///< target += source; floating-point types
    void (*scale)(Tensor& target, double factor);              ///< target *= factor; floating-point types
    bool (*all_finite)(const Tensor& tensor);                  ///< no NaN, no infinity
};

/// The table of a device. Throws Error for a backend that is not installed.
const EngineKernels& engine_kernels(Device device);
void register_engine_kernels(DeviceKind kind, const EngineKernels& table);

}  // namespace bitloom
