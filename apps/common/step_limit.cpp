#include "apps/common/step_limit.h"

#include "engine/train/trainer.h"

namespace bitloom {

class StepLimit::Watch final : public Callback {
   public:
    Watch(std::int64_t steps, const std::atomic<bool>& signalled) : steps_(steps), signalled_(signalled) {}
    std::string name() const override { return "step_limit"; }
    bool replayable() const override { return true; }
    void on_load(Trainer& trainer) override { check(trainer); }
    void after_step(Trainer& trainer) override { check(trainer); }
    void after_epoch(Trainer& trainer) override { check(trainer); }

    std::atomic<bool> stop{false};
    bool reached = false;

   private:
    void check(Trainer& trainer) {
        reached = steps_ > 0 && trainer.state().step >= steps_;
        if (reached || signalled_.load(std::memory_order_relaxed)) stop.store(true, std::memory_order_relaxed);
    }
    std::int64_t steps_;
    const std::atomic<bool>& signalled_;
};

StepLimit::StepLimit(std::int64_t steps, const std::atomic<bool>& signalled)
    : watch_(std::make_shared<Watch>(steps, signalled)) {}
StepLimit::~StepLimit() = default;
std::shared_ptr<Callback> StepLimit::callback() const { return watch_; }
const std::atomic<bool>& StepLimit::stop() const { return watch_->stop; }
bool StepLimit::reached() const { return watch_->reached; }

}  // namespace bitloom
