#pragma once
// Kernels of the optimizers: one call updates all parameters of a step. One table a device.

#include <cstdint>
#include <span>

#include "engine/device.h"
#include "engine/dtype.h"
#include "engine/kernel_list.h"

namespace bitloom {

/// Whose formulas an optimizer follows where PyTorch and Keras differ.
enum class Convention { pytorch, keras };

/// One parameter in one step. Memory of the table's device; value, gradient and state have `count` elements of `dtype`
/// (f32 or f64).
struct OptimRow {  // trivially copyable: devices copy it
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

/// The rows of one step.
struct OptimRows {
    OptimRows(std::span<const OptimRow> rows) : host(rows) {}
    auto begin() const { return host.begin(); }
    auto end() const { return host.end(); }

    std::span<const OptimRow> host;
    Device where = cpu_device;  ///< of all values, gradients and states
    /// The same rows in the memory of a device that is not the host's, null elsewhere. Of what changes from step to
    /// step (learning_rate, step) only these are up to date where a captured step is replayed.
    const OptimRow* device = nullptr;
    /// One number in that memory, or null: where it is not 0, the loss was not finite and nothing may be updated.
    const std::int32_t* halted = nullptr;
};

struct OptimKernels {
    void (*sgd)(const OptimRows& rows, const SgdSettings& settings);
    void (*adam)(const OptimRows& rows, const AdamSettings& settings);
    void (*rmsprop)(const OptimRows& rows, const RmspropSettings& settings);
};

/// Every kernel of the table, for lists of what a backend lacks.
inline constexpr auto optim_kernel_list =
    std::tuple{NamedKernel{"sgd", &OptimKernels::sgd}, NamedKernel{"adam", &OptimKernels::adam},
               NamedKernel{"rmsprop", &OptimKernels::rmsprop}};
static_assert(sizeof(OptimKernels) == std::tuple_size_v<decltype(optim_kernel_list)> * sizeof(void*),
              "list a new kernel here too");

/// The table of a device. Throws Error for a backend that is not installed.
const OptimKernels& optim_kernels(Device device);
void register_optim_kernels(DeviceKind kind, const OptimKernels& table);

extern const OptimKernels cpu_optim_kernels;        ///< one OpenMP region a step
extern const OptimKernels reference_optim_kernels;  ///< plain loops

}  // namespace bitloom
