#pragma once
// Times work on a GPU, to choose between ways to do it.

#include <functional>

#include "engine/device.h"

namespace bitloom::cuda {

/// Milliseconds of one call of `work` on the calling thread's stream: the least of a few, after one to warm up.
double milliseconds(Device device, const std::function<void()>& work);

}  // namespace bitloom::cuda
