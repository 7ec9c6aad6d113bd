#pragma once
// Time in short bursts: what shares the machine disturbs some of them, and the best ones count.

#include <algorithm>
#include <chrono>
#include <functional>
#include <limits>
#include <vector>

namespace bitloom::bench {

/// Seconds of each call of `step`, called for `seconds` at least and three times at least, after `warm_up` calls.
inline std::vector<double> burst(const std::function<void()>& step, double seconds, int warm_up = 1) {
    using Clock = std::chrono::steady_clock;
    for (int i = 0; i < warm_up; ++i) step();
    std::vector<double> times;
    double sum = 0;
    while (sum < seconds || times.size() < 3) {
        const auto start = Clock::now();
        step();
        times.push_back(std::chrono::duration<double>(Clock::now() - start).count());
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
