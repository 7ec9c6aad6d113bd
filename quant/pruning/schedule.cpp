#include "quant/pruning/schedule.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"

namespace bitloom::quant::pruning {

bool SparsitySchedule::due(std::int64_t step) const {
    return step >= begin && (step <= end || end < 0) && (step - begin) % frequency == 0;
}

float SparsitySchedule::sparsity(std::int64_t step) const {
    if (kind == Kind::constant) return static_cast<float>(final_sparsity);
    const float whole = static_cast<float>(end - begin);
    const float progress = whole > 0 ? std::clamp(static_cast<float>(step - begin) / whole, 0.F, 1.F) : 1.F;
    return static_cast<float>(initial_sparsity - final_sparsity) * std::pow(1.F - progress, static_cast<float>(power)) +
           static_cast<float>(final_sparsity);
}

std::int64_t SparsitySchedule::settled_at() const {
    return kind == Kind::constant ? begin : end - (end - begin) % frequency;
}

void check(const SparsitySchedule& s) {
    const auto in_range = [](double sparsity) { return sparsity >= 0 && sparsity < 1; };
    if (!in_range(s.initial_sparsity) || !in_range(s.final_sparsity))
        throw UsageError(cat("pruning: a sparsity must be at least 0 and below 1, got ",
                             in_range(s.initial_sparsity) ? s.final_sparsity : s.initial_sparsity));
    if (s.begin < 0) throw UsageError(cat("pruning: the schedule begins at step ", s.begin));
    if (s.frequency < 1) throw UsageError(cat("pruning: masks are refreshed every ", s.frequency, " steps"));
    if (s.end < 0 ? s.kind == SparsitySchedule::Kind::polynomial : s.end < s.begin)
        throw UsageError(cat("pruning: the schedule ends at step ", s.end, ", begins at ", s.begin));
    if (!(s.power > 0)) throw UsageError(cat("pruning: the power of the schedule is ", s.power));
}

SparsitySchedule scaled_to_run(const SparsitySchedule& schedule, std::int64_t steps) {
    const std::int64_t settled = schedule.settled_at();
    if (settled <= steps || steps < 1) return schedule;
    const std::int64_t last = std::max<std::int64_t>(1, steps * 3 / 4);
    const double factor = static_cast<double>(last) / static_cast<double>(settled);
    SparsitySchedule scaled = schedule;
    scaled.begin = std::max<std::int64_t>(1, std::llround(static_cast<double>(schedule.begin) * factor));
    scaled.frequency = std::max<std::int64_t>(1, std::llround(static_cast<double>(schedule.frequency) * factor));
    if (schedule.end < 0) return scaled;
    scaled.end = schedule.kind == SparsitySchedule::Kind::constant
                     ? std::max<std::int64_t>(scaled.begin, std::llround(static_cast<double>(schedule.end) * factor))
                     : std::max(scaled.begin, last);
    scaled.end -= (scaled.end - scaled.begin) % scaled.frequency;
    return scaled;
}

std::string describe(const SparsitySchedule& s) {
    std::string text = s.kind == SparsitySchedule::Kind::constant || s.initial_sparsity == s.final_sparsity
                           ? cat("sparsity ", s.final_sparsity)
                           : cat("sparsity ", s.initial_sparsity, " to ", s.final_sparsity);
    text += s.end < 0 ? cat(" from step ", s.begin, " on") : cat(" over steps ", s.begin, " to ", s.end);
    return text +
           (s.frequency == 1 ? ", masks refreshed every step" : cat(", masks refreshed every ", s.frequency, " steps"));
}

}  // namespace bitloom::quant::pruning
