#pragma once
// The networks by name.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/module.h"
#include "models/options.h"

namespace bitloom {

/// The names that make_model knows, of ResNets ("resnet<depth>", depth 6n + 2 in 8..1202) the usual depths only.
const std::vector<std::string>& model_names();
/// Whether make_model knows the name, listed or not.
bool is_model_name(const std::string& name);
/// One line on a network. Throws UsageError for an unknown name.
const std::string& model_summary(const std::string& name);

/// The options with the network's defaults in place of what was left open. Throws UsageError for an unknown name, an
/// option that the network does not have, or a value out of bounds.
ModelOptions resolve(ModelOptions options);

/// Builds the network with paths assigned and initial values drawn from `seed` (f32, on the CPU). Its input is
/// [N, H, W, C], its output logits [N, classes]. Throws UsageError as `resolve` does.
std::unique_ptr<Module> make_model(const ModelOptions& options, std::uint64_t seed = 1);

/// JSON of the resolved options: {"name": "resnet20", "input": [32, 32, 3], "classes": 10, "variant": "B"}.
std::string describe(const ModelOptions& options);
/// Reads what describe wrote. Throws Error in one line for anything else.
ModelOptions model_options_from_json(const std::string& json);
std::unique_ptr<Module> make_model_from_json(const std::string& json, std::uint64_t seed = 1);

/// Values in parameters, and in all of the network as Keras counts it (moving averages included, counters not).
struct ParameterCounts {
    std::int64_t trainable = 0, total = 0;
};
ParameterCounts count_parameters(Module& network);

}  // namespace bitloom
