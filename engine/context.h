#pragma once
// What one forward pass carries from module to module.

#include <cstdint>
#include <span>

#include "engine/tape.h"

namespace bitloom {

class Module;

/// Sees every call of a leaf module: graph tracing, activation capture, profiling.
class CallObserver {
   public:
    virtual ~CallObserver() = default;
    /// Called before the module runs, so that a call's order is known even where it nests transforms.
    virtual void before_call(Module&, std::span<const Var> inputs) { (void)inputs; }
    /// May replace or tag the output.
    virtual void after_call(Module& module, std::span<const Var> inputs, Var& output) = 0;
};

/// One forward pass: its tape, whether it trains, and where its random numbers come from.
struct Context {
    Tape& tape;
    bool training = false;
    std::uint64_t seed = 0;  ///< of dropout and stochastic rounding: streams are (seed, module path, step)
    std::uint64_t step = 0;  ///< optimizer steps done so far
    CallObserver* observer = nullptr;
    /// Not null: the same number in the device's memory. A step that may be captured into a graph takes it from there.
    const std::uint64_t* device_step = nullptr;
};

}  // namespace bitloom
