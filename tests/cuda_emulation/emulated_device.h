#pragma once
// The device cuda:0 of the emulation: host memory, the kernel tables of cuda/ops.

#include "engine/device.h"

namespace bitloom::cuda::test {

inline constexpr Device emulated_gpu{DeviceKind::cuda, 0};

/// Registers memory and kernels of cuda:0; needed once, further calls do nothing.
void install_emulation();
/// Steps captured so far.
int captured_steps();

}  // namespace bitloom::cuda::test
