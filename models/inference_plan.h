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
    const Shape& output_shape() const { return output_shape_; }
    /// One line a step: the paths of the modules it computes, joined by " + ".
    std::vector<std::string> steps() const;
    /// Bytes of the buffers between the steps.
    std::size_t buffer_bytes() const;
    /// Multiplications of the convolutions and dense layers, an average step's.
    std::int64_t multiplications_a_step() const;
    /// Whether plans of this network may run side by side: no module with state of its own runs as it is.
    bool runs_side_by_side() const;

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

    Shape input_shape_, output_shape_;
    DType dtype_ = DType::f32;
    Device device_;
    std::vector<Step> steps_;
    std::vector<Tensor> values_;   ///< by call of the graph
    std::vector<Tensor> buffers_;  ///< flat
    int output_ = -1;
    Tensor output_value_;
};

/// A network that runs by plans for whatever batch it meets, and so stands where a Module is asked for (evaluate).
/// Inference only. Batches are cut into runs of a few images whose values between the layers stay in a core's cache;
/// threads take whole runs, so that they wait for each other once a batch, not at every layer.
class PlannedNetwork final : public Module {
   public:
    explicit PlannedNetwork(Module& network) : network_(network), lanes_(1) {}
    std::string_view type() const override { return "PlannedNetwork"; }

    /// The output for x [N, ...]: a buffer that the next run overwrites. Throws Error as InferencePlan does.
    const Tensor& run(const Tensor& x);

   protected:
    /// Throws Error in training.
    Var forward(Context& context, std::span<const Var> inputs) override;

   private:
    using Plans = std::vector<std::unique_ptr<InferencePlan>>;
    /// What one image of the shape costs.
    struct Profile {
        Shape image;
        bool side_by_side = false;
        std::int64_t bytes = 0, multiplications_a_step = 0;
    };
    InferencePlan& plan(Plans& plans, const Tensor& x, std::int64_t images);
    const Profile& profile(const Tensor& x);
    /// Images of a run on one thread; 0: the whole batch at once, on all threads.
    std::int64_t images_a_run(const Tensor& x);

    Module& network_;
    std::vector<Plans> lanes_;  ///< one for each thread
    Profile profile_;
    Tensor output_;
};

}  // namespace bitloom
