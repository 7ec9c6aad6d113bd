// Signals, memory, processors: what the system grants.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>

#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "tests/apps/process.h"
#include "tests/sanitizers.h"

namespace bitloom {
namespace {

using test::lines;
using test::Process;
using test::ProcessResult;
using test::run;
using test::run_limited;
using test::TemporaryFolder;
using ::testing::AnyOf;
using ::testing::HasSubstr;
using Json = nlohmann::json;

std::vector<std::string> training(const std::string& out_dir, const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments{"--dataset=digits-grey", "--model=lenet5",  "--train-size=100",
                                       "--test-size=50",        "--batch-size=50", "--out-dir=" + out_dir};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

TEST(Limits, InterruptsOfTrainSaveAndEndWithStatus130) {
    for (const int signal : {SIGINT, SIGTERM}) {
        const TemporaryFolder folder;
        const std::string out = folder / "run", last = out + "/last.h5";
        Process process("train", training(out, {"--epochs=100000", "--threads=1"}));
        while (process.running() && !std::filesystem::exists(last))
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        process.kill(signal);
        const ProcessResult result = process.wait();
        EXPECT_EQ(result.status, 130) << result.err;
        EXPECT_EQ(result.out, "");
        EXPECT_THAT(lines(result.err).back(), HasSubstr("train: interrupted; continue with --resume"));
        const std::int64_t epoch = load_checkpoint(last).integers.at("trainer.epoch");
        const ProcessResult rest =
            run("train", {"--resume", "--epochs=" + std::to_string(epoch + 1), "--out-dir=" + out});
        EXPECT_EQ(rest.status, 0) << rest.err;
        EXPECT_EQ(load_checkpoint(last).integers.at("trainer.epoch"), epoch + 1);
    }
}

TEST(Limits, AFolderBelongsToOneRunAtATime) {
    const std::vector<std::string> digits{"--dataset=digits", "--train-size=64", "--test-size=20", "--threads=1"};
    struct Case {
        std::string program, begun;  // what is there when it holds the folder
        std::vector<std::string> arguments;
    };
    for (const auto& [program, begun, arguments] :
         {Case{"train", "last.h5", {"--model=svhn_cnn"}}, Case{"svhn_kfold", "full_0/last.h5", {"--folds=2", "--single"}},
          Case{"svhn_tune", "search.json", {"--max-trials=1", "--most-layers=1", "--early-stop=0"}},
          Case{"bsq_train", "last.h5", {"--arch=svhn_cnn"}}}) {
        const TemporaryFolder folder;
        std::vector<std::string> all = digits;
        all.insert(all.end(), arguments.begin(), arguments.end());
        all.push_back("--out-dir=" + (folder / "run"));
        std::vector<std::string> endless = all;
        endless.push_back("--epochs=1000000");
        Process first(program, endless);
        while (first.running() && !std::filesystem::exists(folder / "run/" + begun))
            std::this_thread::sleep_for(std::chrono::milliseconds(2));
        all.push_back("--epochs=1");
        const ProcessResult second = run(program, all);
        EXPECT_EQ(second.status, 1) << program;
        ASSERT_EQ(lines(second.err).size(), 1u) << second.err;
        EXPECT_THAT(second.err, HasSubstr("is in use by another run"));
        EXPECT_TRUE(first.running()) << program;
        EXPECT_TRUE(std::filesystem::exists(folder / "run/" + begun)) << program;
        first.kill(SIGKILL);
        first.wait();
        const ProcessResult third = run(program, all);
        EXPECT_EQ(third.status, 0) << third.err;
    }
}

/// Restores the processors of this thread, which programs started from it inherit.
class Affinity {
   public:
    Affinity() { sched_getaffinity(0, sizeof before_, &before_); }
    ~Affinity() { sched_setaffinity(0, sizeof before_, &before_); }
    int processors() const { return CPU_COUNT(&before_); }
    /// The first `count` of them.
    bool narrow(int count) const {
        cpu_set_t set;
        CPU_ZERO(&set);
        for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&set) < count; ++cpu)
            if (CPU_ISSET(cpu, &before_)) CPU_SET(cpu, &set);
        return sched_setaffinity(0, sizeof set, &set) == 0;
    }

   private:
    cpu_set_t before_{};
};

TEST(Limits, ThreadsAreTheProcessorsGranted) {
    const Affinity affinity;
    for (int count = 1; count <= std::min(affinity.processors(), 2); ++count) {
        const TemporaryFolder folder;
        ASSERT_TRUE(affinity.narrow(count));
        ASSERT_EQ(run("train", training(folder / "train", {"--epochs=1"})).status, 0);
        const int threads = Json::parse(read_file(folder / "train/run.json")).at("threads");
        EXPECT_LE(threads, count);  // fewer where the control group grants fewer
        EXPECT_GE(threads, 1);
        if (count == 1) {
            const ProcessResult folds =
                run("svhn_kfold", {"--dataset=digits", "--train-size=100", "--test-size=50", "--folds=2", "--single",
                                   "--epochs=1", "--batchsize=50", "--out-dir=" + (folder / "folds")});
            ASSERT_EQ(folds.status, 0) << folds.err;
            EXPECT_EQ(Json::parse(read_file(folder / "folds/run.json")).at("threads"), 1);
        }
    }
}

TEST(Limits, TooLittleMemoryIsOneLine) {
#if BITLOOM_SANITIZED
    GTEST_SKIP() << "the sanitizer's own memory exceeds every limit";
#endif
    const TemporaryFolder folder;
    int refused = 0;
    for (int megabytes = 150; megabytes <= 550; megabytes += 50) {
        const std::string out = folder / std::to_string(megabytes);
        const ProcessResult result =
            run_limited("ulimit -v " + std::to_string(megabytes << 10), "train",
                        training(out, {"--train-size=2000", "--batch-size=2000", "--epochs=1", "--threads=1"}));
        EXPECT_EQ(result.signal, 0) << megabytes << " MB: " << result.err;
        if (result.status == 0) continue;
        ++refused;
        EXPECT_THAT(result.status, AnyOf(1, 127))
            << megabytes << " MB: " << result.err;  // 127: the libraries do not fit
        std::vector<std::string> said = lines(result.err);
        std::erase_if(said, [](const std::string& line) { return line.starts_with("epoch "); });
        EXPECT_EQ(said.size(), 1u) << megabytes << " MB: " << result.err;
    }
    EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace bitloom
