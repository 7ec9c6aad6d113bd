#pragma once
// A network's forward pass prepared for one input shape: a list of kernel calls on buffers that are allocated once.

#include <memory>
#include <string>
#include <vector>

#include "engine/graph.h"
#include "engine/module.h"
#include "ops/kernels.h"

namespace bitloom {

/// Inference without tape and modules. The plan fuses a convolution with the addition and the ReLU behind it, a dense
/// layer or batch norm with its ReLU, leaves out folded batch norms (models/folding.h), and gives buffers whose value
/// nobody reads any more to later steps. A layer it has no kernel call for, and any with hooks, runs as the module it
/// is. Weight transforms are applied once, when the plan is built; weights changed afterwards in place are seen,
/// shapes, hooks and transforms are not: build the plan again. One plan a thread.
class InferencePlan {
   public:
    /// `input`: the shape of the inputs, batch included; their dtype and device are the parameters'. Throws Error where
    /// the network computes outside of its leaf modules in a way that a traced pass shows.
    InferencePlan(Module& network, const Shape& input);

    /// The network's output for x: the plan's own buffer (or x itself), which the next run overwrites. Throws Error for
    /// another shape, dtype or device than the plan's.
    const Tensor& run(const Tensor& x);

    const Shape& input_shape() const { return input_shape_; }
    /// One line a step: the paths of the modules it computes, joined by " + ".
    std::vector<std::string> steps() const;
    /// Bytes of the buffers between the steps.
    std::size_t buffer_bytes() const;

   private:
    enum class Kind { convolution, dense, batch_norm, relu, add, max_pool, avg_pool, reshape, module };
    struct Step {
        Kind kind = Kind::module;
        Module* module = nullptr;
        std::string label;
        std::vector<int> inputs;  ///< values; -1 is the network's input
        int residual = -2;        ///< value added by the epilogue; -2: none
        int output = 0;
        ops::NormEpilogue epilogue = ops::NormEpilogue::none;
        Tensor weight, bias;  ///< gamma and beta of a batch norm
        ops::Conv2dGeometry convolution{};
        ops::Pool2dGeometry pool{};
        bool include_pad = false;
        Shape shape;  ///< of the output
    };

    void list_steps(const Graph& graph);
    /// Sets kind and operands where there is a kernel call for the step's layer; x is the shape of its first input.
    void choose_kernel(Step& step, const Shape& x) const;
    void fuse_epilogues();
    void place_buffers();
    void execute(const Step& step, const Tensor& network_x);
    const Tensor& value(int index, const Tensor& network_x) const {
        return index < 0 ? network_x : values_[static_cast<std::size_t>(index)];
    }

    Shape input_shape_;
    DType dtype_ = DType::f32;
    Device device_;
    std::vector<Step> steps_;
    std::vector<Tensor> values_;   ///< by call of the graph
    std::vector<Tensor> buffers_;  ///< flat
    int output_ = -1;
    Tensor output_value_;
};

/// A network that runs by plans, one for each input shape it meets, and so stands where a Module is asked for
/// (evaluate). Inference only.
class PlannedNetwork final : public Module {
   public:
    explicit PlannedNetwork(Module& network) : network_(network) {}
    std::string_view type() const override { return "PlannedNetwork"; }

   protected:
    /// The output is the plan's buffer: the next call with that shape overwrites it. Throws Error in training.
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    Module& network_;
    std::vector<std::unique_ptr<InferencePlan>> plans_;
};

}  // namespace bitloom
