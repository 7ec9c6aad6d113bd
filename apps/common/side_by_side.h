#pragma once
// Independent jobs on several threads: folds, trials.

#include <functional>
#include <string>
#include <vector>

namespace bitloom {

struct Job {
    std::string name;  ///< starts the message where the job throws
    std::function<void()> run;
};

/// Runs the jobs in order, at most `threads` at a time, each on one thread from begin to end. After a job has thrown,
/// no further one begins; those under way finish, and then the first failed one in the list is reported as Error
/// "<name>: why".
void run_side_by_side(const std::vector<Job>& jobs, int threads);

}  // namespace bitloom
