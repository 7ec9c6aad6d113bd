#pragma once
// AutoQKeras (Coelho et al., arXiv:2006.10159; svhn-qkeras.md, section 5.8): a search over the quantizers of each layer and
// the width of the layers, scored by accuracy and cost.

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "quant/cost/energy.h"
#include "quant/cost/forgiving_factor.h"
#include "quant/cost/network.h"
#include "quant/search/space.h"

namespace bitloom::search {

/// Quantizers by what they quantize, each with the bits that limits compare.
struct QuantizerLists {
    using List = std::vector<std::pair<std::string, int>>;
    List kernel, bias, activation, linear;

    static QuantizerLists published();  ///< of the SVHN experiment
    static QuantizerLists older();      ///< of its first version
    static QuantizerLists qkeras();     ///< QKeras' own default
};

/// A bound in bits, or the quantizers to choose from.
struct Limit {
    int bits = 8;
    std::vector<std::string> quantizers{};
};

using Limits = std::vector<std::pair<std::string, std::vector<Limit>>>;

enum class FilterTuning { none, layer, block };
enum class CostGoal { bits, energy };

struct AutoqOptions {
    QuantizerLists quantizers = QuantizerLists::published();
    /// By layer name, by regular expression that matches a name from its start (its layers then share one choice), or by
    /// class (Dense, Conv2D, DepthwiseConv2D, Activation): kernel, bias, activation; of activations one. "default" fills
    /// short lists (8 bits where there is none). A layer without an entry stays float.
    Limits limits{
        {"Dense", {{8}, {8}, {8}}}, {"Conv2D", {{8}, {8}, {8}}}, {"Activation", {{8}}}};
    FilterTuning tune_filters = FilterTuning::layer;
    std::string filter_exceptions = "output*";  ///< regular expression, searched in the name
    std::string layers = ".*";                  ///< regular expression of the names that are touched at all
    bool all_layers = false;  ///< the source's behaviour: kernels outside of `layers` are registered too, without effect
    bool tune_learning_rate = false;

    CostGoal goal = CostGoal::energy;
    cost::ForgivingFactor factor{4, 4, 2, 1};
    cost::QToolsOptions reference{.source = cost::float_type(16),
                                  .keras_quantizer = cost::float_type(16),
                                  .keras_accumulator = cost::float_type(16),
                                  .for_reference = true};
    cost::QToolsOptions trial{.source = cost::float_type(16),
                              .keras_quantizer = cost::float_type(16),
                              .keras_accumulator = cost::float_type(16)};
    cost::EnergyOptions energy{.least_sram_bits = 0};

    static AutoqOptions published();
    static AutoqOptions older();
};

/// Lists of one's own (QKeras' quantization_config): {"kernel": {"ternary": 2, "quantized_bits(3,0,1)": 3}, "activation":
/// {...}}, bits by quantizer in each of kernel, bias, activation and linear; a list that is left out is that of `others`. Throws
/// UsageError in one line that names the entry.
QuantizerLists quantizer_lists_from_json(const std::string& json, QuantizerLists others);

/// Limits as text: {"conv_0": [4, 8], "Dense": [["binary()", "ternary()"], 8]}, a list a layer with a bound in bits or
/// a list of quantizers for each of its fields. Throws UsageError in one line that names the entry.
Limits limits_from_json(const std::string& json);

/// What a set of values makes of a network.
struct QuantizedPlan {
    std::map<std::string, std::string> kernel, bias, activation;  ///< quantizers by layer
    std::map<std::string, double> filters;                        ///< factors by layer, where not 1
    int learning_rate = -1;                                       ///< index of 0 to 4; -1: as it is
    bool empty() const { return kernel.empty() && activation.empty() && filters.empty(); }
    /// Entries of `other` are added; it wins.
    void merge(const QuantizedPlan& other);
};

/// The hyperparameters of a float network. Throws UsageError for limits that name no quantizer of the lists, or leave
/// nothing to choose, and for malformed regular expressions.
Space autoq_space(const cost::CostNetwork& network, const AutoqOptions& options);
/// Whether the width of a layer is among them, by itself or in a block.
bool tunes_filters(const cost::CostLayer& layer, const AutoqOptions& options);
QuantizedPlan plan_of(const cost::CostNetwork& network, const AutoqOptions& options, const Values& values);

/// max(int(width * factor), 1)
std::int64_t scaled_width(std::int64_t width, double factor);
/// Dictionary of model_quantize: {"conv_0": {"kernel_quantizer": ...}, "conv_act_0": ...}.
std::string dictionary_of(const QuantizedPlan& plan);
/// The network with the types of the plan's quantizers. Widths are those of `network`.
cost::CostNetwork with_plan(cost::CostNetwork network, const QuantizedPlan& plan);

/// Cost of a float network as the reference (stress is not in it), and of a quantized one.
double reference_cost(const cost::CostNetwork& network, const AutoqOptions& options);
double trial_cost(const cost::CostNetwork& network, const AutoqOptions& options);
/// The five rates of the learning-rate option: rate * linspace(1 + min(0, (trial - reference) / reference), 1.1, 5).
std::vector<double> learning_rates(double rate, double reference, double trial);

struct Block {
    std::string pattern;
    std::vector<std::string> layers;
    double cost = 0;  ///< of its layers in the reference
    std::int64_t most_trials = 0;
};
/// Layers grouped by regular expressions that match their names from the start, each in the first block that takes it;
/// blocks without layers are left out. By falling cost, or in the given order. most_trials = int(max(10, trials * cost /
/// (reference * stress))).
std::vector<Block> make_blocks(const cost::CostNetwork& network, const AutoqOptions& options,
                               const std::vector<std::string>& patterns, bool by_cost, std::int64_t trials);

}  // namespace bitloom::search
