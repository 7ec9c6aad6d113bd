#pragma once
// Learning-rate schedules, by epoch (from 0).

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace bitloom {

class Schedule {
public:
    virtual ~Schedule() = default;
    /// The rate of an epoch, given the rate in force before it.
    virtual double before_epoch(std::int64_t epoch, double current) = 0;
    /// The rate from now on, after an epoch in which the watched metric had this value.
    virtual double after_epoch(double current, double watched) {
        (void)watched;
        return current;
    }
    /// The metric that after_epoch wants; empty where it wants none.
    virtual std::string watches() const { return {}; }
    /// Numbers that a resumed run needs.
    virtual std::vector<double> state() const { return {}; }
    virtual void load_state(const std::vector<double>& state) { (void)state; }
};

/// Always `rate`.
std::unique_ptr<Schedule> constant_schedule(double rate);
/// `rate`, multiplied by `factor` at the start of each listed epoch (bsq.md, 2.3), one multiplication after the other.
std::unique_ptr<Schedule> multi_step_schedule(double rate, std::vector<std::int64_t> epochs, double factor);
/// minimum + (rate - minimum)/2 (1 + cos(pi e / epochs)) without restarts (ec2t-micronet.md, 5.1).
std::unique_ptr<Schedule> cosine_schedule(double rate, std::int64_t epochs, double minimum = 0);

struct PlateauOptions {
    std::string metric = "val_loss";
    double factor = 0.1;
    std::int64_t patience = 10;
    double min_delta = 1e-4;
    std::int64_t cooldown = 0;
    double min_lr = 0;
};
/// Keras' ReduceLROnPlateau in its order of operations (svhn-qkeras.md, 5.1); starts at `rate`.
std::unique_ptr<Schedule> plateau_schedule(double rate, const PlateauOptions& options);
/// rate (e + 1) / epochs in the first `epochs` epochs, then `inner`.
std::unique_ptr<Schedule> warm_up_schedule(double rate, std::int64_t epochs, std::unique_ptr<Schedule> inner);

/// Parses "constant", "step:30,60:0.1" (epochs, factor; the factor may be left out: 0.1), "every:30:0.1",
/// "cosine[:min_lr=1e-5]", "plateau[:metric=val_loss,factor=0.1,patience=5,min_delta=1e-4,cooldown=2,min_lr=1e-6]",
/// each optionally behind "warmup:5+". The epochs of steps count from the start of training; the cosine spans the
/// epochs after the warm-up. `rate` is the initial rate, `epochs` the length of the run. Throws UsageError.
std::unique_ptr<Schedule> parse_schedule(std::string_view text, double rate, std::int64_t epochs);

}  // namespace bitloom
