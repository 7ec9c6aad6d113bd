#pragma once
// A network as its costs see it: layers in order with shapes, edges and number types, but no values.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/module.h"
#include "quant/cost/data_type.h"

namespace bitloom::cost {

enum class LayerKind {
    convolution,
    depthwise_convolution,
    dense,
    batch_norm,
    activation,
    max_pool,
    global_max_pool,
    average_pool,
    global_average_pool,
    flatten,  ///< and other changes of shape or order, padding included
    add,
    subtract,
    multiply,
    maximum,
    minimum,
    concat,
    dropout
};

/// Number types of what a layer computes with. What is not set is not quantized.
struct LayerTypes {
    std::optional<DataType> kernel, bias;
    std::optional<DataType> activation;  ///< of the layer's own output, or of an activation layer
    std::optional<DataType> gamma, beta, mean, variance;
    std::optional<DataType> average;  ///< of the factor of an average pooling
    std::optional<std::pair<int, int>> scale_exponents;  ///< least and largest exponent of an auto_po2 kernel's scales
    std::int64_t distinct_weights = 0;                   ///< with trained weights; 0: not known
};

struct CostLayer {
    std::string name;
    LayerKind kind = LayerKind::flatten;
    bool quantized = false;  ///< a Q layer of QKeras: a quantizer that is not set is then the default one
    std::string activation;  ///< float activation of the layer, or of an activation layer; empty: linear
    std::vector<int> inputs;  ///< indices of the producing layers; -1: the network's input
    std::vector<Shape> input_shapes;  ///< without the batch
    Shape output_shape;               ///< without the batch
    Shape kernel;                     ///< HWIO ([h, w, c, multiplier] of depthwise ones), or [in, out]; else rank 0
    bool bias = false;                ///< of convolutions and dense layers
    Shape window;                     ///< of poolings, [h, w]
    LayerTypes types;

    bool has_kernel() const { return kernel.rank() > 0; }
    std::int64_t input_elements() const;  ///< of all inputs
    std::int64_t output_elements() const { return output_shape.numel(); }
};

struct CostNetwork {
    Shape input;  ///< without the batch
    std::vector<CostLayer> layers;

    /// Throws Error for a name that is not there.
    CostLayer& at(const std::string& name);
    const CostLayer& at(const std::string& name) const;
    /// Indices of the layers whose outputs layer `index` reads, past dropouts; -1: the network's input.
    std::vector<int> producers(int index) const;
};

/// Number types of the layer at a path; a quantized layer is one for which any is set.
using TypesOfLayer = std::function<LayerTypes(const Module& layer, const std::string& path)>;

/// The layers of `network` in the order of their calls. `input`: without the batch. `softmax`: the name of a softmax
/// behind the logits, with which Keras models end; empty: none. Throws Error for a module that costs are not known of.
CostNetwork describe_network(Module& network, const Shape& input, const std::string& softmax = "output_softmax",
                             const TypesOfLayer& types = {});

/// MAC operations and other work of a layer as QTools counts them: convolution Ho Wo Co kh kw Ci, dense in out, average
/// pooling Co times the window's area, merges their output elements, others their input elements.
std::int64_t operation_count(const CostLayer& layer);

}  // namespace bitloom::cost
