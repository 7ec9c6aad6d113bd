#pragma once
// Graph: one traced forward pass, the calls of leaf modules in order with paths, shapes and edges. Cost models, scoring,
// lumping, GPFQ, prefix reuse and export walk it; nothing trains through it.

#include <string>
#include <vector>

#include "engine/module.h"

namespace bitloom {

struct GraphCall {
    int index = 0;
    Module* module = nullptr;
    std::string path;
    std::string type;
    std::vector<int> inputs;  ///< indices of the producing calls; -1 is the network's input
    std::vector<Shape> input_shapes;
    Shape output_shape;
};

class Graph {
   public:
    /// Traces `network` on zeros of `input_shape` (batch included), in inference.
    static Graph trace(Module& network, const Shape& input_shape, DType dtype = DType::f32, Device device = cpu_device);

    const std::vector<GraphCall>& calls() const { return calls_; }
    /// The call of the module at `path`. Throws Error where it was not called.
    const GraphCall& at(std::string_view path) const;
    /// Calls that read the output of call `index`, in order.
    std::vector<int> consumers(int index) const;
    /// One line a call: index, path, type, inputs, shapes, parameters.
    std::string to_string() const;

   private:
    std::vector<GraphCall> calls_;
};

}  // namespace bitloom
