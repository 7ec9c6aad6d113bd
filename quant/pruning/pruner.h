#pragma once
// Magnitude pruning of a network during training (svhn-qkeras.md, 5.4: TF-MOT's prune_low_magnitude).

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/train/trainer.h"
#include "quant/pruning/schedule.h"
#include "quant/pruning/weight_mask.h"

namespace bitloom::quant::pruning {

struct LayerOptions {
    SparsitySchedule schedule;
    MaskRule rule;
    bool operator==(const LayerOptions&) const = default;
};

struct PruningOptions {
    LayerOptions all;
    GradientRule gradient = GradientRule::pass;
    /// Names of layers (dotted paths) with a kernel; none: all convolutions (depthwise ones excepted) and dense layers
    /// whose own name is not in `exclude`.
    std::vector<std::string> layers;
    std::vector<std::string> exclude = {"output"};
    /// Layers that differ from `all`.
    std::vector<std::pair<std::string, LayerOptions>> overrides;
    /// Compress a schedule that the run is too short for (scaled_to_run).
    bool scale_to_run = true;
};

/// Reads a JSON object with the keys schedule ("polynomial", "constant"), initial_sparsity, final_sparsity, begin_step,
/// end_step, frequency, power, granularity ("element", "block", "channel", or N:M such as "2:4"), block [rows,
/// columns], block_pooling ("AVG", "MAX"), gradient ("pass", "masked"), layers, exclude, overrides ({layer: object of
/// the keys up to block_pooling}), scale_to_run. Throws UsageError in one line that names the key.
PruningOptions parse_pruning_options(const std::string& json);
/// All keys, as parse_pruning_options reads them.
std::string to_json(const PruningOptions& options);

/// One pruned weight, counted.
struct LayerSparsity {
    std::string layer;
    std::int64_t weights = 0;
    std::int64_t zeros = 0;         ///< of what the layer computes with: quantized, masked
    std::int64_t latent_zeros = 0;  ///< of the float weights behind
    std::int64_t pruned = 0;        ///< by the mask
    double threshold = 0;
};

/// Masks on a network, and the callback that keeps them. Order of a step: the counter rises (the first batch is 1),
/// masks due are refreshed from the present latent weights, latent weights are masked; what a quantizer makes of them is
/// masked too, in the quantizer's own pass where it has one (WeightTransform::apply_masked); the optimizer updates all. Latent weights are masked again before evaluation and saving.
class Pruner final : public Callback {
   public:
    /// Puts masks of ones on the chosen layers' weights, behind all transforms that are there. `log` gets a line of
    /// words about the schedule when training starts. Throws UsageError for a layer that the network does not have or
    /// that has no kernel, and where a layer is masked already.
    static std::shared_ptr<Pruner> attach(Module& network, PruningOptions options,
                                          std::function<void(const std::string&)> log = {});

    std::string name() const override { return "pruning"; }
    /// Masks are refreshed and applied in front of the step, in place.
    bool replayable() const override { return true; }
    void on_load(Trainer& trainer) override;
    void before_forward(Trainer& trainer) override;
    void before_evaluate_or_save(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;
    void save(Checkpoint& checkpoint) const override;
    void load(const Checkpoint& checkpoint) override;

    /// The counter after which the next step is counter() + 1.
    std::int64_t counter() const { return counter_; }
    /// One step of the schedule: raises the counter, refreshes, masks the latent weights.
    void step();
    /// Masks the latent weights.
    void apply_masks();
    /// Whether every layer has reached the sparsity that its schedule ends with.
    bool settled() const;
    /// Fits the schedules to a run of so many steps, where the options say so; the words for the log.
    std::string fit_to_run(std::int64_t steps);
    /// The first layer's, fitted to the run.
    const SparsitySchedule& schedule() const { return sites_.front().schedule; }
    const PruningOptions& options() const { return options_; }

   private:
    struct Site {
        std::string layer;
        Parameter* weight;
        std::shared_ptr<WeightMask> mask;
        SparsitySchedule schedule;
    };
    PruningOptions options_;
    std::function<void(const std::string&)> log_;
    std::vector<Site> sites_;
    std::int64_t counter_ = 0;
    bool fitted_ = false;  // schedules are those of the run (loaded or fitted)
};

/// The masked layers of a network, in its order.
std::vector<LayerSparsity> sparsity_of(Module& network);
/// The same as lines "conv_0: 216 of 432 weights are zero (50.00 %)" and a total.
std::string sparsity_text(const std::vector<LayerSparsity>& layers);

/// Takes the masks off and leaves the latent weights masked (TF-MOT's strip_pruning). A quantizer without a zero then
/// sees them as it sees any zero. Returns how many masks there were.
int strip_pruning(Module& network);

}  // namespace bitloom::quant::pruning
