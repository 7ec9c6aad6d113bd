#include "engine/threads.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/error.h"
#include "tests/engine/io/temporary_folder.h"

namespace bitloom {
namespace {

class Cgroup : public testing::Test {
protected:
    void file(const std::string& path, const std::string& text) {
        std::filesystem::create_directories((mount_.path() / path).parent_path());
        std::ofstream(mount_.file(path)) << text << '\n';
    }
    int limit(const std::string& groups) { return cgroup_cpu_limit(groups, mount_.path().string()); }
    const TemporaryFolder mount_;
};

TEST_F(Cgroup, NoneWhereNothingSaysSo) {
    EXPECT_EQ(limit(""), 0);
    EXPECT_EQ(limit("0::/a/b\n"), 0);
    file("a/cpu.max", "max 100000");
    EXPECT_EQ(limit("0::/a\n"), 0);
    file("a/cpu.max", "nonsense");
    EXPECT_EQ(limit("0::/a\ngarbage\n"), 0);
}

TEST_F(Cgroup, VersionTwoTakesTheTightestAncestor) {
    file("a/b/cpu.max", "800000 100000");
    EXPECT_EQ(limit("0::/a/b\n"), 8);
    file("a/cpu.max", "250000 100000");
    EXPECT_EQ(limit("0::/a/b\n"), 3);  // 2.5 processors, rounded up
    file("cpu.max", "50000 100000");
    EXPECT_EQ(limit("0::/a/b\n"), 1);
    EXPECT_EQ(limit("0::/not/mounted/here\n"), 1);  // a container's root
}

TEST_F(Cgroup, VersionOne) {
    file("cpu,cpuacct/job/cpu.cfs_quota_us", "400000");
    file("cpu,cpuacct/job/cpu.cfs_period_us", "100000");
    EXPECT_EQ(limit("5:cpuset:/job\n4:cpu,cpuacct:/job\n"), 4);
    EXPECT_EQ(limit("4:cpuacct:/job\n"), 0);
    file("cpu,cpuacct/job/cpu.cfs_quota_us", "-1");
    EXPECT_EQ(limit("4:cpu,cpuacct:/job\n"), 0);
    file("cpu/cpu.cfs_quota_us", "200000");
    file("cpu/cpu.cfs_period_us", "100000");
    EXPECT_EQ(limit("1:cpu:/\n0::/\n"), 2);
}

TEST(Threads, SettingHoldsForTheCallingThread) {
    const int before = thread_count();
    EXPECT_GE(default_thread_count(), 1);
    std::thread([] {
        set_threads(3);
        EXPECT_EQ(thread_count(), 3);
        set_threads(0);
        EXPECT_EQ(thread_count(), default_thread_count());
        EXPECT_THROW(set_threads(-1), UsageError);
    }).join();
    EXPECT_EQ(thread_count(), before);
}

TEST(Threads, PassiveWaitingIsLeftToTheUserWhoChose) {
    // In a child: where a variable is set, the call must return and change nothing.
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        unsetenv("OMP_WAIT_POLICY");
        setenv("GOMP_SPINCOUNT", "5", 1);
        char* argv[] = {nullptr};
        ensure_passive_waiting(argv);
        _exit(std::getenv("OMP_WAIT_POLICY") ? 1 : 42);
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST(Threads, PassiveWaitingRestartsTheProgramWithTheVariableSet) {
    // The second life of the child is this test program, told to run only the test below.
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
        unsetenv("OMP_WAIT_POLICY");
        unsetenv("GOMP_SPINCOUNT");
        char name[] = "second-life", filter[] = "--gtest_filter=SecondLife.DISABLED_Waits",
             run[] = "--gtest_also_run_disabled_tests", brief[] = "--gtest_brief=1";
        char* argv[] = {name, filter, run, brief, nullptr};
        ensure_passive_waiting(argv);
        _exit(99);  // the program was not replaced
    }
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(SecondLife, DISABLED_Waits) { EXPECT_STREQ(std::getenv("OMP_WAIT_POLICY"), "passive"); }

}  // namespace
}  // namespace bitloom
