#pragma once
// When masks are refreshed and how much they prune (svhn-qkeras.md, 5.4: the schedules of TF-MOT).

#include <cstdint>
#include <string>

namespace bitloom::quant::pruning {

/// Steps are training steps counted from 1. A mask is refreshed at `begin`, begin + frequency, ... up to and including
/// `end`; a negative end is forever. Before `begin` nothing is pruned, after `end` the masks stand.
struct SparsitySchedule {
    enum class Kind {
        constant,   ///< final_sparsity from the first refresh on
        polynomial  ///< final + (initial - final) (1 - p)^power, p = clip((step - begin) / (end - begin), 0, 1)
    };
    Kind kind = Kind::polynomial;
    double initial_sparsity = 0.4, final_sparsity = 0.5;
    std::int64_t begin = 1000, end = 8000, frequency = 100;
    double power = 3;

    /// Whether the masks are refreshed at this step.
    bool due(std::int64_t step) const;
    /// The share of pruned weights that a refresh at this step aims at, in float32 as the reference computes it.
    float sparsity(std::int64_t step) const;
    /// The last refresh that can change the sparsity: the first of a constant schedule, the last of a polynomial one.
    /// From this step on a run has its final sparsity, which is that of the schedule where `frequency` divides
    /// end - begin.
    std::int64_t settled_at() const;
    bool operator==(const SparsitySchedule&) const = default;
};

/// Throws UsageError in one line: sparsity outside [0, 1), a negative begin, an end before it (a polynomial schedule
/// needs one), a frequency below 1, a power that is not positive.
void check(const SparsitySchedule& schedule);

/// A schedule that a run of `steps` steps is too short for, compressed into its first three quarters: begin, end and
/// frequency shrink in proportion, as many refreshes take place as fit, and the last falls on the end. Unchanged where
/// it is settled within the run.
SparsitySchedule scaled_to_run(const SparsitySchedule& schedule, std::int64_t steps);

/// "sparsity 0.4 to 0.5 over steps 1000 to 8000, masks refreshed every 100 steps"
std::string describe(const SparsitySchedule& schedule);

}  // namespace bitloom::quant::pruning
