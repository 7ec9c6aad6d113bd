// SIGKILL at random moments of saving: what is at the path is always a whole checkpoint, and never older than the last
// one whose saving had come to its end.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <thread>

#include "engine/io/checkpoint.h"
#include "tests/engine/io/temporary_folder.h"
#include "tests/kills.h"

namespace bitloom {
namespace {

/// Some 400 kB that all tell their generation.
Checkpoint generation(std::int64_t number) {
    Checkpoint c;
    c.model = R"({"name": "resnet20"})";
    for (int i = 0; i < 20; ++i)
        c.parameters.emplace_back(cat("layer", i, ".weight"), Tensor::full({5000}, static_cast<double>(number)));
    c.integers["trainer.step"] = number;
    return c;
}

/// Throws Error where the file is no checkpoint; fails the test where it is a mixture of several.
std::int64_t generation_of(const std::string& path) {
    const Checkpoint c = load_checkpoint(path);
    const std::int64_t number = c.integers.at("trainer.step");
    EXPECT_EQ(c.parameters.size(), 20u);
    for (const auto& [name, tensor] : c.parameters)
        for (const float value : tensor.values<float>())
            if (value != static_cast<float>(number)) {
                ADD_FAILURE() << name << " is of generation " << value << ", not " << number;
                return number;
            }
    return number;
}

/// Saves one generation after the other and says through the pipe which one is complete.
[[noreturn]] void save_for_ever(const std::string& path, int pipe, std::int64_t number) {
    for (;; ++number) {
        save_checkpoint(path, generation(number));
        if (::write(pipe, &number, sizeof number) != sizeof number) ::_exit(1);
    }
}

TEST(Kill, SavingKilledAtRandomMomentsLosesNothing) {
    const int rounds = kill_rounds(20);
    TemporaryFolder folder;
    const std::string path = folder.file("last.h5"), other = folder.file("best.h5");
    save_checkpoint(path, generation(0));
    // Moments within the first ten savings or so, however slow the build and the machine; a machine that has become slower
    // since gets longer.
    const auto began = std::chrono::steady_clock::now();
    save_checkpoint(other, generation(7));
    const auto saving = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began);
    std::int64_t latest = std::max<std::int64_t>(10 * saving.count(), 30000);
    std::mt19937 random(11);
    int in_the_act = 0, unreadable = 0, lost = 0;
    std::int64_t complete = 0;
    int round = 0;
    for (; round < rounds || (round < 10 * rounds && (in_the_act == 0 || complete == 0)); ++round) {
        int ends[2];
        ASSERT_EQ(::pipe(ends), 0);
        const pid_t child = ::fork();
        if (child == 0) save_for_ever(path, ends[1], complete + 1);
        ::close(ends[1]);
        std::this_thread::sleep_for(std::chrono::microseconds(1000 + static_cast<std::int64_t>(random()) % latest));
        ::kill(child, SIGKILL);
        ::waitpid(child, nullptr, 0);
        for (std::int64_t number = 0; ::read(ends[0], &number, sizeof number) == sizeof number;) complete = number;
        ::close(ends[0]);
        for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
            in_the_act += entry.path().filename().string().find(".tmp-") != std::string::npos;
        try {
            const std::int64_t found = generation_of(path);
            lost += found < complete;
            complete = std::max(complete, found);
        } catch (const Error& error) {
            ADD_FAILURE() << error.what();
            ++unreadable;
        }
        EXPECT_EQ(generation_of(other), 7);
        if (complete == 0) latest *= 2;
        if (std::filesystem::exists(cat(path, ".tmp-", child))) save_checkpoint(path, generation(complete));
        EXPECT_EQ(folder.entries(), 2u) << "what the killed one left behind is still there after the next saving";
    }
    std::cout << round << " kills, " << in_the_act << " of them while a file was being written: " << unreadable
              << " unreadable, " << lost << " lost; " << complete << " checkpoints saved\n";
    EXPECT_EQ(lost, 0);
    EXPECT_GT(in_the_act, 0) << "no kill met the writing of a file";
    EXPECT_GT(complete, 0);
}

}  // namespace
}  // namespace bitloom
