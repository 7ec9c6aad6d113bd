// A run that is killed at any moment and resumed ends in the same bits as one that was left alone.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <functional>
#include <thread>

#include "engine/io/atomic_file.h"
#include "engine/io/checkpoint.h"
#include "engine/random.h"
#include "ops/cpu/onednn.h"
#include "tests/apps/process.h"
#include "tests/kills.h"

namespace bitloom {
namespace {

using test::lines;
using test::Process;
using test::ProcessResult;
using test::run;
using test::TemporaryFolder;
using Clock = std::chrono::steady_clock;

void expect_equal_tensors(const std::vector<std::pair<std::string, Tensor>>& a,
                          const std::vector<std::pair<std::string, Tensor>>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); ++i) {
        ASSERT_EQ(a[i].first, b[i].first);
        ASSERT_EQ(a[i].second.bytes(), b[i].second.bytes()) << a[i].first;
        EXPECT_EQ(std::memcmp(a[i].second.raw(), b[i].second.raw(), a[i].second.bytes()), 0) << a[i].first;
    }
}

/// All but the settings: these name the folder.
void expect_equal_checkpoints(const std::string& path_a, const std::string& path_b) {
    const Checkpoint a = load_checkpoint(path_a), b = load_checkpoint(path_b);
    EXPECT_FALSE(a.parameters.empty());
    expect_equal_tensors(a.parameters, b.parameters);
    expect_equal_tensors(a.buffers, b.buffers);
    expect_equal_tensors(a.optimizer, b.optimizer);
    EXPECT_EQ(a.integers, b.integers);
    EXPECT_EQ(a.strings, b.strings);
    ASSERT_EQ(a.doubles.size(), b.doubles.size());
    for (const auto& [name, values] : a.doubles) {
        const std::vector<double>& others = b.doubles.at(name);
        ASSERT_EQ(values.size(), others.size()) << name;
        // Bit for bit: a missing validation value is NaN in both.
        EXPECT_EQ(std::memcmp(values.data(), others.data(), values.size() * sizeof(double)), 0) << name;
    }
}

using FileTime = std::filesystem::file_time_type;

/// When a checkpoint was written, or the newest last.h5 in the folders of a folder; the earliest time where there is none.
FileTime last_change(const std::string& path) {
    std::error_code none;
    FileTime newest = FileTime::min();
    const auto look_at = [&](const std::filesystem::path& file) {
        const FileTime time = std::filesystem::last_write_time(file, none);
        if (!none) newest = std::max(newest, time);
    };
    if (!std::filesystem::is_directory(path, none)) {
        look_at(path);
        return newest;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path, none)) look_at(entry.path() / "last.h5");
    return newest;
}

/// Waits until `path` has changed since `before`, or the process has ended.
void wait_for_change(Process& process, const std::string& path, FileTime before) {
    while (process.running() && last_change(path) == before) std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

/// A run that is to be killed.
struct Victim {
    std::string program;
    std::vector<std::string> arguments;
    std::string checkpoint;        ///< what its progress is seen by
    std::function<void()> forget;  ///< leaves the folder as it was before the run
};

/// Starts a program again and again, each time killed at a random moment after it has made progress; then lets it
/// finish. Returns how many times it was killed before its end. `longest_ms` suits a machine that is as fast as when it
/// was measured; where the run ends before half of the kills, another begins and is killed earlier.
int run_with_kills(const Victim& victim, int kills, double longest_ms, std::uint64_t seed, ProcessResult& last) {
    Rng rng(seed, "kills");
    std::vector<std::string> resuming = victim.arguments;
    resuming.push_back("--resume");
    int killed = 0;
    for (int attempt = 0; attempt < 20; ++attempt, longest_ms /= 4) {
        victim.forget();
        bool over = false;
        killed = 0;
        while (killed < kills && !over) {
            const FileTime before = last_change(victim.checkpoint);
            Process process(victim.program, killed == 0 ? victim.arguments : resuming);
            wait_for_change(process, victim.checkpoint, before);
            std::this_thread::sleep_for(std::chrono::duration<double, std::milli>(rng.uniform(0, longest_ms)));
            process.kill(SIGKILL);
            last = process.wait();
            over = last.signal != SIGKILL;
            killed += !over;
        }
        if (over && last.status != 0) return killed;
        if (killed >= (kills + 1) / 2) break;
    }
    last = run(victim.program, resuming);
    return killed;
}

const int kills = kill_rounds(5);

TEST(Resume, DeterministicRunsMayGoOnWithAnotherNumberOfThreads) {
    const TemporaryFolder folder;
    const auto train = [&](const std::string& name, std::vector<std::string> more) {
        std::vector<std::string> arguments{"--dataset=digits", "--model=svhn_cnn",
                                           "--train-size=640", "--test-size=100",
                                           "--epochs=2",       "--batch-size=64",
                                           "--optimizer=sgd",  "--lr=0.05",
                                           "--augment=crop2",  "--out-dir=" + (folder / name)};
        arguments.insert(arguments.end(), more.begin(), more.end());
        return run("train", arguments);
    };
    ASSERT_EQ(train("one", {"--deterministic", "--threads=1"}).status, 0);
    ASSERT_EQ(train("two", {"--deterministic", "--threads=2"}).status, 0);
    expect_equal_checkpoints(folder / "one/last.h5", folder / "two/last.h5");

    ASSERT_EQ(train("mixed", {"--deterministic", "--threads=2", "--max-steps=13"}).status, 0);
    const ProcessResult resumed =
        run("train", {"--resume", "--out-dir=" + (folder / "mixed"), "--threads=1", "--max-steps=0"});
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    expect_equal_checkpoints(folder / "one/last.h5", folder / "mixed/last.h5");

    ASSERT_EQ(train("plain", {"--threads=2", "--max-steps=3"}).status, 0);
    const ProcessResult refused = run("train", {"--resume", "--out-dir=" + (folder / "plain"), "--threads=1"});
    EXPECT_EQ(refused.status, 2);
    EXPECT_THAT(refused.err, testing::HasSubstr("has --threads=2, not 1"));
}

class ResumeTraining : public testing::TestWithParam<const char*> {};

TEST_P(ResumeTraining, KilledAtRandomMomentsEndsInTheSameBits) {
    const std::string precision = GetParam();
    if (precision == "bf16" && !ops::cpu::onednn::multiplies_bf16()) GTEST_SKIP() << "this CPU has no bf16 products";
    const TemporaryFolder folder;
    const auto arguments = [&](const std::string& name) {
        return std::vector<std::string>{"--dataset=digits",
                                        "--model=svhn_cnn",
                                        "--precision=" + precision,
                                        "--train-size=1200",
                                        "--test-size=200",
                                        "--epochs=8",
                                        "--batch-size=32",
                                        "--optimizer=sgd",
                                        "--lr=0.05",
                                        "--augment=crop2,shift0.1",
                                        "--schedule=cosine",
                                        "--threads=1",
                                        "--checkpoint-every-steps=7",
                                        "--out-dir=" + (folder / name)};
    };
    const Clock::time_point begin = Clock::now();
    const ProcessResult whole = run("train", arguments("whole"));
    ASSERT_EQ(whole.status, 0) << whole.err;
    const double milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();

    ProcessResult last;
    const int killed = run_with_kills({"train", arguments("killed"), folder / "killed/last.h5",
                                       [&] { std::filesystem::remove_all(folder / "killed"); }},
                                      kills, milliseconds / (3 * kills), 7, last);
    ASSERT_EQ(last.status, 0) << last.err;
    std::cout << killed << " of " << kills << " kills came before the end\n";
    EXPECT_GE(killed, (kills + 1) / 2) << "too few of the kills came before the end to show anything";
    expect_equal_checkpoints(folder / "whole/last.h5", folder / "killed/last.h5");
    expect_equal_checkpoints(folder / "whole/best.h5", folder / "killed/best.h5");
    EXPECT_EQ(read_file(folder / "whole/history.csv"), read_file(folder / "killed/history.csv"));
    EXPECT_EQ(read_file(folder / "whole/summary.json"), read_file(folder / "killed/summary.json"));
}

INSTANTIATE_TEST_SUITE_P(Precisions, ResumeTraining, testing::Values("fp32", "bf16"),
                         [](const auto& info) { return std::string(info.param); });

TEST(Resume, KfoldKilledAtRandomMomentsEndsInTheSameBits) {
    const TemporaryFolder folder;
    const auto arguments = [&](const std::string& name) {
        return std::vector<std::string>{"--dataset=digits",
                                        "--train-size=1200",
                                        "--test-size=200",
                                        "--folds=2",
                                        "--epochs=6",
                                        "--batchsize=32",
                                        "--threads=1",
                                        "--jobs=2",
                                        "--checkpoint-every-steps=5",
                                        "--out-dir=" + (folder / name)};
    };
    const Clock::time_point begin = Clock::now();
    const ProcessResult whole = run("svhn_kfold", arguments("whole"));
    ASSERT_EQ(whole.status, 0) << whole.err;
    const double milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();

    ProcessResult last;
    const int killed = run_with_kills({"svhn_kfold", arguments("killed"), folder / "killed/full_0/last.h5",
                                       [&] { std::filesystem::remove_all(folder / "killed"); }},
                                      kills, milliseconds / (3 * kills), 11, last);
    ASSERT_EQ(last.status, 0) << last.err;
    std::cout << killed << " of " << kills << " kills came before the end\n";
    EXPECT_GE(killed, (kills + 1) / 2) << "too few of the kills came before the end to show anything";
    for (const std::string fold : {"full_0", "full_1"}) {
        expect_equal_checkpoints(folder / ("whole/" + fold + "/last.h5"), folder / ("killed/" + fold + "/last.h5"));
        EXPECT_EQ(read_file(folder / ("whole/" + fold + "/history_dict.csv")),
                  read_file(folder / ("killed/" + fold + "/history_dict.csv")));
        EXPECT_EQ(read_file(folder / ("whole/" + fold + "/scores.json")),
                  read_file(folder / ("killed/" + fold + "/scores.json")));
    }
    EXPECT_EQ(read_file(folder / "whole/summary.json"), read_file(folder / "killed/summary.json"));
}

// The width scan is a chain: what is killed at one width must hand the same weights over to all narrower ones; the pruned
// scan goes through masks and their schedule as well.
TEST(Resume, ScansKilledAtRandomMomentsEndInTheSameBits) {
    const int scan_kills = kill_rounds(3);
    const TemporaryFolder folder;
    const auto arguments = [&](const std::string& name, const std::vector<std::string>& more) {
        std::vector<std::string> all{"--dataset=digits",
                                     "--train-size=600",
                                     "--test-size=100",
                                     "--folds=2",
                                     "--epochs=3",
                                     "--batchsize=32",
                                     "--widths=6,2,1",
                                     "--threads=1",
                                     "--jobs=2",
                                     "--checkpoint-every-steps=4",
                                     "--out-dir=" + (folder / name)};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    };
    ASSERT_EQ(run("svhn_kfold", arguments("whole", {})).status, 0);
    std::filesystem::copy(folder / "whole", folder / "killed", std::filesystem::copy_options::recursive);
    for (const std::string stage : {"quant", "pruned_quant"}) {
        const std::vector<std::string> more = stage == "quant" ? std::vector<std::string>{"--quantize"}
                                                               : std::vector<std::string>{"--quantize", "--prune"};
        const Clock::time_point begin = Clock::now();
        const ProcessResult whole = run("svhn_kfold", arguments("whole", more));
        ASSERT_EQ(whole.status, 0) << whole.err;
        const double milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
        ProcessResult last;
        const std::string before = folder / ("before_" + stage);
        std::filesystem::copy(folder / "killed", before, std::filesystem::copy_options::recursive);
        const auto forget = [&] {
            std::filesystem::remove_all(folder / "killed");
            std::filesystem::copy(before, folder / "killed", std::filesystem::copy_options::recursive);
        };
        const int killed = run_with_kills({"svhn_kfold", arguments("killed", more), folder / "killed", forget}, scan_kills,
                                          milliseconds / (3 * scan_kills), 17, last);
        ASSERT_EQ(last.status, 0) << last.err;
        std::cout << killed << " of " << scan_kills << " kills came before the end of " << stage << "\n";
        EXPECT_GE(killed, (scan_kills + 1) / 2) << "too few of the kills came before the end to show anything";
        for (const std::string width : {"6", "2", "1"})
            for (const std::string fold : {"0", "1"}) {
                const std::string name = stage + "_" + width + "bit_" + fold;
                expect_equal_checkpoints(folder / ("whole/" + name + "/last.h5"), folder / ("killed/" + name + "/last.h5"));
                for (const char* file : {"history_dict.csv", "scores.json", "compression.json"})
                    EXPECT_EQ(read_file(folder / ("whole/" + name + "/" + file)),
                              read_file(folder / ("killed/" + name + "/" + file)));
            }
        EXPECT_EQ(read_file(folder / ("whole/summaries/" + stage + "/folds.csv")),
                  read_file(folder / ("killed/summaries/" + stage + "/folds.csv")));
    }
}

// Fold 1 of an earlier run must not count as done when a new run was cut in fold 0.
TEST(Resume, ANewRunForgetsTheOneBeforeAtOnce) {
    const TemporaryFolder folder;
    const std::vector<std::string> arguments{"--dataset=digits", "--train-size=300", "--test-size=50", "--folds=2",
                                             "--epochs=1",       "--batchsize=32",   "--threads=1",    "--jobs=1",
                                             "--out-dir=" + folder.path()};
    ASSERT_EQ(run("svhn_kfold", arguments).status, 0);
    ASSERT_TRUE(std::filesystem::exists(folder / "full_1/scores.json"));
    std::vector<std::string> longer = arguments;
    longer.push_back("--epochs=1000000");
    const FileTime before = last_change(folder / "full_0/last.h5");
    Process process("svhn_kfold", longer);
    while (process.running() && (last_change(folder / "full_0/last.h5") == before ||
                                 last_change(folder / "full_0/last.h5") == FileTime::min()))
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process.kill(SIGKILL);
    EXPECT_EQ(process.wait().signal, SIGKILL);
    EXPECT_FALSE(std::filesystem::exists(folder / "full_1/scores.json"));
    EXPECT_FALSE(std::filesystem::exists(folder / "full_1/last.h5"));
}

TEST(Resume, InterruptSavesAndEndsWithStatus130) {
    const TemporaryFolder folder;
    const std::string out = folder / "run", checkpoint = out + "/full_0/last.h5";
    const std::vector<std::string> arguments{"--dataset=digits", "--train-size=1000", "--test-size=200", "--folds=2",
                                             "--single",         "--epochs=1000000",  "--batchsize=32",  "--threads=1",
                                             "--lr=1e-6",        "--out-dir=" + out};
    Process process("svhn_kfold", arguments);
    wait_for_change(process, checkpoint, FileTime::min());
    process.kill(SIGINT);
    const ProcessResult result = process.wait();
    EXPECT_EQ(result.status, 130) << result.err;
    EXPECT_THAT(result.err, ::testing::HasSubstr("--resume"));
    EXPECT_EQ(result.out, "");
    EXPECT_FALSE(std::filesystem::exists(out + "/full_0/scores.json"));
    const std::int64_t steps = load_checkpoint(checkpoint).integers.at("trainer.step");
    EXPECT_GT(steps, 0);
    // Two epochs more than the interrupted ones would be many: as long as it goes on from there, ends and counts on.
    const std::int64_t epochs = load_checkpoint(checkpoint).integers.at("trainer.epoch") + 1;
    const ProcessResult rest =
        run("svhn_kfold", {"--resume", "--out-dir=" + out, "--epochs=" + std::to_string(epochs)});
    ASSERT_EQ(rest.status, 0) << rest.err;
    EXPECT_GT(load_checkpoint(checkpoint).integers.at("trainer.step"), steps);
    EXPECT_EQ(lines(read_file(out + "/full_0/history_dict.csv")).size(), static_cast<std::size_t>(epochs) + 1);
}

}  // namespace
}  // namespace bitloom
