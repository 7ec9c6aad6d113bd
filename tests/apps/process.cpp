#include "tests/apps/process.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>

#include "engine/error.h"
#include "engine/io/atomic_file.h"

extern char** environ;

namespace bitloom::test {
namespace {

std::string temporary_file() {
    std::string path = (std::filesystem::temp_directory_path() / "bitloom-apps-test-XXXXXX").string();
    const int file = mkstemp(path.data());
    require(file >= 0, "mkstemp ", path, ": ", std::strerror(errno));
    close(file);
    return path;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
    std::vector<char*> result;
    for (std::string& s : strings) result.push_back(s.data());
    result.push_back(nullptr);
    return result;
}

}  // namespace

std::string program_path(const std::string& program) { return std::string(BITLOOM_BIN_DIR) + "/" + program; }

Process::Process(const std::string& program, const std::vector<std::string>& arguments,
                 const std::vector<std::string>& environment)
    : out_path_(temporary_file()), err_path_(temporary_file()) {
    std::vector<std::string> argument_strings = {program.starts_with('/') ? program : program_path(program)};
    argument_strings.insert(argument_strings.end(), arguments.begin(), arguments.end());
    std::vector<std::string> environment_strings = environment;  // the first of two equal names is the one that counts
    for (char** entry = environ; *entry; ++entry) environment_strings.emplace_back(*entry);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, out_path_.c_str(), O_WRONLY | O_TRUNC, 0);
    posix_spawn_file_actions_addopen(&actions, 2, err_path_.c_str(), O_WRONLY | O_TRUNC, 0);
    const int error = posix_spawn(&child_, argument_strings[0].c_str(), &actions, nullptr,
                                  pointers(argument_strings).data(), pointers(environment_strings).data());
    posix_spawn_file_actions_destroy(&actions);
    require(error == 0, "cannot start ", argument_strings[0], ": ", std::strerror(error));
}

Process::~Process() {
    if (!ended_) {
        kill(SIGKILL);
        wait();
    }
    std::filesystem::remove(out_path_);
    std::filesystem::remove(err_path_);
}

void Process::kill(int signal) {
    if (!ended_) ::kill(child_, signal);
}

bool Process::running() {
    int status = 0;
    if (!ended_ && waitpid(child_, &status, WNOHANG) == child_) collect(status);
    return !ended_;
}

ProcessResult Process::wait() {
    int status = 0;
    while (!ended_)
        if (waitpid(child_, &status, 0) == child_) collect(status);
    return result_;
}

void Process::collect(int wait_status) {
    ended_ = true;
    if (WIFEXITED(wait_status)) result_.status = WEXITSTATUS(wait_status);
    if (WIFSIGNALED(wait_status)) result_.signal = WTERMSIG(wait_status);
    result_.out = read_file(out_path_);
    result_.err = read_file(err_path_);
}

ProcessResult run(const std::string& program, const std::vector<std::string>& arguments,
                  const std::vector<std::string>& environment) {
    return Process(program, arguments, environment).wait();
}

ProcessResult run_limited(const std::string& limits, const std::string& program,
                          const std::vector<std::string>& arguments) {
    std::vector<std::string> all{"-c", limits + R"( && exec "$0" "$@")", program_path(program)};
    all.insert(all.end(), arguments.begin(), arguments.end());
    return run("/bin/sh", all);
}

ProcessResult run_until_changed(const std::string& path, const std::string& program, const std::vector<std::string>& arguments) {
    const auto contents = [&] { return std::filesystem::exists(path) ? read_file(path) : std::string(); };
    const std::string before = contents();
    Process process(program, arguments);
    while (process.running() && contents() == before) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    process.kill(SIGKILL);
    return process.wait();
}

TemporaryFolder::TemporaryFolder() {
    path_ = (std::filesystem::temp_directory_path() / "bitloom-apps-test-XXXXXX").string();
    require(mkdtemp(path_.data()) != nullptr, "mkdtemp ", path_, ": ", std::strerror(errno));
}

TemporaryFolder::~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

void expect_refusal(const ProcessResult& result, int status, const std::vector<std::string>& says) {
    EXPECT_EQ(result.status, status) << result.err;
    EXPECT_EQ(result.out, "");
    const std::vector<std::string> said = lines(result.err);
    ASSERT_EQ(said.size(), status == 2 ? 2u : 1u) << result.err;
    for (const std::string& part : says) EXPECT_THAT(said[0], ::testing::HasSubstr(part));
}

void expect_refusal(const ProcessResult& result, int status, const std::string& says) {
    expect_refusal(result, status, std::vector<std::string>{says});
}

std::vector<std::string> tiny_kfold(const std::string& out_dir, const std::vector<std::string>& more) {
    std::vector<std::string> arguments{"--dataset=digits", "--train-size=400", "--test-size=100",
                                       "--folds=2",        "--epochs=2",       "--batchsize=50",
                                       "--threads=1",      "--jobs=2",         "--out-dir=" + out_dir};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
}

std::string models_folder() {
    const char* value = std::getenv("BITLOOM_MODELS");
    return value ? value : (std::filesystem::path(BITLOOM_SOURCE_DIR).parent_path() / "shared" / "models").string();
}

std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> result;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) result.push_back(line);
    return result;
}

}  // namespace bitloom::test
