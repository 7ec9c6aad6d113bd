#pragma once
// How many threads a program may use, and how they wait (ARCHITECTURE.md, decision 12).

#include <string>

namespace bitloom {

/// The smaller of the affinity mask's processors and the cgroup's CPU quota (v1 and v2, rounded up); at least 1.
int default_thread_count();

/// The CPU quota in whole processors, rounded up, of the process described by the text of /proc/self/cgroup, in a
/// cgroup file system mounted at `mount` (/sys/fs/cgroup). The tightest limit between the process' group and the root
/// counts; 0 where there is none. Unreadable or malformed files count as no limit.
int cgroup_cpu_limit(const std::string& proc_self_cgroup, const std::string& mount);

/// Sets the number of threads of the parallel regions that the calling thread starts; 0 chooses the default.
/// A thread started by the program (a fold beside another) calls it for itself. Throws UsageError for a negative count.
void set_threads(int count);
/// What set_threads chose for the calling thread.
int thread_count();

/// set_threads for the rest of a scope.
class ThreadScope {
   public:
    explicit ThreadScope(int count) : before_(thread_count()) { set_threads(count); }
    ~ThreadScope() { set_threads(before_); }
    ThreadScope(const ThreadScope&) = delete;
    ThreadScope& operator=(const ThreadScope&) = delete;

   private:
    int before_;
};

/// Whether results must not depend on the number of threads, for the whole program: sums over a batch are then formed
/// from a fixed number of parts, at some cost (ARCHITECTURE.md, decision 15). False at first.
void set_deterministic(bool on);
bool deterministic();
/// The fixed number of parts.
inline constexpr int deterministic_parts = 8;

/// Makes idle OpenMP threads sleep after some microseconds instead of spinning on, unless OMP_WAIT_POLICY or
/// GOMP_SPINCOUNT say otherwise. libgomp reads them when it is loaded, so the program replaces itself once by itself
/// with the variables set. Call it first in main with main's argv; it returns at once in the second life and where the
/// program cannot be replaced.
void ensure_passive_waiting(char** argv);

}  // namespace bitloom
