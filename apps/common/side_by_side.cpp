#include "apps/common/side_by_side.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>
#include <thread>

#include "engine/error.h"

namespace bitloom {

void run_side_by_side(const std::vector<Job>& jobs, int threads) {
    require(threads >= 1, "run_side_by_side: ", threads, " threads");
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    std::vector<std::optional<std::string>> errors(jobs.size());
    const auto work = [&] {
        while (!failed) {
            const std::size_t i = next++;
            if (i >= jobs.size()) return;
            try {
                jobs[i].run();
            } catch (const std::exception& error) {
                errors[i] = error.what();
                failed = true;
            }
        }
    };
    {
        std::vector<std::jthread> workers;
        for (std::size_t i = 0; i < std::min(jobs.size(), static_cast<std::size_t>(threads)); ++i)
            workers.emplace_back(work);
    }
    for (std::size_t i = 0; i < jobs.size(); ++i)
        if (errors[i]) fail(jobs[i].name, ": ", *errors[i]);
}

}  // namespace bitloom
