#pragma once
// Ends a run after a number of steps, in the middle of an epoch.

#include <atomic>
#include <memory>

#include "engine/train/callback.h"

namespace bitloom {

/// A stop flag for TrainerOptions::stop that is raised after `steps` optimizer steps (0: never), and whenever
/// `signalled` is.
class StepLimit {
   public:
    StepLimit(std::int64_t steps, const std::atomic<bool>& signalled);
    ~StepLimit();
    /// Goes to the trainer, as its first callback.
    std::shared_ptr<Callback> callback() const;
    const std::atomic<bool>& stop() const;
    /// The steps are done: the run ended because of them, not of a signal.
    bool reached() const;

   private:
    class Watch;
    std::shared_ptr<Watch> watch_;
};

}  // namespace bitloom
