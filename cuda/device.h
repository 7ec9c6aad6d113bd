#pragma once
// Which GPUs there are, and what to say where one cannot be used.

#include <string>

namespace bitloom::cuda {

/// What driver and runtime say about this machine.
struct Survey {
    int driver_version = 0;   ///< 1000 major + 10 minor of the newest CUDA the driver serves; 0: there is no driver
    int runtime_version = 0;  ///< of the runtime in this build
    int gpus = 0;
    std::string error;  ///< of counting the GPUs; empty where that worked
};
Survey survey();
/// Why GPU `index` cannot be used, in one line that starts with "device cuda:<index>: "; empty where it can.
std::string problem_with(const Survey& machine, int index);
/// The same for a GPU that is there but is older than what the kernels were compiled for. Capability 9.0 is (9, 0).
std::string problem_with(const std::string& name, int major, int minor, int index);

}  // namespace bitloom::cuda
