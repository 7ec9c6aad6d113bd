#include "engine/threads.h"

#include <omp.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

#include "engine/error.h"

namespace bitloom {

namespace {

int affinity_count() {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(CPU_COUNT(&set), 1);
    // More processors than a fixed set holds: what is online is the best guess.
    return static_cast<int>(std::max(sysconf(_SC_NPROCESSORS_ONLN), 1L));
}

std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return line;
}

/// Whole processors of a quota in microseconds per period; 0 for none ("max", -1, nonsense).
int processors(const std::string& quota, const std::string& period) {
    const double q = std::strtod(quota.c_str(), nullptr), p = std::strtod(period.c_str(), nullptr);
    if (!(q > 0) || !(p > 0)) return 0;
    return static_cast<int>((q + p - 1) / p);
}

int v2_limit(const std::string& folder) {
    std::istringstream line(first_line(folder + "/cpu.max"));
    std::string quota, period;
    line >> quota >> period;
    return processors(quota, period);
}

int v1_limit(const std::string& folder) {
    return processors(first_line(folder + "/cpu.cfs_quota_us"), first_line(folder + "/cpu.cfs_period_us"));
}

/// The tightest limit from the group at `path` up to the root of the hierarchy. In a container the path may name a
/// group outside of what is mounted: its missing folders then say nothing, and the root, which is the container's own,
/// counts.
int tightest(const std::string& root, std::string path, int (*limit_of)(const std::string&)) {
    int tight = 0;
    while (true) {
        const int limit = limit_of(root + path);
        if (limit > 0) tight = tight == 0 ? limit : std::min(tight, limit);
        if (path.empty()) return tight;
        path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
}

bool lists_cpu(std::string_view controllers) {
    return ("," + std::string(controllers) + ",").find(",cpu,") != std::string::npos;
}

}  // namespace

int cgroup_cpu_limit(const std::string& proc_self_cgroup, const std::string& mount) {
    int tight = 0;
    const auto consider = [&](int limit) {
        if (limit > 0) tight = tight == 0 ? limit : std::min(tight, limit);
    };
    std::istringstream lines(proc_self_cgroup);
    for (std::string line; std::getline(lines, line);) {
        // "hierarchy:controllers:/path"; version 2 has hierarchy 0 and no controllers.
        const std::size_t first = line.find(':'), second = line.find(':', first + 1);
        if (first == std::string::npos || second == std::string::npos) continue;
        const std::string controllers = line.substr(first + 1, second - first - 1);
        std::string path = line.substr(second + 1);
        if (path == "/") path.clear();
        if (controllers.empty()) {
            for (const char* root : {"", "/unified"}) consider(tightest(mount + root, path, v2_limit));
        } else if (lists_cpu(controllers)) {
            for (const std::string& root : {std::string("/cpu"), "/" + controllers})
                consider(tightest(mount + root, path, v1_limit));
        }
    }
    return tight;
}

int default_thread_count() {
    std::ifstream in("/proc/self/cgroup");
    std::ostringstream text;
    text << in.rdbuf();
    const int limit = cgroup_cpu_limit(text.str(), "/sys/fs/cgroup"), processors = affinity_count();
    return limit > 0 ? std::min(limit, processors) : processors;
}

void set_threads(int count) {
    if (count < 0) throw UsageError(cat("the number of threads must not be negative, got ", count));
    omp_set_num_threads(count == 0 ? default_thread_count() : count);
}

int thread_count() { return omp_get_max_threads(); }

namespace {
std::atomic<bool> deterministic_flag{false};
}  // namespace

void set_deterministic(bool on) { deterministic_flag.store(on, std::memory_order_relaxed); }
bool deterministic() { return deterministic_flag.load(std::memory_order_relaxed); }

/// Iterations of libgomp's waiting loop, some microseconds: what lies between two parallel regions of a step. Waking a
/// thread that sleeps takes longer (measured: a training step of the SVHN network at two threads took 1.2 times as long
/// without; more spinning gained nothing).
static constexpr const char* spins_before_sleep = "500";

void ensure_passive_waiting(char** argv) {
    if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
    // The variable itself ends the loop: the second life finds it set.
    if (setenv("OMP_WAIT_POLICY", "passive", 1) != 0 || setenv("GOMP_SPINCOUNT", spins_before_sleep, 1) != 0) return;
    // By its resolved path, so that process lists show the program's own name. Returns only where it fails.
    char program[4096];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0) return;
    program[length] = '\0';
    execv(program, argv);
}

}  // namespace bitloom
