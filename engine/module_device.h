#pragma once
// Where a network lies.

#include "engine/module.h"

namespace bitloom {

/// The device of its first parameter; the CPU for a network without any.
inline Device device_of(Module& network) {
    const auto parameters = network.named_parameters();
    return parameters.empty() ? cpu_device : parameters.front().second->value.device();
}

}  // namespace bitloom
