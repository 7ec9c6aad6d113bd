#include "apps/common/gnuplot.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cerrno>
#include <filesystem>
#include <iostream>

#include "engine/io/atomic_file.h"

extern char** environ;

namespace bitloom {
namespace {

// Exit status of gnuplot run in `folder` with its messages in a file there; -1 where it cannot be started.
int start_gnuplot(const std::string& folder, std::string script, const std::string& log) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, folder.c_str());
    posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    std::string program = "gnuplot";
    char* arguments[] = {program.data(), script.data(), nullptr};
    pid_t child = 0;
    const int error = posix_spawnp(&child, "gnuplot", &actions, nullptr, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) return -1;
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace

bool run_gnuplot(const std::string& folder, const std::string& name, const std::string& script, const std::string& what) {
    write_file_atomically(folder + "/" + name + ".gp", script);
    const std::string log = folder + "/" + name + ".log";
    const int status = start_gnuplot(folder, name + ".gp", name + ".log");
    if (status == 0) {
        std::filesystem::remove(log);
        return true;
    }
    if (status == -1 || status == 127)  // 127: what glibc's spawn reports through the child where exec fails
        std::cerr << "gnuplot not found: no " << what << " (later: gnuplot " << name << ".gp in " << folder << ")\n";
    else
        std::cerr << "gnuplot failed: no " << what << "; its messages are in " << log << "\n";
    return false;
}

}  // namespace bitloom
