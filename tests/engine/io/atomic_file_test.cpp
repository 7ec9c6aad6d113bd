#include "engine/io/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "tests/engine/io/temporary_folder.h"

namespace bitloom {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

TEST(AtomicFile, WritesReplacesAndKeepsMode) {
    TemporaryFolder folder;
    const std::string path = folder.file("a.txt");
    write_file_atomically(path, "one");
    EXPECT_EQ(read_file(path), "one");
    fs::permissions(path, fs::perms::owner_read | fs::perms::owner_write);
    const std::string bytes("two\0three", 9);
    write_file_atomically(path, bytes);
    EXPECT_EQ(read_file(path), bytes);
    EXPECT_EQ(fs::status(path).permissions(), fs::perms::owner_read | fs::perms::owner_write);
    EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFile, FollowsSymbolicLinks) {
    TemporaryFolder folder;
    fs::create_directory(folder.path() / "real");
    put(folder.file("real/a"), "old");
    fs::create_symlink("real/a", folder.path() / "link");
    write_file_atomically(folder.file("link"), "new");
    EXPECT_TRUE(fs::is_symlink(folder.file("link")));
    EXPECT_EQ(read_file(folder.file("real/a")), "new");
}

TEST(AtomicFile, WritesWhatIsNoRegularFileDirectly) {
    write_file_atomically("/dev/null", "gone");
    EXPECT_FALSE(fs::is_regular_file("/dev/null"));
}

TEST(AtomicFile, NamesTheReason) {
    TemporaryFolder folder;
    EXPECT_EQ(message_of([&] { write_file_atomically(folder.file("none/a"), "x"); }),
              folder.file("none/a") + ": cannot write: No such file or directory");
    EXPECT_THAT(message_of([&] { write_file_atomically(folder.path().string(), "x"); }), HasSubstr("Is a directory"));
    EXPECT_THAT(message_of([&] { write_file_atomically("/dev/full", "x"); }), HasSubstr("No space left on device"));
    EXPECT_EQ(message_of([&] { read_file(folder.file("a")); }), folder.file("a") + ": No such file or directory");
}

TEST(AtomicFile, ReadOnlyFolder) {
    if (::geteuid() == 0) GTEST_SKIP() << "root may write everywhere";
    TemporaryFolder folder;
    put(folder.file("a"), "old");
    fs::permissions(folder.path(), fs::perms::owner_read | fs::perms::owner_exec);
    EXPECT_THAT(message_of([&] { write_file_atomically(folder.file("a"), "x"); }), HasSubstr("Permission denied"));
    EXPECT_EQ(read_file(folder.file("a")), "old");
}

TEST(AtomicFile, FailedWriteLeavesTheOldFileAlone) {
    TemporaryFolder folder;
    const std::string path = folder.file("a");
    write_file_atomically(path, "old");
    // A limit on the size of files stands in for a full disk; in a child, as it holds for the whole process.
    const pid_t child = ::fork();
    if (child == 0) {
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{1000, 1000};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        try {
            write_file_atomically(path, std::string(5000, 'x'));
        } catch (const Error& error) {
            ::_exit(std::string(error.what()) == path + ": cannot write: File too large" ? 7 : 1);
        }
        ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(WEXITSTATUS(status), 7);
    EXPECT_EQ(read_file(path), "old");
    EXPECT_EQ(folder.entries(), 1u);
}

TEST(AtomicFile, RemovesTemporariesOfTheDead) {
    TemporaryFolder folder;
    const pid_t dead = ::fork();
    if (dead == 0) ::_exit(0);
    ::waitpid(dead, nullptr, 0);
    put(folder.file(cat("a.h5.tmp-", dead)), "half");
    put(folder.file(cat("a.h5.tmp-", dead, ".1")), "half");
    put(folder.file(cat("a.h5.tmp-", ::getpid())), "of one that had our number");
    put(folder.file(cat("a.h5.tmp-", ::getppid())), "of the living");
    put(folder.file(cat("b.h5.tmp-", dead)), "of another file");
    put(folder.file("a.h5.tmp-notes"), "not ours");
    write_file_atomically(folder.file("a.h5"), "whole");
    EXPECT_FALSE(fs::exists(folder.file(cat("a.h5.tmp-", dead))));
    EXPECT_FALSE(fs::exists(folder.file(cat("a.h5.tmp-", dead, ".1"))));
    EXPECT_FALSE(fs::exists(folder.file(cat("a.h5.tmp-", ::getpid()))));
    EXPECT_TRUE(fs::exists(folder.file(cat("a.h5.tmp-", ::getppid()))));
    EXPECT_TRUE(fs::exists(folder.file(cat("b.h5.tmp-", dead))));
    EXPECT_TRUE(fs::exists(folder.file("a.h5.tmp-notes")));
    EXPECT_EQ(read_file(folder.file("a.h5")), "whole");
}

TEST(AtomicFile, ThreadsOnOneFileLeaveOneWholeVersion) {
    TemporaryFolder folder;
    const std::string path = folder.file("a");
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
        threads.emplace_back([&path, t] {
            for (int i = 0; i < 5; ++i) write_file_atomically(path, std::string(10000, static_cast<char>('a' + t)));
        });
    for (std::thread& thread : threads) thread.join();
    const std::string contents = read_file(path);
    ASSERT_EQ(contents.size(), 10000u);
    EXPECT_EQ(contents, std::string(10000, contents[0]));
    EXPECT_EQ(folder.entries(), 1u);
}

}  // namespace
}  // namespace bitloom
