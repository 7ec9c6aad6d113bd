#pragma once
// Time in short bursts: what shares the machine disturbs some of them, and the best ones count.

#include <time.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <vector>

namespace bitloom::bench {

/// What is measured: the time that passed, or the processor time that this process took (of one thread, on a machine
/// that others keep busy).
enum class Clock { wall, processor };

inline double now(Clock clock) {
    timespec t{};
    clock_gettime(clock == Clock::wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Seconds of each call of `step`, called for `seconds` at least and three times at least, after one more call.
inline std::vector<double> burst(const std::function<void()>& step, double seconds, Clock clock) {
    step();
    std::vector<double> times;
    double sum = 0;
    while (sum < seconds || times.size() < 3) {
        const double start = now(clock);
        step();
        times.push_back(now(clock) - start);
        sum += times.back();
    }
    return times;
}

/// Times gathered over several bursts.
class Times {
   public:
    void add(const std::vector<double>& more) { times_.insert(times_.end(), more.begin(), more.end()); }
    bool empty() const { return times_.empty(); }
    /// Infinity where there are none.
    double best() const {
        return times_.empty() ? std::numeric_limits<double>::infinity()
                              : *std::min_element(times_.begin(), times_.end());
    }
    double median() const {
        if (times_.empty()) return std::numeric_limits<double>::infinity();
        std::vector<double> sorted = times_;
        const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
        std::nth_element(sorted.begin(), middle, sorted.end());
        return *middle;
    }

   private:
    std::vector<double> times_;
};

}  // namespace bitloom::bench
