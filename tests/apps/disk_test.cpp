// Full disks and folders that cannot be written: one line, exit status 1, the old checkpoint whole, no temporary file
// left, and the run can go on afterwards.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "tests/apps/process.h"

namespace bitloom {
namespace {

using test::lines;
using test::ProcessResult;
using test::run;
using test::run_limited;
using test::TemporaryFolder;
using ::testing::HasSubstr;

std::vector<std::string> training(const std::string& out_dir) {
    return {"--dataset=digits-grey", "--model=lenet5",   "--train-size=100", "--test-size=50",      "--epochs=1",
            "--batch-size=50",       "--optimizer=adam", "--threads=1",      "--out-dir=" + out_dir};
}
std::vector<std::string> going_on(const std::string& out_dir) {
    return {"--resume", "--epochs=2", "--out-dir=" + out_dir};
}

std::size_t temporaries(const std::string& folder) {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder))
        count += entry.path().filename().string().find(".tmp-") != std::string::npos;
    return count;
}

/// Status 1, and one line of the program's own as the last on stderr, behind those of the progress.
void expect_one_line(const ProcessResult& result, const std::string& file, const std::string& reason) {
    EXPECT_EQ(result.status, 1) << result.err;
    EXPECT_EQ(result.out, "");
    std::vector<std::string> own;
    for (const std::string& line : lines(result.err))
        if (line.starts_with("train: ")) own.push_back(line);
    ASSERT_EQ(own.size(), 1u) << result.err;
    EXPECT_EQ(own[0], lines(result.err).back());
    EXPECT_THAT(own[0], HasSubstr(file));
    EXPECT_THAT(own[0], HasSubstr(reason));
}

/// A small file system of its own, where that is allowed.
class SmallDisk {
   public:
    explicit SmallDisk(const std::string& folder) : folder_(folder) {
        std::filesystem::create_directory(folder);
        mounted_ = ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=8m") == 0;
        if (!mounted_) reason_ = std::strerror(errno);
    }
    ~SmallDisk() {
        if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
    }
    SmallDisk(const SmallDisk&) = delete;
    SmallDisk& operator=(const SmallDisk&) = delete;
    bool mounted() const { return mounted_; }
    const std::string& reason() const { return reason_; }
    bool set_read_only(bool read_only) {
        return ::mount(nullptr, folder_.c_str(), nullptr, read_only ? MS_REMOUNT | MS_RDONLY : MS_REMOUNT, "size=8m") ==
               0;
    }
    /// Leaves `bytes` free.
    void fill(std::size_t bytes) const {
        struct statvfs status {};
        ASSERT_EQ(::statvfs(folder_.c_str(), &status), 0);
        const std::size_t free = status.f_bavail * status.f_bsize;
        ASSERT_GT(free, bytes);
        std::ofstream(folder_ + "/filler") << std::string(free - bytes, 'x');
    }

   private:
    std::string folder_, reason_;
    bool mounted_ = false;
};

TEST(Disk, FileSizeLimitInTheMiddleOfARun) {
    const TemporaryFolder folder;
    const std::string out = folder / "run", last = out + "/last.h5";
    ASSERT_EQ(run("train", training(out)).status, 0);
    const std::string before = read_file(last);
    // Blocks of 512 bytes: the history fits, a checkpoint does not. Without the signal's end of the process, the limit
    // is an error of write(), as a full disk is.
    expect_one_line(run_limited("trap '' XFSZ; ulimit -f 200", "train", going_on(out)), out, "File too large");
    EXPECT_EQ(read_file(last), before);
    EXPECT_EQ(load_checkpoint(last).integers.at("trainer.epoch"), 1);
    EXPECT_EQ(temporaries(out), 0u);
    EXPECT_EQ(run("train", going_on(out)).status, 0);
    EXPECT_EQ(load_checkpoint(last).integers.at("trainer.epoch"), 2);
}

TEST(Disk, FullInTheMiddleOfARun) {
    const TemporaryFolder folder;
    SmallDisk disk(folder / "disk");
    if (!disk.mounted()) GTEST_SKIP() << "no small disk can be mounted here: " << disk.reason();
    const std::string out = folder / "disk/run", last = out + "/last.h5";
    ASSERT_EQ(run("train", training(out)).status, 0);
    const std::string before = read_file(last);
    disk.fill(100 << 10);
    expect_one_line(run("train", going_on(out)), out, "No space left on device");
    EXPECT_EQ(read_file(last), before);
    EXPECT_EQ(temporaries(out), 0u);
    std::filesystem::remove(folder / "disk/filler");
    EXPECT_EQ(run("train", going_on(out)).status, 0);
    EXPECT_EQ(load_checkpoint(last).integers.at("trainer.epoch"), 2);
}

TEST(Disk, ReadOnlyFolder) {
    const TemporaryFolder folder;
    // Permission bits do not bind root; a file system without the right to write binds all.
    const bool root = ::geteuid() == 0;
    SmallDisk disk(folder / "disk");
    if (root && !disk.mounted()) GTEST_SKIP() << "root, and nothing can be mounted here: " << disk.reason();
    const std::string out = folder / "disk/run", last = out + "/last.h5";
    ASSERT_EQ(run("train", training(out)).status, 0);
    const std::string before = read_file(last);
    const auto set_read_only = [&](bool read_only) {
        if (root) return disk.set_read_only(read_only);
        std::filesystem::permissions(out, read_only
                                              ? std::filesystem::perms::owner_read | std::filesystem::perms::owner_exec
                                              : std::filesystem::perms::owner_all);
        return true;
    };
    ASSERT_TRUE(set_read_only(true));
    expect_one_line(run("train", going_on(out)), out, root ? "Read-only file system" : "Permission denied");
    expect_one_line(run("train", training(out)), out, root ? "Read-only file system" : "Permission denied");
    EXPECT_EQ(read_file(last), before);
    ASSERT_TRUE(set_read_only(false));
    EXPECT_EQ(temporaries(out), 0u);
    EXPECT_EQ(run("train", going_on(out)).status, 0);
}

TEST(Disk, ResultsThatDoNotReachStandardOutputAreNoSuccess) {
    const TemporaryFolder folder;
    const std::string out = folder / "run";
    const ProcessResult result = run_limited("exec >/dev/full", "train", training(out));
    EXPECT_EQ(result.status, 1);
    EXPECT_THAT(lines(result.err).back(), HasSubstr("train: cannot write to standard output"));
}

}  // namespace
}  // namespace bitloom
