#pragma once
// Runs the built programs as a user does: as processes.

#include <sys/types.h>

#include <string>
#include <vector>

namespace bitloom::test {

struct ProcessResult {
    int status = -1;  ///< exit status; -1 where a signal ended the process
    int signal = 0;
    std::string out, err;
};

/// A running program of the build's bin folder; its output goes to files, so that it never blocks on a pipe.
class Process {
   public:
    /// Starts `program` (a name in the bin folder, or an absolute path) with `arguments`. `environment` ("NAME=value") is added to this
    /// process'.
    Process(const std::string& program, const std::vector<std::string>& arguments,
            const std::vector<std::string>& environment = {});
    ~Process();
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    void kill(int signal);
    bool running();
    ProcessResult wait();

   private:
    void collect(int wait_status);
    pid_t child_ = -1;
    bool ended_ = false;
    std::string out_path_, err_path_;
    ProcessResult result_;
};

/// Runs to the end.
ProcessResult run(const std::string& program, const std::vector<std::string>& arguments,
                  const std::vector<std::string>& environment = {});

/// The same behind `limits`, a command of the shell: "ulimit -f 100".
ProcessResult run_limited(const std::string& limits, const std::string& program,
                          const std::vector<std::string>& arguments);

/// Runs a program until it has changed the file at `path`, and then kills it; what it came to where it ended before.
ProcessResult run_until_changed(const std::string& path, const std::string& program, const std::vector<std::string>& arguments);

/// Path of a program in the build's bin folder.
std::string program_path(const std::string& program);

/// An empty folder of the running test, removed with its content at the end of the scope.
class TemporaryFolder {
   public:
    TemporaryFolder();
    ~TemporaryFolder();
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const std::string& path() const { return path_; }
    std::string operator/(const std::string& name) const { return path_ + "/" + name; }

   private:
    std::string path_;
};

/// Lines of a text, without the empty last one.
std::vector<std::string> lines(const std::string& text);

/// Expects a refusal: this status, nothing on stdout, and on stderr one line that holds each of `says` (after wrong usage, status
/// 2, a second one that points to the help).
void expect_refusal(const ProcessResult& result, int status, const std::vector<std::string>& says);
void expect_refusal(const ProcessResult& result, int status, const std::string& says);

/// Arguments of the smallest svhn_kfold: two folds of two epochs on a few hundred digits.
std::vector<std::string> tiny_kfold(const std::string& out_dir, const std::vector<std::string>& more = {});

/// Folder of trained networks; tests that miss theirs are skipped in words.
std::string models_folder();

}  // namespace bitloom::test
