#pragma once
// When precision is adjusted during training (bsq.md, 2.3 and 5.5).

#include <functional>
#include <optional>

#include "engine/train/trainer.h"
#include "quant/bsq/bit_network.h"

namespace bitloom::bsq {

struct PrecisionScheduleOptions {
    std::int64_t interval = 50;     ///< epochs between adjustments, the first before the first epoch
    std::int64_t first_epoch = 0;   ///< number of the run's first epoch
    double threshold = 0;           ///< percentage of non-zero bits below which planes go (5.5 b); 0 at the end whatever it is
    bool keep_momentum = false;     ///< of parameters whose shape does not change; the method renews the optimizer
    double strength = 0;            ///< alpha, by which the recorded regularisation is divided
};

/// Re-quantizes and strips a network every `interval` epochs and after the last one. Adds to each epoch's record: reg (R / TP of
/// the last batch), compression, bits_per_parameter.
class PrecisionSchedule final : public Callback {
   public:
    /// `adjusted` is called after each adjustment, with the epoch's number or, at the end, none.
    PrecisionSchedule(BitNetwork& network, PrecisionScheduleOptions options,
                      std::function<void(Trainer&, std::optional<std::int64_t> epoch)> adjusted = nullptr);
    std::string name() const override { return "bsq"; }
    /// An adjustment gives the planes other memory, which the trainer notices.
    bool replayable() const override { return true; }
    void before_epoch(Trainer& trainer) override;
    void after_epoch(Trainer& trainer) override;
    void after_training(Trainer& trainer) override;
    void save(Checkpoint& checkpoint) const override { network_.save(checkpoint); }
    void load(const Checkpoint& checkpoint) override { network_.load(checkpoint); }

   private:
    void adjust(Optimizer& optimizer, double threshold);
    BitNetwork& network_;
    PrecisionScheduleOptions options_;
    std::function<void(Trainer&, std::optional<std::int64_t>)> adjusted_;
};

/// Keeps a network's representation in checkpoints where nothing is adjusted (fine-tuning).
class RepresentationState final : public Callback {
   public:
    explicit RepresentationState(BitNetwork& network) : network_(network) {}
    std::string name() const override { return "bsq"; }
    bool replayable() const override { return true; }
    void save(Checkpoint& checkpoint) const override { network_.save(checkpoint); }
    void load(const Checkpoint& checkpoint) override { network_.load(checkpoint); }

   private:
    BitNetwork& network_;
};

}  // namespace bitloom::bsq
