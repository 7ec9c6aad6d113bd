#pragma once
// One network on several devices: every kernel call and every layer of a training step, against plain loops in double.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/module.h"

namespace bitloom {

/// What came of one kernel or layer on one device.
struct DeviceFigures {
    Device device;
    bool missing = false;       ///< the device has no such kernel
    double error = 0;           ///< largest relative L2 distance of an output from the yardstick
    std::optional<bool> exact;  ///< on small integers, bit for bit the reference; none where sums of integers round
    double seconds = 0;         ///< of a call, the best of several
};

struct ComparedCall {
    std::string name;         ///< of the kernel; of a layer, its path
    std::string detail;       ///< shapes; of a layer, its type
    int calls = 1;            ///< in one step
    double accumulation = 1;  ///< terms of the longest sum
    double tolerance = 0;
    std::vector<DeviceFigures> figures;  ///< the devices in the order asked for
    bool passed(const DeviceFigures& f) const { return f.missing || (f.error <= tolerance && f.exact.value_or(true)); }
    bool passed() const;
};

struct ComparisonOptions {
    std::vector<Device> devices;     ///< compared with the yardstick; the first runs the step
    DType activations = DType::f32;  ///< f32 or bf16
    double tolerance = 1e-6;         ///< of fp32 by the length n of the sums: tolerance * sqrt(max(1, n / 1000))
    bool grows = true;               ///< false: the same for every length
    int repetitions = 5;             ///< of each timed call
    std::uint64_t seed = 1;
};

struct Comparison {
    std::vector<ComparedCall> kernels, layers;
};

/// Runs one training step (forward, cross-entropy on labels drawn at random, backward) on `images` [N, H, W, C] (f32,
/// host memory), repeats each kernel call of another name or shape on every device, and then each leaf module with its
/// inputs in that step. Yardstick: `reference` in double; for the kernels of quantizers, and layers with transforms, in
/// f32, since a tie moved by double precision is no error. The network's values are left as they were.
Comparison compare_backends(Module& network, const Tensor& images, std::int64_t classes,
                            const ComparisonOptions& options);

}  // namespace bitloom
