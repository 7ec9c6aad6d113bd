#pragma once
// Kernels of the optimizers: one call updates all parameters of a step. One table a device.

#include <cstdint>
#include <span>

#include "engine/device.h"
#include "engine/dtype.h"

namespace bitloom {

/// Whose formulas an optimizer follows where PyTorch and Keras differ.
enum class Convention { pytorch, keras };

/// One parameter in one step. Memory of the table's device; value, gradient and state have `count` elements of `dtype`
/// (f32 or f64).
struct OptimRow {
    static constexpr int max_slots = 3;
    DType dtype = DType::f32;
    std::int64_t count = 0;
    void* value = nullptr;
    const void* gradient = nullptr;
    void* state[max_slots] = {};  ///< in the order of Optimizer::slots; all zeros before the parameter's first step
    double learning_rate = 0;
    double weight_decay = 0;  ///< L2, added to the gradient
    std::int64_t step = 0;    ///< from 1; the parameter's own steps (pytorch) or the optimizer's (keras)
};

/// state[0]: momentum buffer, absent without momentum.
struct SgdSettings {
    double momentum = 0;
    bool nesterov = false;
    Convention convention = Convention::pytorch;
};
/// state[0]: exp_avg, state[1]: exp_avg_sq, state[2]: max_exp_avg_sq (AMSGrad).
struct AdamSettings {
    double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
    bool amsgrad = false;
    Convention convention = Convention::pytorch;
};
/// state[0]: square_avg, state[1]: momentum buffer, absent without momentum.
struct RmspropSettings {
    double rho = 0.9, momentum = 0, epsilon = 1e-7;
    Convention convention = Convention::keras;
};

struct OptimKernels {
    void (*sgd)(std::span<const OptimRow> rows, const SgdSettings& settings);
    void (*adam)(std::span<const OptimRow> rows, const AdamSettings& settings);
    void (*rmsprop)(std::span<const OptimRow> rows, const RmspropSettings& settings);
};

/// The table of a device. Throws Error for a backend that is not installed.
const OptimKernels& optim_kernels(Device device);
void register_optim_kernels(DeviceKind kind, const OptimKernels& table);

extern const OptimKernels cpu_optim_kernels;        ///< one OpenMP region a step
extern const OptimKernels reference_optim_kernels;  ///< plain loops

}  // namespace bitloom
